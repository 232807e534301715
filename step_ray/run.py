"""A run: one folder with everything a recipe made, in stages that can be skipped and resumed.

Each stage has a sub-folder and in it ``stage.json``: its status and its fingerprint, the hash of
its config, its inputs and the version of the code's data. A stage that is done under the same
fingerprint is skipped, an interrupted one goes on in the same folder, and one whose fingerprint
changed is refused with the difference shown, unless the run was opened ``fresh``: then its old
folder moves to ``stale/``, because it may have cost money, and the stage is done anew. Stages that
were not changed are skipped even then.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from step_ray import files, lock, sharing
from step_ray._version import __version__
from step_ray.lineage import (
    CONFIG,
    MANIFEST,
    STAGE,
    changes,
    damage,
    identify,
    read_json,
    reference,
    stage_records,
)
from step_ray.lineage import RunError as RunError
from step_ray.lineage import difference as difference
from step_ray.lineage import read_run as read_run
from step_ray.lineage import verify_run as verify_run
from step_ray.machine import machine, packages
from step_ray.trajectory import content_hash

FORMAT_VERSION = 1
# Raised when the code changes what a stage writes for the same config and inputs.
DATA_VERSION = 3

RESULTS, LOCK, STALE = "results.json", "run.lock", "stale"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_RESERVED = {STALE}


class Stage:
    """One step of a run; made by :meth:`Run.stage`.

    ``done``: skip the work. ``resumed``: ``path`` holds what an interrupted attempt left.
    """

    def __init__(self, run: Run, name: str, record: dict[str, Any], resumed: bool) -> None:
        self.name = name
        self.path = run.path / name
        self.resumed = resumed
        self._run = run
        self._record = record
        self._began = time.monotonic()

    @property
    def done(self) -> bool:
        return bool(self._record["status"] == "done")

    @property
    def fingerprint(self) -> str:
        return str(self._record["fingerprint"])

    @property
    def identity(self) -> dict[str, Any]:
        """What the fingerprint is made of: config, inputs and data_version."""
        return dict(self._record["identity"])

    @property
    def outputs(self) -> dict[str, Any]:
        """What :meth:`finish` was given: paths as paths, other values as they were."""
        return {
            name: self._run.path / output["path"] if "path" in output else output["value"]
            for name, output in self._record["outputs"].items()
        }

    def finish(
        self,
        outputs: Mapping[str, Any] | None = None,
        seconds_by_phase: Mapping[str, float] | None = None,
    ) -> None:
        """Marks the stage as done. An output is a path inside the run, or a JSON-like value.

        Paths are hashed, so that a later change to them is noticed. ``seconds_by_phase`` says
        where the time of this attempt went: env, student, teacher, queue, write, ...
        """
        if self.done:
            raise RunError(f"stage {self.name} is already done; look at stage.done before working")
        recorded = {name: self._output(name, value) for name, value in (outputs or {}).items()}
        phases = self._record["seconds_by_phase"]
        for phase, seconds in (seconds_by_phase or {}).items():
            phases[phase] = round(phases.get(phase, 0.0) + seconds, 3)
        self._end("done", outputs=recorded)

    def _output(self, name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Path):
            return {"value": value}
        path = value.resolve()
        if not path.is_relative_to(self._run.path):
            raise RunError(f"stage {self.name}: output {name} is outside the run ({value})")
        if not path.exists():
            raise RunError(f"stage {self.name}: output {name} was not written ({value})")
        return {"path": path.relative_to(self._run.path).as_posix(), **identify(path)}

    def _end(self, status: str, **fields: Any) -> None:
        seconds = self._record["seconds"] + time.monotonic() - self._began
        ended = {"status": status, "finished": files.now(), "seconds": round(seconds, 3)}
        record = {**self._record, **ended, **fields}
        with _disk(self.path):
            files.write_json_atomic(self.path / STAGE, record)
            self._record = record
            self._run._write_manifest()


class Run:
    """An opened run folder; only one process at a time can have it open. A context manager.

    ``shared`` is a folder of finished stages that several runs have in common, if there is one.
    ``when_done`` is called with every stage that is done, also with one that was skipped.
    """

    def __init__(self, path: Path, config: dict[str, Any], fresh: bool, created: str) -> None:
        self.path = path
        self.config = config
        self.fresh = fresh
        self._created = created
        self.shared: Path | None = None
        self.when_done: Callable[[Stage], None] = lambda stage: None
        self._resources = contextlib.ExitStack()

    @classmethod
    def open(
        cls,
        path: str | Path,
        config: Mapping[str, Any],
        fresh: bool = False,
        ignore: Sequence[str] = (),
    ) -> Run:
        """Opens or creates a run folder.

        ``config`` is the resolved config; a folder with another one is refused unless ``fresh``.
        ``ignore`` lists dotted fields (or sections) that may differ, as they say how the work is
        done and not what it makes.
        """
        path = Path(path).resolve()
        config = _plain(config)
        with contextlib.ExitStack() as resources:
            with _disk(path):
                path.mkdir(parents=True, exist_ok=True)
                if not (path / CONFIG).exists() and _foreign(path):
                    if not (path / MANIFEST).exists():
                        raise RunError(
                            f"{path}: holds other files and no {CONFIG}, so it is not a run folder;"
                            " choose an empty or new folder"
                        )
                    if not fresh:
                        read_run(path)  # says what to do
                try:
                    resources.enter_context(lock.locked(path / LOCK))
                except lock.LockHeld as error:
                    raise RunError(
                        f"{error}; wait until it ends, or stop it; two drivers cannot share a run"
                    ) from None
                _accept_config(path, config, fresh, ignore)
                created = files.now()
                if (path / MANIFEST).exists():
                    created = read_json(path / MANIFEST).get("created", created)
                run = cls(path, config, fresh, created)
                run._set_results_aside(ignore)
                files.write_json_atomic(path / CONFIG, config)
                run._write_manifest()
            run._resources = resources.pop_all()
        return run

    def _set_results_aside(self, ignore: Sequence[str]) -> None:
        """Figures of another config are none of this one's, should the run not come to its end; nor
        are those of one that nobody can read."""
        results = self.path / RESULTS
        if not (self.fresh and results.exists()):  # without fresh there is no other config
            return
        try:
            old = read_json(self.path / CONFIG)
        except RunError:
            old = {}
        if changes(old, self.config, ignore):
            self._set_aside(results, content_hash(old))

    def close(self) -> None:
        """Lets go of the lock."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def stage(
        self,
        name: str,
        inputs: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Iterator[Stage]:
        """Opens a stage; the block must call ``finish`` unless the stage is ``done``.

        An input is a done :class:`Stage`, a path (hashed) or a JSON-like value. An exception
        leaves the stage failed or interrupted, to be resumed by the next attempt.
        """
        if not _NAME.fullmatch(name) or name in _RESERVED:
            raise RunError(f"{name!r} cannot name a stage; use small letters, digits, - and _")
        with _disk(self.path / name):
            stage = self._begin(name, dict(inputs or {}), _plain(config or {}))
        try:
            yield stage
        except BaseException as error:
            if not stage.done:
                status = "failed" if isinstance(error, Exception) else "interrupted"
                # The disk may be the very reason; the error that matters is the first one.
                with contextlib.suppress(RunError):
                    stage._end(status, error=f"{type(error).__name__}: {error}")
            raise
        if not stage.done:
            stage._end("failed", error="left without finish")
            raise RunError(f"stage {name} was left without a call of stage.finish")
        if self.shared is not None:
            with _disk(self.shared):
                sharing.give(self.shared, stage.path, stage.fingerprint)
        self.when_done(stage)

    @property
    def results(self) -> dict[str, Any]:
        """What ``results.json`` holds; empty before it is written."""
        path = self.path / RESULTS
        return read_json(path) if path.exists() else {}

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Replaces ``results.json`` as a whole."""
        with _disk(self.path):
            files.write_json_atomic(self.path / RESULTS, _plain(results))

    def seconds(self) -> dict[str, dict[str, float]]:
        """Stage -> "total" (wall time, over all attempts) and the phases it was given."""
        return {
            record["name"]: {"total": record["seconds"], **record["seconds_by_phase"]}
            for record in stage_records(self.path)
        }

    def _begin(self, name: str, inputs: dict[str, Any], config: dict[str, Any]) -> Stage:
        folder = self.path / name
        identity = {
            "config": config,
            "inputs": {key: _input(key, value) for key, value in inputs.items()},
            "data_version": DATA_VERSION,
        }
        fingerprint = content_hash({"name": name, **identity})
        old = read_json(folder / STAGE) if (folder / STAGE).exists() else None
        if old is None and folder.exists() and any(folder.iterdir()):
            raise RunError(f"{folder}: holds files but no {STAGE}; move the folder away")
        if old is not None and old["fingerprint"] != fingerprint:
            if not self.fresh:
                raise RunError(
                    f"stage {name} was made differently:\n{changes(old['identity'], identity)}\n"
                    "restore the old settings, choose another output folder, or use --fresh to "
                    "make this stage and those that need it again"
                )
            self._set_aside(folder, old["fingerprint"])
            old = None
        if old is None and self.shared is not None:
            old = sharing.take(self.shared, folder, fingerprint)
            if old is not None:
                order = 1 + max((s["order"] for s in stage_records(self.path)), default=0)
                old = {**old, "order": order}
                files.write_json_atomic(folder / STAGE, old)
                self._write_manifest()
        if old is not None and old["status"] == "done" and not damage(self.path, old):
            return Stage(self, name, old, resumed=False)
        folder.mkdir(exist_ok=True)
        record: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "name": name,
            "order": old["order"]
            if old
            else 1 + max((s["order"] for s in stage_records(self.path)), default=0),
            "status": "running",
            "fingerprint": fingerprint,
            "identity": identity,
            "code_version": __version__,
            "attempts": old["attempts"] + 1 if old else 1,
            "started": files.now(),
            "seconds": old["seconds"] if old else 0.0,
            "seconds_by_phase": old["seconds_by_phase"] if old else {},
            "outputs": {},
        }
        files.write_json_atomic(folder / STAGE, record)
        self._write_manifest()
        return Stage(self, name, record, resumed=old is not None)

    def _set_aside(self, what: Path, fingerprint: str) -> None:
        base = self.path / STALE / f"{what.stem}-{fingerprint[:8]}{what.suffix}"
        target, number = base, 1
        while target.exists():
            number += 1
            target = base.with_name(f"{base.name}-{number}")
        target.parent.mkdir(exist_ok=True)
        what.replace(target)  # one rename: there is no moment with half a stage
        files.sync(self.path)

    def _write_manifest(self) -> None:
        stages = stage_records(self.path)
        seconds: dict[str, float] = {}
        for record in stages:
            for phase, value in record["seconds_by_phase"].items():
                seconds[phase] = round(seconds.get(phase, 0.0) + value, 3)
        files.write_json_atomic(
            self.path / MANIFEST,
            {
                "format_version": FORMAT_VERSION,
                "created": self._created,
                "updated": files.now(),
                "code_version": __version__,
                "data_version": DATA_VERSION,
                "config_hash": content_hash(self.config),
                "machine": machine(),
                "packages": packages(),
                "seconds": round(sum(record["seconds"] for record in stages), 3),
                "seconds_by_phase": seconds,
                "stages": {record["name"]: record for record in stages},
            },
        )


def _accept_config(
    path: Path, config: Mapping[str, Any], fresh: bool, ignore: Sequence[str]
) -> None:
    if fresh or not (path / CONFIG).exists():
        return
    found = changes(read_json(path / CONFIG), config, ignore)
    if found:
        raise RunError(
            f"{path}: this run was begun with another config:\n{found}\n"
            "restore the old settings, choose another output folder, or use --fresh to make again "
            "what the changes concern"
        )


def _foreign(path: Path) -> bool:
    ours = {LOCK, MANIFEST}
    return any(
        item.name not in ours and not item.name.startswith(files.TEMPORARY)
        for item in path.iterdir()
    )


def _input(name: str, value: Any) -> Any:
    if isinstance(value, Stage):
        if not value.done:
            raise RunError(f"input {name}: stage {value.name} is not done")
        return reference(value._record)
    if isinstance(value, Path):
        if not value.exists():
            raise RunError(f"input {name}: {value} does not exist; check the path")
        return identify(value)
    return _plain({"": value})[""]


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value as JSON would give it back, so that comparing it with a file is fair."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise RunError(f"only JSON-like values can be recorded in a run: {error}") from error
    return plain


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(files.explain(error, path)) from error
