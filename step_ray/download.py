"""A large file over HTTP, resumed where an earlier attempt broke off.

What has come so far stands in ``NAME.part``; ``NAME.part.json`` says of which version of which
address it is, so that two versions are never glued together. The file gets its name only when it
is whole.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from step_ray._version import __version__
from step_ray.files import explain, sha256_file, sync, write_json_atomic

_CHUNK = 1 << 20
_BROKEN = (OSError, http.client.HTTPException)


class DownloadError(RuntimeError):
    """A file could not be had whole; says from where, what happened and what to do."""


@dataclass(frozen=True, slots=True)
class Patience:
    """``stall``: seconds without a byte; ``attempts``: in a row that bring nothing; ``pause``:
    seconds before the second one, doubled each time; ``deadline``: seconds for the whole file."""

    stall: float = 60.0
    attempts: int = 5
    pause: float = 1.0
    deadline: float = 24 * 3600.0


def download(
    addresses: Sequence[str],
    target: Path,
    *,
    limit: int,
    check: Callable[[Path], None],
    sha256: str = "",
    patience: Patience | None = None,
    report: Callable[[int, int | None], None] = lambda done, total: None,
) -> str:
    """Fetches ``target`` from the first of ``addresses`` that gives it; returns its SHA-256.

    ``check`` looks at the whole file and raises ValueError if it is not what it should be; then,
    and if ``sha256`` is given and differs, the next address is tried. ``limit``: bytes it may have.
    ``report`` is told the bytes that are here, and of how many. A ``target`` that is there and
    passes is not fetched again. Raises :class:`DownloadError`.
    """
    problems = []
    for address in addresses:
        try:
            if not target.is_file():
                _Fetch(address, target, limit, patience or Patience(), report).run()
            return _verified(target, check, sha256)
        except DownloadError as error:
            problems.append(f"{address}: {error}")
        except OSError as error:
            raise DownloadError(explain(error, target)) from error
    raise DownloadError(
        f"{target.name} could not be fetched:\n  " + "\n  ".join(problems) + "\nthe same command "
        "goes on where this one ended; a copy elsewhere is named by --mirror"
    )


def _verified(target: Path, check: Callable[[Path], None], sha256: str) -> str:
    """The file's SHA-256; one that is wrong is removed, as nothing can be resumed from it."""
    found = sha256_file(target)
    problem = ""
    if sha256 and found != sha256.lower():
        problem = f"the SHA-256 is {found} and not {sha256.lower()}"
    else:
        try:
            check(target)
        except ValueError as error:
            problem = str(error)
    if problem:
        target.unlink()
        raise DownloadError(problem)
    return found


class _Fetch:
    """One file from one address."""

    def __init__(
        self,
        address: str,
        target: Path,
        limit: int,
        patience: Patience,
        report: Callable[[int, int | None], None],
    ) -> None:
        self.address, self.target, self.limit = address, target, limit
        self.patience, self.report = patience, report
        self.part = target.with_name(f"{target.name}.part")
        self.about = target.with_name(f"{target.name}.part.json")
        self.ends = time.monotonic() + patience.deadline
        if urlsplit(address).scheme not in ("http", "https"):
            raise DownloadError("not an http(s) address")

    def run(self) -> None:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        if self._known().get("address") != self.address:
            self._forget()
        idle, last = 0, "nothing came"
        while idle < self.patience.attempts:
            before = self._size()
            try:
                if self._attempt():
                    sync(self.part)
                    self.part.replace(self.target)
                    self.about.unlink(missing_ok=True)
                    sync(self.target.parent)
                    return
                last = "the connection ended early"
            except urllib.error.HTTPError as error:
                last = f"the server says {error.code} {error.reason}"
                if error.code == 416:  # what is here is not a beginning of what is there
                    self._forget()
                elif error.code < 500 and error.code not in (408, 425, 429):
                    raise DownloadError(last) from error
            except _BROKEN as error:
                if isinstance(error, OSError) and error.filename:  # the disk, not the network
                    raise
                last = f"{type(error).__name__}: {error}"
            if time.monotonic() > self.ends:
                raise DownloadError(f"not whole after {self.patience.deadline:.0f} s: {last}")
            idle = 0 if self._size() > before else idle + 1
            if idle < self.patience.attempts:
                time.sleep(self.patience.pause * 2 ** max(0, idle - 1))
        raise DownloadError(f"{last}, {idle} times in a row")

    def _attempt(self) -> bool:
        """Asks for what is missing; whether the file is whole now."""
        have, version = self._size(), self._known().get("version")
        headers = {"User-Agent": f"step-ray/{__version__}", "Accept-Encoding": "identity"}
        if have and not version:  # nothing would tell that the rest is of another version
            self._forget()
            have = 0
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": str(version)}
        request = urllib.request.Request(self.address, headers=headers)
        with urllib.request.urlopen(request, timeout=self.patience.stall) as answer:
            if self.address.startswith("https:") and not answer.url.startswith("https:"):
                raise DownloadError(f"redirected to an address that is not https ({answer.url})")
            resumed = answer.status == 206 and _starts_at(answer, have)
            if have and not resumed:
                self._forget()  # another version, or a server that cannot resume
                have = 0
            total = _total(answer, have)
            if total is not None and total > self.limit:
                raise DownloadError(f"{total:,} bytes are more than the {self.limit:,} expected")
            tag = answer.headers.get("ETag", "")
            version = tag if tag and not tag.startswith("W/") else answer.headers["Last-Modified"]
            write_json_atomic(self.about, {"address": self.address, "version": version})
            return self._take(answer, have, total)

    def _take(self, answer: http.client.HTTPResponse, have: int, total: int | None) -> bool:
        with self.part.open("ab") as file:
            while chunk := answer.read1(_CHUNK):
                have += len(chunk)
                if have > self.limit:
                    raise DownloadError(f"more than the {self.limit:,} bytes expected")
                file.write(chunk)
                self.report(have, total)
                if time.monotonic() > self.ends:
                    raise DownloadError(f"not whole after {self.patience.deadline:.0f} s")
        return total is None or have == total

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _known(self) -> dict[str, object]:
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self.about.read_text("utf-8"))
            return known if isinstance(known, dict) else {}
        return {}

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)


def _starts_at(answer: http.client.HTTPResponse, have: int) -> bool:
    return str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")


def _total(answer: http.client.HTTPResponse, have: int) -> int | None:
    """Bytes of the whole file, if the server says so."""
    length = answer.headers.get("Content-Length", "")
    return have + int(length) if length.isdigit() else None
