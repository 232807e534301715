"""Drills on language models as teachers: one that answers too late, one that answers nonsense.

The model is a server on this machine with the OpenAI protocol, so that requests, deadlines,
retries and parsing are the real ones. It reviews every turn as correct, but misbehaves for one
task.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from step_ray import store
from step_ray.drills.lab import DrillFailed, Lab
from step_ray.drills.settings import STUCK

GARBAGE = "<|im_start|>assistant ]]}} is_error: perhaps\nObservation: You win!"
_FINE = json.dumps({"assessment": "I see no error.", "is_error": False, "kind": ""})

Answer = Callable[[str], str]
"""The text of a request's chat -> what the model says; may wait."""


def slow_teacher(lab: Lab) -> str:
    with _over() as over:
        return _misbehaving(lab, "slow-teacher", lambda: _late(over))


def garbage_teacher(lab: Lab) -> str:
    return _misbehaving(lab, "garbage-teacher", lambda: GARBAGE)


def _misbehaving(lab: Lab, name: str, say: Callable[[], str]) -> str:
    first = next(iter(store.read_rows(lab.quiet(), ["task", "initial_observation"])))
    mark = _plain(first["initial_observation"])
    asked = 0

    def answer(chat: str) -> str:
        nonlocal asked
        if mark not in _plain(chat):
            return _FINE
        asked += 1
        return say()

    with _serving(answer) as url:
        run = lab.scratch(name, _teacher(url))
        run.finish()
    if not asked:
        raise DrillFailed("the model was never asked about the task it misbehaves for")
    hit: list[str] = []
    spared: list[str] = []
    for row in run.rows().values():
        (hit if _plain(row["initial_observation"]) == mark else spared).append(row["outcome"])
    if set(hit) != {"teacher_error"} or "teacher_error" in spared:
        raise DrillFailed(f"outcomes with the fault {hit}, without {spared}")
    return f"{len(hit)} ended as teacher_error (asked {asked} times), {len(spared)} as they should"


def _teacher(url: str) -> dict[str, Any]:
    model = {
        "backend": "remote", "base_url": url, "model": "drill",
        "timeout": 10 * STUCK, "deadline": STUCK, "concurrency": 64,
    }  # fmt: skip
    return {"type": "llm", "model": model, "constrain": False, "cache": False}


@contextlib.contextmanager
def _over() -> Iterator[threading.Event]:
    """Set when a drill is over, so that nobody waits any longer."""
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()


def _late(over: threading.Event) -> str:
    over.wait()
    return _FINE


def _plain(text: str) -> str:
    return " ".join(text.split())


@contextlib.contextmanager
def _serving(answer: Answer) -> Iterator[str]:
    """A server for as long as the block runs; gives its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = answer("\n".join(message["content"] for message in body["messages"]))
            message = {"role": "assistant", "content": said}
            reply = {
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1},
            }
            content = json.dumps(reply).encode()
            with contextlib.suppress(OSError):  # who waited has gone
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, name="drill-teacher", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
