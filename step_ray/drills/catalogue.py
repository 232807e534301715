"""Which drills there are, and running them."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from step_ray.config import RunConfig
from step_ray.drills import drivers, nodes, teachers
from step_ray.drills.lab import DrillFailed, DrillRefused, Lab
from step_ray.recipes.cluster import cluster
from step_ray.store import StoreError


@dataclass(frozen=True, slots=True)
class Drill:
    """A fault and what must hold all the same. ``play`` says what was seen, or raises."""

    done: str
    must: str
    play: Callable[[Lab], str]


_SAME = "every episode published once, equal to an undisturbed run"
_ALONE = "that episode is counted by its reason, all others are as undisturbed"
DRILLS = {
    "kill-workers": Drill(
        "SIGKILL of two workers, each before an action", _SAME, drivers.kill_workers
    ),
    "kill-driver": Drill(
        "SIGKILL of the driver amid episodes, between a shard's rename and the manifest, and after",
        f"nothing half-published; continued, {_SAME}",
        drivers.kill_driver,
    ),
    "kill-node": Drill("SIGKILL of a machine's raylet", _SAME, nodes.kill_node),
    "hang-env": Drill("an environment hangs before an action", _ALONE, drivers.hang_env),
    "crash-env": Drill("an environment dies before an action", _ALONE, drivers.crash_env),
    "slow-teacher": Drill(
        "the teacher never answers about one task", _ALONE, teachers.slow_teacher
    ),
    "garbage-teacher": Drill(
        "the teacher answers nonsense about one task", _ALONE, teachers.garbage_teacher
    ),
    "full-disk": Drill(
        "ENOSPC when a shard is written",
        f"the message says so, nothing is published; continued, {_SAME}",
        drivers.full_disk,
    ),
    "corrupt-shard": Drill(
        "a bit of a published shard flips",
        f"never read, named, quarantined; continued, {_SAME}",
        drivers.corrupt_shard,
    ),
    "two-drivers": Drill(
        "a second driver opens the run",
        "it says who holds it, the first goes on",
        drivers.two_drivers,
    ),
}
ALL = "all"
_BY_NAME_ALONE = ("kill-node",)  # takes a machine away from everybody on the cluster


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the table."""

    drill: str
    done: str
    must: str
    seen: str
    verdict: Literal["pass", "FAIL", "refused"]
    seconds: float


def chosen(names: Iterable[str]) -> list[str]:
    """The drills that are meant, each once; raises DrillRefused for an unknown name."""
    found: list[str] = []
    for name in names:
        if name not in (ALL, *DRILLS):
            raise DrillRefused(f"no drill is called {name!r}; known are {', '.join(DRILLS)}, {ALL}")
        found += [n for n in DRILLS if n not in _BY_NAME_ALONE] if name == ALL else [name]
    return list(dict.fromkeys(found))


def run_drills(
    names: Sequence[str], config: RunConfig, episodes: int, near: Path | None = None
) -> Iterator[Verdict]:
    """Plays drills one after the other on the config's cluster, in a scratch folder.

    The folder is made next to ``near``, which all machines see, or in the system's temporary one.
    It is removed unless one failed, also when somebody interrupts. Raises DrillRefused for an
    unknown name.
    """
    wanted = chosen(names)
    if near is not None:
        near.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(
        tempfile.mkdtemp(prefix="step-ray-drill-", dir=near.parent if near is not None else None)
    )
    failed = False
    try:
        with cluster(config.ray):
            lab = Lab(scratch, config, episodes, {"RAY_ADDRESS": nodes.address()})
            for name in wanted:
                verdict = _play(name, lab)
                failed = failed or verdict.verdict == "FAIL"
                yield verdict
    except Exception:
        failed = True
        raise
    finally:
        if not failed:
            shutil.rmtree(scratch, ignore_errors=True)


def show(verdicts: Sequence[Verdict]) -> None:
    """Prints the table."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # the same on every machine
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 1, 0))
    for column in ("drill", "what was done", "what must hold", "what was seen", "verdict"):
        table.add_column(column, overflow="fold")
    table.add_column("seconds", justify="right")
    for one in verdicts:
        cells = (one.drill, one.done, one.must, one.seen, one.verdict, f"{one.seconds:.1f}")
        table.add_row(*map(Text, cells))
    console.print(table)


def _play(name: str, lab: Lab) -> Verdict:
    drill, began = DRILLS[name], time.monotonic()
    state: Literal["pass", "FAIL", "refused"] = "pass"
    try:
        seen = drill.play(lab)
    except DrillRefused as refused:
        state, seen = "refused", str(refused)
    except (DrillFailed, StoreError) as failure:
        state, seen = "FAIL", f"{failure} (kept in {lab.folder})"
    return Verdict(name, drill.done, drill.must, seen, state, round(time.monotonic() - began, 1))
