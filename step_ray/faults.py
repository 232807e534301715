"""Faults on purpose, for drills: always at the same place, never by a clock or by chance.

A plan is plain data, JSON in the environment variable ``STEP_RAY_FAULTS`` of the driver::

    {"folder": "/shared/marks", "faults": [
      {"kind": "kill-worker", "episode": 3, "step": 2},
      {"kind": "kill-driver", "point": "shards-renamed", "at": 1}]}

A fault strikes once, however many processes pass its place before or after: whoever creates its
mark in ``folder`` (which all machines see) is the one it strikes. Without the variable a point
costs one look at the environment, and a worker nothing.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

VARIABLE = "STEP_RAY_FAULTS"
PointKind = Literal["kill-driver", "full-disk"]
EpisodeKind = Literal["kill-worker", "hang-env", "crash-env"]
Kind = PointKind | EpisodeKind

_passed: Counter[str] = Counter()  # how often this process has passed each point


class FaultPlanError(ValueError):
    """A plan is not one; says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, at a point or in an episode.

    ``point``: a name given to :func:`point`; ``at``: strikes when the point is passed for the
    ``at``-th time in a process, or has reached that count. ``episode``: position in the stage's
    list of episodes, from 0; ``step``: strikes before this executed action, from 0.
    """

    kind: Kind
    point: str = ""
    at: int = 1
    episode: int = -1
    step: int = 0


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of some episodes, by episode id; picklable, for workers. Empty: none."""

    folder: str = ""
    episodes: Mapping[str, tuple[Fault, ...]] = dataclasses.field(default_factory=dict)

    def strikes(self, fault: Fault) -> bool:
        """Whether the fault is to happen here and now: true once in all processes."""
        return _mark(Path(self.folder), fault)


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All faults of a drill, and the folder of their marks."""

    folder: str
    faults: tuple[Fault, ...]

    def of_episodes(self, ids: Sequence[str]) -> Faults:
        """The part for workers; ``ids`` are the stage's episodes in their order."""
        found: dict[str, tuple[Fault, ...]] = {}
        for fault in self.faults:
            if 0 <= fault.episode < len(ids):
                key = ids[fault.episode]
                found[key] = (*found.get(key, ()), fault)
        return Faults(self.folder, found)

    def to_json(self) -> str:
        """What the environment variable holds."""
        return json.dumps(dataclasses.asdict(self))


def plan() -> FaultPlan | None:
    """The plan in the environment. Raises FaultPlanError for one that cannot be read."""
    text = os.environ.get(VARIABLE)
    return parse(text) if text else None


def parse(text: str) -> FaultPlan:
    """A plan from JSON. Raises FaultPlanError, naming what is wrong."""
    try:
        raw = json.loads(text)
        read = FaultPlan(raw["folder"], tuple(Fault(**fault) for fault in raw["faults"]))
    except (ValueError, TypeError, KeyError) as error:
        raise FaultPlanError(f"{VARIABLE}: not a plan of faults ({error})") from error
    for fault in read.faults:
        _check(fault)
    return read


def point(name: str, reached: int | None = None) -> None:
    """A place where a drill may strike; passes, unless a fault of the plan is due here.

    ``reached`` is a count that grows, such as of episodes done; without it passes are counted.
    Raises OSError (no space left) for the fault ``full-disk``; ``kill-driver`` kills this process.
    """
    current = plan()
    if current is None:
        return
    _passed[name] += 1
    count = _passed[name] if reached is None else reached
    for fault in current.faults:
        due = fault.point == name and count >= fault.at
        if due and _mark(Path(current.folder), fault):
            if fault.kind == "kill-driver":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} (a drill, at {name})")


def _mark(folder: Path, fault: Fault) -> bool:
    """Whether this is the first to leave the fault's mark."""
    where = f"{fault.point}-{fault.at}" if fault.point else f"{fault.episode}-{fault.step}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        (folder / f"{fault.kind}-{where}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _check(fault: Fault) -> None:
    values: dict[str, Any] = dataclasses.asdict(fault)
    for name, kind in (("kind", str), ("point", str), ("at", int), ("episode", int), ("step", int)):
        if type(values[name]) is not kind:
            raise FaultPlanError(f"{VARIABLE}: {name} is no {kind.__name__} in {values}")
    at_point, in_episode = get_args(PointKind), get_args(EpisodeKind)
    if fault.kind not in (*at_point, *in_episode):
        known = ", ".join((*at_point, *in_episode))
        raise FaultPlanError(f"{VARIABLE}: no fault is called {fault.kind!r}; known are {known}")
    if fault.kind in at_point and not (fault.point.replace("-", "").isalnum() and fault.at >= 1):
        raise FaultPlanError(f"{VARIABLE}: {fault.kind} needs a point and at >= 1: {values}")
    if fault.kind in in_episode and (fault.episode < 0 or fault.step < 0 or fault.point):
        raise FaultPlanError(f"{VARIABLE}: {fault.kind} needs episode and step from 0: {values}")
