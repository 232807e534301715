"""An OpenAI-compatible server that misbehaves to order: real HTTP, on a thread of its own."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What the server does with a request: waits, then drops it or answers."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    slow: float = 0.0  # seconds, or until the server stops


def said(text: str | None, finish: str = "stop", **usage: Any) -> Answer:
    """A proper chat completion."""
    usage = {"prompt_tokens": 100, "completion_tokens": 10, **usage}
    message = {"role": "assistant", "content": text}
    body = {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}
    return Answer(body=json.dumps(body).encode())


Script = Callable[[int, dict[str, Any]], Answer]
"""(number of the request, from 0; its body) -> what to do."""


class ScriptedServer:
    """Serves what ``script`` says on a port of loopback. Remembers requests: their bodies, headers
    and moments (``time.monotonic``), and the most that were under way at once."""

    def __init__(self, script: Script, port: int = 0) -> None:
        self.script = script
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        with socket.create_server(("127.0.0.1", port)) as free:
            self.port = free.getsockname()[1]
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Begins, or begins again on the same port."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                with outer._lock:
                    number = len(outer.bodies)
                    outer.bodies.append(json.loads(raw))
                    outer.headers.append(dict(self.headers))
                    outer.times.append(time.monotonic())
                    outer._now += 1
                    outer.most = max(outer.most, outer._now)
                try:
                    self.answer(outer.script(number, outer.bodies[number]))
                finally:
                    with outer._lock:
                        outer._now -= 1

            def answer(self, answer: Answer) -> None:
                if answer.slow:
                    outer._over.wait(answer.slow)
                if answer.drop or outer._over.is_set():
                    self.close_connection = True
                    with contextlib.suppress(OSError):
                        self.connection.shutdown(socket.SHUT_RDWR)
                    return
                with contextlib.suppress(OSError):  # the client may have given up
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)

            def log_message(self, *_: Any) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: Any) -> None: ...

        self._over.clear()
        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Ends it as a kill would: connections break, and nobody listens any more."""
        self._over.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@contextlib.contextmanager
def scripted(script: Script) -> Iterator[ScriptedServer]:
    server = ScriptedServer(script)
    server.start()
    try:
        yield server
    finally:
        server.stop()
