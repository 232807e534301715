"""CPU time, wall time and memory of this process and its children, from Linux's /proc.

Only the standard library: an original's interpreter, which has nothing of ours, imports it too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Cost:
    """Seconds of CPU (all threads and child processes) and of wall time, summed over ``count``.

    CPU time of children comes in steps of 10 ms: measure long enough.
    """

    cpu: float = 0.0
    wall: float = 0.0
    count: int = 0

    @contextmanager
    def adding(self, count: int = 1) -> Iterator[None]:
        """Adds what the block takes."""
        children = _children_cpu()
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        self.cpu += cpu + _children_cpu() - children
        self.wall += wall
        self.count += count

    def __add__(self, other: Cost) -> Cost:
        """The sum of both."""
        return Cost(self.cpu + other.cpu, self.wall + other.wall, self.count + other.count)

    def each(self, unit: str = "ms") -> dict[str, float]:
        """Mean CPU and wall time per count."""
        scale = {"s": 1.0, "ms": 1e3, "us": 1e6}[unit] / self.count
        return {
            f"cpu_{unit}": rounded(self.cpu * scale),
            f"wall_{unit}": rounded(self.wall * scale),
        }


def timed(calls: Sequence[Callable[[], Any]]) -> tuple[list[float], list[Any]]:
    """CPU seconds of each call, all threads of this process together, and what they return."""
    seconds, results = [], []
    for call in calls:
        before = time.process_time()
        result = call()
        seconds.append(time.process_time() - before)
        results.append(result)
    return seconds, results


def rounded(value: float) -> float:
    """Four significant digits: more would be noise."""
    return float(f"{value:.4g}")


def rss_mb() -> float:
    """Resident memory of this process and its children, in MB (10^6 bytes)."""
    pids = [os.getpid(), *_children()]
    return sum(int(_read(pid, "statm").split()[1]) * _PAGE for pid in pids) / 1e6


def _children_cpu() -> float:
    """CPU seconds of all living descendants and of those that ended."""
    ended = os.times()
    ticks = 0
    for pid in _children():
        fields = _read(pid, "stat").rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))  # utime, stime and those of its ended children
    return ticks / _TICKS + ended.children_user + ended.children_system


def private_mb(root: int | None = None) -> dict[str, float]:
    """Memory of their own (anonymous pages), in MB (10^6 bytes), of the process ``root`` (this one)
    as ``driver``, and of all of Ray's workers with episodes below it, together, as ``workers``."""
    found = {"driver": _anonymous_mb(root or os.getpid()), "workers": 0.0}
    for pid in descendants(lambda name: name.startswith("ray::MapWorker"), root):
        found["workers"] += _anonymous_mb(pid)
    return found


def cpu_seconds(left_out: Callable[[str], bool]) -> float:
    """CPU seconds so far of this process and all its descendants, but those whose command line is
    ``left_out``."""
    own = os.times()
    seconds = own.user + own.system
    for pid in descendants(lambda name: not left_out(name)):
        with suppress(FileNotFoundError, ProcessLookupError):
            seconds += sum(map(int, _read(pid, "stat").rpartition(")")[2].split()[11:13])) / _TICKS
    return seconds


def growth(points: Sequence[tuple[float, float]]) -> float:
    """The slope of a straight line through the points, by least squares; 0 for less than two."""
    if len(points) < 2:
        return 0.0
    x0 = sum(x for x, _ in points) / len(points)
    y0 = sum(y for _, y in points) / len(points)
    spread = sum((x - x0) ** 2 for x, _ in points)
    return sum((x - x0) * (y - y0) for x, y in points) / spread if spread else 0.0


def _anonymous_mb(pid: int) -> float:
    try:
        for line in _read(pid, "status").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024 / 1e6
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended meanwhile
    return 0.0


def descendants(named: Callable[[str], bool], root: int | None = None) -> set[int]:
    """Process ids of the descendants of a process (this one) whose command line ``named`` takes;
    that of Ray's workers begins with ``ray::`` and the name of their class."""
    found = set()
    for pid in _children(root):
        try:
            if named(_read(pid, "cmdline").replace("\0", " ")):
                found.add(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return found


def _children(root: int | None = None) -> list[int]:
    """Process ids of all descendants of a process (this one)."""
    parents = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(
                    _read(entry.name, "stat").rpartition(")")[2].split()[1]
                )
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
    found: list[int] = []
    new = {root or os.getpid()}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new}
        found += new
    return found


def _read(pid: int | str, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def marked(name: str, value: str) -> list[int]:
    """Processes that have ``name=value`` in their environment, as it was when they began; zombies
    left out."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if f"{name}={value}".encode() in Path(entry.path, "environ").read_bytes():
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it ended meanwhile, or is somebody else's
    return found
