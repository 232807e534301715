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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from step_ray import files
from step_ray._version import __version__
from step_ray.machine import machine, packages
from step_ray.trajectory import content_hash

FORMAT_VERSION = 1
# Raised when the code changes what a stage writes for the same config and inputs.
DATA_VERSION = 1

CONFIG, MANIFEST, RESULTS, LOCK = "config.json", "manifest.json", "results.json", "run.lock"
STAGE, STALE = "stage.json", "stale"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_RESERVED = {STALE, "report"}


class RunError(RuntimeError):
    """A run cannot be opened or continued; says what is there and what to do."""


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
        return {"path": path.relative_to(self._run.path).as_posix(), **_identify(path)}

    def _end(self, status: str, **fields: Any) -> None:
        seconds = self._record["seconds"] + time.monotonic() - self._began
        ended = {"status": status, "finished": files.now(), "seconds": round(seconds, 3)}
        record = {**self._record, **ended, **fields}
        with _disk(self.path):
            files.write_json_atomic(self.path / STAGE, record)
            self._record = record
            self._run._write_manifest()


class Run:
    """An opened run folder; only one process at a time can have it open. A context manager."""

    def __init__(self, path: Path, config: dict[str, Any], fresh: bool, created: str) -> None:
        self.path = path
        self.config = config
        self.fresh = fresh
        self._created = created
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
                    raise RunError(
                        f"{path}: holds other files and no {CONFIG}, so it is not a run folder; "
                        "choose an empty or new folder"
                    )
                try:
                    resources.enter_context(files.locked(path / LOCK))
                except files.LockHeld as error:
                    raise RunError(
                        f"{error}; wait until it ends, or stop it; two drivers cannot share a run"
                    ) from None
                _accept_config(path, config, fresh, ignore)
                created = files.now()
                if (path / MANIFEST).exists():
                    created = _read_json(path / MANIFEST).get("created", created)
                run = cls(path, config, fresh, created)
                files.write_json_atomic(path / CONFIG, config)
                run._write_manifest()
            run._resources = resources.pop_all()
        return run

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

    @property
    def results(self) -> dict[str, Any]:
        """What ``results.json`` holds; empty before it is written."""
        path = self.path / RESULTS
        return _read_json(path) if path.exists() else {}

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Replaces ``results.json`` as a whole."""
        with _disk(self.path):
            files.write_json_atomic(self.path / RESULTS, _plain(results))

    def _begin(self, name: str, inputs: dict[str, Any], config: dict[str, Any]) -> Stage:
        folder = self.path / name
        identity = {
            "config": config,
            "inputs": {key: _input(key, value) for key, value in inputs.items()},
            "data_version": DATA_VERSION,
        }
        fingerprint = content_hash({"name": name, **identity})
        old = _read_json(folder / STAGE) if (folder / STAGE).exists() else None
        if old is None and folder.exists() and any(folder.iterdir()):
            raise RunError(f"{folder}: holds files but no {STAGE}; move the folder away")
        if old is not None and old["fingerprint"] != fingerprint:
            if not self.fresh:
                raise RunError(
                    f"stage {name} was made differently:\n{_changes(old['identity'], identity)}\n"
                    "restore the old settings, choose another output folder, or use --fresh to "
                    "make this stage and those that need it again"
                )
            self._set_aside(folder, old["fingerprint"])
            old = None
        if old is not None and old["status"] == "done" and not _damage(self.path, old):
            return Stage(self, name, old, resumed=False)
        folder.mkdir(exist_ok=True)
        record: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "name": name,
            "order": old["order"]
            if old
            else 1 + max((s["order"] for s in self._stages()), default=0),
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

    def _set_aside(self, folder: Path, fingerprint: str) -> None:
        base = self.path / STALE / f"{folder.name}-{fingerprint[:8]}"
        target, number = base, 1
        while target.exists():
            number += 1
            target = base.with_name(f"{base.name}-{number}")
        target.parent.mkdir(exist_ok=True)
        folder.replace(target)  # one rename: there is no moment with half a stage
        files.sync(self.path)

    def _stages(self) -> list[dict[str, Any]]:
        return _stage_records(self.path)

    def _write_manifest(self) -> None:
        stages = self._stages()
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


def read_run(path: str | Path) -> dict[str, Any]:
    """The manifest of a run, without opening (locking) it; raises :class:`RunError`."""
    path = Path(path)
    if not (path / MANIFEST).exists() or not (path / CONFIG).exists():
        raise RunError(f"{path}: not a run folder (no {MANIFEST}); check the path")
    return _read_json(path / MANIFEST)


def verify_run(path: str | Path) -> list[str]:
    """Everything that is wrong with a run, as sentences; empty when it is sound.

    Every output of every finished stage is read in full, and every stage's inputs must be what
    the earlier stages hold now.
    """
    path = Path(path)
    read_run(path)
    problems: list[str] = []
    records = {record["name"]: record for record in _stage_records(path)}
    if not records:
        problems.append(f"{path}: no stage was begun")
    for name, record in records.items():
        if record["status"] != "done":
            reason = record.get("error", "the same command resumes it")
            problems.append(f"stage {name}: {record['status']} ({reason})")
            continue
        problems += _damage(path, record, thorough=True)
        for key, value in record["identity"]["inputs"].items():
            if not (isinstance(value, dict) and value.get("stage") in records):
                continue
            source = records[value["stage"]]
            if source["status"] == "done" and value != _reference(source):
                problems.append(
                    f"stage {name}: made from another {value['stage']} (input {key}) than the one "
                    "that is there now; run the same command with --fresh"
                )
    return problems


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted field -> (old value, new value) wherever two nested dictionaries differ."""
    before, after = dict(_flat(old)), dict(_flat(new))
    return {
        field: (before.get(field, _ABSENT), after.get(field, _ABSENT))
        for field in sorted({*before, *after})
        if before.get(field, _ABSENT) != after.get(field, _ABSENT)
    }


