"""Files that are either wholly there or not there at all, and their hashes.

A reader never sees half a file: content is written under a temporary name in the same folder,
synced to disk, then renamed over the final name.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp-"  # every unfinished file's name begins with this


def now() -> str:
    """The present moment as ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def temporary_name(path: Path) -> Path:
    """A fresh unfinished-file name next to ``path``."""
    return path.with_name(f"{TEMPORARY}{secrets.token_hex(6)}-{path.name}")


def sync(path: Path) -> None:
    """Makes a file's content, or a folder's list of names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to; renames it to ``path`` if the block succeeds."""
    temporary = temporary_name(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        # A full disk may refuse even this; the error that matters is the first one.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_text_atomic(path: Path, text: str) -> None:
    """Writes UTF-8 text so that readers see the old content or the new, never a mixture."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json_atomic(path: Path, value: Any) -> None:
    """Writes a JSON file for people and programs; NaN is refused, as JSON has none."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomic(path, text + "\n")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_hash(folder: Path, skip: Collection[str] = ()) -> str:
    """Hex SHA-256 over the names and contents of all files below a folder.

    Unfinished files and those named in ``skip`` do not count; neither do times, owners or empty
    folders. Links are followed.
    """
    total = hashlib.sha256()
    files = (path for path in folder.rglob("*") if path.is_file())
    named = sorted((path.relative_to(folder).as_posix(), path) for path in files)
    for name, path in named:
        if path.name.startswith(TEMPORARY) or path.name in skip:
            continue
        total.update(f"{name}\0{sha256_file(path)}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


_REMEDIES = {
    errno.ENOSPC: "the disk is full: free space there, or choose an output folder elsewhere",
    errno.EDQUOT: "the disk quota is used up: free space there, or choose another folder",
    errno.EROFS: "the file system is read-only: choose an output folder elsewhere",
    errno.EACCES: "permission denied: make it writable for this user, or choose another folder",
    errno.EPERM: "permission denied: make it writable for this user, or choose another folder",
    errno.ENOTDIR: "a file stands where a folder is needed: move it away",
    errno.EEXIST: "a file stands where a folder is needed: move it away",
    errno.ENOENT: "it does not exist: check the path",
}


def explain(error: OSError, path: Path) -> str:
    """One line for a person: which path, what happened, what to do."""
    number = error.errno
    reason = os.strerror(number) if number is not None else str(error)
    remedy = _REMEDIES.get(number if number is not None else -1, "check the disk and the path")
    return f"{error.filename or path}: {reason}; {remedy}"
