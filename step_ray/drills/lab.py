"""Where drills take place: a scratch folder, drivers in processes of their own, an undisturbed run
to compare with.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from step_ray import files, schema, store
from step_ray.config import RunConfig
from step_ray.drills.driver import FILE, STAGE
from step_ray.faults import VARIABLE, Fault, FaultPlan

TIMEOUT = 600.0  # seconds for one driver
_TAIL = 2000  # characters of a driver's output that a failure shows


class DrillFailed(RuntimeError):  # noqa: N818 - a verdict
    """What had to hold did not; says what was seen."""


class DrillRefused(RuntimeError):  # noqa: N818 - a state of the world
    """The drill cannot take place here; says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """A driver that is over: its exit status (-9: killed) and what it printed."""

    status: int
    output: str


class Lab:
    """A place for drills below ``folder``. ``environ`` is what drivers see besides our own, such as
    the cluster's address."""

    def __init__(
        self, folder: Path, config: RunConfig, episodes: int, environ: Mapping[str, str]
    ) -> None:
        self.folder, self.config, self.episodes = folder, config, episodes
        self._environ = dict(environ)
        self._quiet: Path | None = None

    def scratch(self, name: str, teacher: Mapping[str, Any] | None = None) -> Scratch:
        """A fresh run for one drill; ``teacher``: a section of a config, else the expert."""
        return Scratch(self, self.folder / name, teacher)

    def quiet(self) -> Path:
        """The dataset of a run that nobody disturbed; made once."""
        if self._quiet is None:
            run = self.scratch("quiet")
            run.finish()
            self._quiet = run.data
        return self._quiet

    def environ(self, plan: FaultPlan) -> dict[str, str]:
        """The environment of a driver under a plan of faults."""
        path = os.pathsep.join(filter(None, sys.path))
        return {
            **os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **self._environ,
            VARIABLE: plan.to_json(),
        }  # fmt: skip


class Scratch:
    """One run folder of a drill, and the drivers that work on it, one after the other."""

    def __init__(self, lab: Lab, folder: Path, teacher: Mapping[str, Any] | None) -> None:
        self._lab, self.folder = lab, folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.run = folder / "run"
        self.data = self.run / STAGE
        plan = {
            "config": lab.config.resolved(),
            "episodes": lab.episodes,
            "teacher": dict(teacher) if teacher else None,
        }
        files.write_json_atomic(folder / FILE, plan)

    @contextlib.contextmanager
    def driver(self, *faults: Fault, pause: bool = False) -> Iterator[subprocess.Popen[str]]:
        """A driver that works on the run; killed at the end of the block if it still lives."""
        plan = FaultPlan(str(self.folder / "marks"), faults)
        arguments = [str(self.folder), str(self.run), *(["--pause"] if pause else [])]
        process = subprocess.Popen(
            [sys.executable, "-m", "step_ray.drills.driver", *arguments],
            stdin=subprocess.PIPE if pause else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._lab.environ(plan),
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def drive(self, *faults: Fault) -> Ended:
        """Lets a driver work on the run until it ends or is killed by a fault."""
        with self.driver(*faults) as process:
            return wait(process)

    def finish(self, *faults: Fault) -> None:
        """The same, for a driver that has to succeed. Raises DrillFailed."""
        ended = self.drive(*faults)
        if ended.status != 0:
            raise DrillFailed(f"a driver ended with status {ended.status}: {ended.output}")

    def rows(self) -> dict[str, dict[str, Any]]:
        """The published rows by task and rollout; raises DrillFailed for a dataset with faults."""
        problems = store.verify_store(self.data)
        if problems:
            raise DrillFailed(problems[0])
        rows = {}
        for row in store.read_rows(self.data):
            spec = json.loads(row["spec"])
            rows[f"{spec['task']}#{spec['rollout']}"] = row
        if len(rows) != self._lab.episodes:
            raise DrillFailed(f"{len(rows)} episodes published, {self._lab.episodes} were asked")
        return rows

    def unpublished(self) -> None:
        """Raises DrillFailed if something can be read already."""
        with contextlib.suppress(store.StoreError):
            rows = store.read_manifest(self.data).rows
            raise DrillFailed(f"{rows} rows could be read of a dataset that was not finished")

    def same_as_quiet(self) -> str:
        """That the dataset is the undisturbed one, in words. Raises DrillFailed."""
        self.rows()
        found, wanted = (store.read_manifest(d) for d in (self.data, self._lab.quiet()))
        if found.content_hash != wanted.content_hash:
            raise DrillFailed("the dataset differs from that of an undisturbed run")
        return f"{found.rows} published, 0 lost, 0 twice, equal to the undisturbed run"

    def all_but(self, outcome: str) -> str:
        """That one episode ended with ``outcome`` and all others as undisturbed, in words. Raises
        DrillFailed."""
        rows = self.rows().values()
        wanted = {row["id"]: schema.row_hash(row) for row in store.read_rows(self._lab.quiet())}
        others = [row for row in rows if schema.row_hash(row) != wanted[row["id"]]]
        if [row["outcome"] for row in others] != [outcome]:
            found = [(row["task"], row["outcome"], row["detail"]) for row in others]
            raise DrillFailed(f"one {outcome} was expected, these episodes differ: {found}")
        return f"{self._lab.episodes} published, one {outcome}, all others as undisturbed"


def wait(process: subprocess.Popen[str], seconds: float = TIMEOUT) -> Ended:
    """The end of a driver. Raises DrillFailed if it does not come."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise DrillFailed(f"a driver did not end within {seconds:g} s") from None
    return Ended(process.returncode, output[-_TAIL:])
