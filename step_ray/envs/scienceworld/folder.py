"""A private folder of this process for the simulators' files, gone when the process is.

A killed process cannot clean up, so the next one does: a folder belongs to a living process as
long as its lock is held.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "step-ray-scienceworld-"
_made: dict[int, Path] = {}  # process id -> folder; a fork starts without one


def private_folder() -> Path:
    """The folder of this process, made at the first call, where abandoned ones are removed."""
    pid = os.getpid()
    if pid not in _made:
        sweep(Path(tempfile.gettempdir()))
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)  # held until the process ends
        fcntl.flock(lock, fcntl.LOCK_EX)
        _made[pid] = folder
        atexit.register(_remove, pid, folder)
    return _made[pid]


def sweep(parent: Path) -> list[Path]:
    """Removes this user's folders whose process has ended; returns them."""
    removed = []
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or just being removed
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with open(folder / "lock", "rb") as lock:  # absent: its owner is just making it
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
    return removed


def _remove(pid: int, folder: Path) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
