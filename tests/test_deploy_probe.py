"""Ready is who has answered: the probe of the teacher's pods against a real HTTP server."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROBE = Path(__file__).parents[1] / "deploy" / "probe.py"


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("probe", PROBE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("STEP_RAY_TOKEN", "secret")
    return module


class Server:
    """Answers as it is told and remembers what it was asked."""

    def __init__(self) -> None:
        self.reply: tuple[int, Any] = (200, {"choices": [{"message": {"content": "yes"}}]})
        self.health = 200
        self.asked: list[str] = []
        self.address = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            self.send_response(state.health)
            self.end_headers()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(f"{self.path} {body['model']} {self.headers['Authorization']}")
            status, reply = state.reply
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())

        def log_message(self, *_: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    state.address = f"http://127.0.0.1:{http.server_address[1]}"
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def test_ready_after_one_real_answer_and_healthy_from_then_on(
    probe: ModuleType, server: Server
) -> None:
    arguments = ["teacher", server.address]
    assert probe.main(arguments) == 0
    assert server.asked == ["/v1/chat/completions teacher Bearer secret"]
    assert probe.main(arguments) == 0
    assert server.asked[1:] == ["/-/healthz"]
    server.health = 503
    assert probe.main(arguments) == 1


@pytest.mark.parametrize(
    "reply",
    [(503, {}), (200, {}), (200, []), (200, {"choices": []}), (401, {}),
     (200, {"choices": [{"message": {"content": None}}]})],
)  # fmt: skip
def test_not_ready_without_an_answer(probe: ModuleType, server: Server, reply: Any) -> None:
    server.reply = reply
    assert probe.main(["teacher", server.address]) == 1
    assert probe.main(["teacher", server.address]) == 1
    assert len(server.asked) == 2
    assert "/-/healthz" not in server.asked


def test_not_ready_without_a_server(probe: ModuleType) -> None:
    assert probe.main(["teacher", "http://127.0.0.1:9"]) == 1