@dataclass(frozen=True)
class _Absent:
    def __repr__(self) -> str:
        return "(absent)"


_ABSENT = _Absent()


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], ignore: Sequence[str] = ()) -> str:
    return "\n".join(
        f"  {field}: {before!r} -> {after!r}"
        for field, (before, after) in difference(old, new).items()
        if not any(field == known or field.startswith(f"{known}.") for known in ignore)
    )


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _accept_config(
    path: Path, config: Mapping[str, Any], fresh: bool, ignore: Sequence[str]
) -> None:
    if fresh or not (path / CONFIG).exists():
        return
    changes = _changes(_read_json(path / CONFIG), config, ignore)
    if changes:
        raise RunError(
            f"{path}: this run was begun with another config:\n{changes}\n"
            "restore the old settings, choose another output folder, or use --fresh to make again "
            "what the changes concern"
        )


def _foreign(path: Path) -> bool:
    ours = {LOCK, MANIFEST}
    return any(
        item.name not in ours and not item.name.startswith(files.TEMPORARY)
        for item in path.iterdir()
    )


def _stage_records(path: Path) -> list[dict[str, Any]]:
    records = [_read_json(file) for file in path.glob(f"*/{STAGE}")]
    return sorted(records, key=lambda record: (record["order"], record["name"]))


def _reference(record: Mapping[str, Any]) -> dict[str, Any]:
    """How a later stage names this one: what it was meant to be, and what it turned out to be."""
    hashes = {key: out["hash"] for key, out in record["outputs"].items() if "hash" in out}
    return {"stage": record["name"], "fingerprint": record["fingerprint"], "outputs": hashes}


def _input(name: str, value: Any) -> Any:
    if isinstance(value, Stage):
        if not value.done:
            raise RunError(f"input {name}: stage {value.name} is not done")
        return _reference(value._record)
    if isinstance(value, Path):
        if not value.exists():
            raise RunError(f"input {name}: {value} does not exist; check the path")
        return _identify(value)
    return _plain({"": value})[""]


def _identify(path: Path) -> dict[str, str]:
    """Kind and content hash of an input or output."""
    if path.is_file():
        return {"kind": "file", "hash": files.sha256_file(path)}
    published = _published(path)
    if published is not None:
        return {"kind": "dataset", "hash": published}
    return {"kind": "folder", "hash": files.tree_hash(path, skip={STAGE})}


def _published(folder: Path) -> str | None:
    """The content hash of a published dataset, without loading Arrow; None if it is none."""
    try:
        value = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return str(value["content_hash"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _damage(run: Path, record: Mapping[str, Any], thorough: bool = False) -> list[str]:
    """What is wrong with the outputs of a finished stage.

    A folder that is not a dataset (a model of many gigabytes) is read only if ``thorough``.
    """
    problems = []
    for name, output in record["outputs"].items():
        if "path" not in output:
            continue
        path = run / output["path"]
        where = f"stage {record['name']}: output {name} ({path})"
        if not path.exists():
            problems.append(f"{where} is gone; run the same command to make it again")
        elif output["kind"] == "dataset" and thorough:
            from step_ray.store import verify_store  # Arrow only where it is needed

            problems += verify_store(path)
        elif thorough or output["kind"] != "folder":
            found = _identify(path)
            if found != {"kind": output["kind"], "hash": output["hash"]}:
                problems.append(f"{where} changed; run the same command to make it again")
    return problems


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value as JSON would give it back, so that comparing it with a file is fair."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise RunError(f"only JSON-like values can be recorded in a run: {error}") from error
    return plain


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(files.explain(error, path)) from error
    except ValueError as error:
        raise RunError(f"{path}: not JSON ({error}); move it away") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: not a JSON object; move it away")
    return value


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(files.explain(error, path)) from error
