"""One driver at a time: a lock that says who holds it, since when, and whether they still live.

The kernel's file lock decides between processes that share it, and lets go when its holder dies.
Some shared file systems keep it to each machine. So a holder also leaves a heartbeat, and one that
is fresh and from another machine is respected; a stale one belongs to a machine that died.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from step_ray.files import now, temporary_name

HEARTBEAT = 10.0  # seconds between two signs of life
LEASE = 60.0  # seconds without one after which the holder's machine counts as dead

_HOLDER = re.compile(r"process \d+ on (?P<host>\S+) since \S+")


class LockHeld(RuntimeError):  # noqa: N818 - a state of the world, not a defect
    """Somebody else holds the lock; the message says who."""


@contextlib.contextmanager
def locked(path: Path, heartbeat: float = HEARTBEAT, lease: float = LEASE) -> Iterator[None]:
    """Holds an exclusive lock on a lock file; ``heartbeat`` and ``lease`` are in seconds.

    The file stays: removing it would let two processes lock two different files of one name.
    Raises :class:`LockHeld` at once if another process (or another user in this one) has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = _holder(descriptor) or "a process that just began"
            raise LockHeld(f"{path} is held by {who}") from None
        _refuse_if_alive(path, _holder(descriptor), lease)
        me = f"process {os.getpid()} on {socket.gethostname()} since {now()}\n".encode()
        _write(descriptor, me)
        over = threading.Event()
        beating = threading.Thread(
            target=_beat, args=(descriptor, me, heartbeat, over), name="step-ray-lock", daemon=True
        )
        beating.start()
        try:
            yield
        finally:
            over.set()
            beating.join()
            # A full disk is no reason to keep it.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _refuse_if_alive(path: Path, holder: str, lease: float) -> None:
    """Of this machine's own processes the kernel's lock has told already that they are dead."""
    found = _HOLDER.match(holder)
    if found is None or found["host"] == socket.gethostname():
        return
    age = _age(path)
    if age < lease:
        raise LockHeld(
            f"{path} is held by {holder} (last sign of life {max(age, 0.0):.0f} s ago; if that "
            f"machine has died, the lock is free {lease - age:.0f} s from now)"
        )


def _age(path: Path) -> float:
    """Seconds since a file was written, by the clock of its file system alone: machines' differ."""
    probe = temporary_name(path)
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime
    finally:
        probe.unlink()


def _beat(descriptor: int, text: bytes, every: float, over: threading.Event) -> None:
    while not over.wait(every):
        # A missed beat is made good by the next one.
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, text, 0)


def _write(descriptor: int, text: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text, 0)


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 4096, 0).decode("utf-8", "replace").strip()
