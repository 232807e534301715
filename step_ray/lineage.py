"""What made what in a run folder, read from its records alone; no run need be open."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from step_ray import files

CONFIG, MANIFEST, STAGE = "config.json", "manifest.json", "stage.json"
SAMPLES = "samples.parquet"  # of a training stage, see training.table
_REMEDIES = {
    CONFIG: "put it back, or run the command that made the run with --fresh: it is written anew, "
    "and stages that are the same stay",
    MANIFEST: "move it away and run the command that made the run again: it is written anew",
    STAGE: "move its folder away and run the command that made the run again: so is the stage",
}
_REMEDY = "run the command that made the run again: it is written anew"


class RunError(RuntimeError):
    """A run cannot be opened or continued; says what is there and what to do."""


def read_run(path: str | Path) -> dict[str, Any]:
    """The manifest of a run, without opening (locking) it; raises :class:`RunError`."""
    path = Path(path)
    missing = [name for name in (CONFIG, MANIFEST) if not (path / name).exists()]
    if len(missing) == 2:
        raise RunError(f"{path}: not a run folder (no {CONFIG}, no {MANIFEST}); check the path")
    if missing == [CONFIG]:
        raise RunError(f"{path}: its {CONFIG} is gone; {_REMEDIES[CONFIG]}")
    if missing:
        raise RunError(f"{path}: its {MANIFEST} is gone; {_REMEDY}")
    return read_json(path / MANIFEST)


def verify_run(path: str | Path) -> list[str]:
    """Everything that is wrong with a run, as sentences; empty when it is sound.

    Every stage of the manifest must be there as the manifest has it. Every output of every finished
    stage is read in full, and every stage's inputs must be what the earlier stages hold now.
    """
    path = Path(path)
    listed = read_run(path).get("stages")
    if not isinstance(listed, dict):
        return [f"{path / MANIFEST}: lists no stages; {_REMEDIES[MANIFEST]}"]
    problems: list[str] = []
    records = {record["name"]: record for record in stage_records(path)}
    if not records and not listed:
        problems.append(f"{path}: no stage was begun")
    for name in sorted(listed.keys() - records.keys()):
        problems.append(
            f"stage {name}: {MANIFEST} lists it, and {path / name / STAGE} is gone; put the folder "
            "back, or run the command that made the run again"
        )
    for name in sorted(records.keys() & listed.keys()):
        if records[name] != listed[name]:
            problems.append(f"stage {name}: {MANIFEST} says other things of it; {_REMEDY}")
    for name in sorted(records.keys() - listed.keys()):
        problems.append(f"stage {name}: {MANIFEST} does not list it; {_REMEDY}")
    for name, record in records.items():
        if record["status"] != "done":
            reason = record.get("error", "the same command resumes it")
            problems.append(f"stage {name}: {record['status']} ({reason})")
            continue
        problems += damage(path, record, thorough=True)
        for key, value in record["identity"]["inputs"].items():
            if not (isinstance(value, dict) and value.get("stage") in records):
                continue
            source = records[value["stage"]]
            if source["status"] == "done" and value != reference(source):
                problems.append(
                    f"stage {name}: made from another {value['stage']} (input {key}) than the one "
                    "that is there now; run the same command with --fresh"
                )
    return problems


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted field -> (old value, new value) wherever two nested dictionaries differ."""
    before, after = dict(flat(old)), dict(flat(new))
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


def changes(old: Mapping[str, Any], new: Mapping[str, Any], ignore: Sequence[str] = ()) -> str:
    """The difference in lines for a person, but for the fields and sections in ``ignore``, in which
    ``*`` stands for any name."""
    known = [pattern for name in ignore for pattern in (name, f"{name}.*")]
    return "\n".join(
        f"  {field}: {before!r} -> {after!r}"
        for field, (before, after) in difference(old, new).items()
        if not any(fnmatchcase(field, pattern) for pattern in known)
    )


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted field, value) of nested dictionaries."""
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def stage_records(path: Path) -> list[dict[str, Any]]:
    records = [read_json(file) for file in path.glob(f"*/{STAGE}")]
    return sorted(records, key=lambda record: (record["order"], record["name"]))


def reference(record: Mapping[str, Any]) -> dict[str, Any]:
    """How a later stage names this one: what it was meant to be, and what it turned out to be."""
    hashes = {key: out["hash"] for key, out in record["outputs"].items() if "hash" in out}
    return {"stage": record["name"], "fingerprint": record["fingerprint"], "outputs": hashes}


def identify(path: Path) -> dict[str, str]:
    """Kind and content hash of an input or output."""
    if path.is_file():
        return {"kind": "file", "hash": files.sha256_file(path)}
    published = _published(path)
    if published is not None:
        return {"kind": "dataset", "hash": published}
    return {"kind": "folder", "hash": files.tree_hash(path, skip={STAGE})}


def _published(folder: Path) -> str | None:
    """The content hash of a published dataset, without loading Arrow; None if it is none.

    A dataset that lacks a shard, or has one with other content, is none.
    """
    try:
        value = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        hashes = {folder / shard["name"]: shard["sha256"] for shard in value["shards"]}
        whole = all(files.sha256_file(path) == known for path, known in hashes.items())
        return str(value["content_hash"]) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def damage(run: Path, record: Mapping[str, Any], thorough: bool = False) -> list[str]:
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
        elif thorough or output["kind"] != "folder":
            found = identify(path)
            if found != {"kind": output["kind"], "hash": output["hash"]}:
                problems.append(f"{where} changed; run the same command to make it again")
            if thorough and output["kind"] == "dataset":
                from step_ray.store import verify_store  # Arrow only where it is needed

                problems += verify_store(path)
    return problems


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(files.explain(error, path)) from error
    except ValueError as error:
        raise RunError(f"{path}: not JSON ({error}); {_remedy(path)}") from error
    if not isinstance(value, dict):
        raise RunError(f"{path}: not a JSON object; {_remedy(path)}")
    return value


def _remedy(path: Path) -> str:
    return _REMEDIES.get(path.name, _REMEDY)
