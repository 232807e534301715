"""A local file server that misbehaves as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Files:
    """What is served. ``breaks``: bytes after which each of the next answers is cut off.
    ``seen``: (path, Range) of every request. ``ranges``: whether it can resume. ``version``: its
    name of what is there, "" for a server that has none."""

    content: dict[str, bytes]
    breaks: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    version: str = '"1"'
    seen: list[tuple[str, str]] = field(default_factory=list)
    address: str = ""


@contextmanager
def serving(files: Files) -> Iterator[Files]:
    """Serves ``files`` at ``files.address`` meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            files.seen.append((self.path, self.headers.get("Range", "")))
            body = files.content.get(self.path.lstrip("/"))
            if body is None or files.statuses:
                self.send_error(files.statuses.pop(0) if files.statuses else 404)
                return
            start, wanted = 0, self.headers.get("Range", "")
            same = self.headers.get("If-Range", files.version) == files.version
            if wanted and files.ranges and same:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            if files.version:
                self.send_header("ETag", files.version)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            end = start + files.breaks.pop(0) if files.breaks else len(body)
            self.wfile.write(body[start:end])

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    files.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
