"""``step-ray import``: records of others become a published dataset of trajectories."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from step_ray import files, store
from step_ray._version import __version__
from step_ray.bucket import Place, place
from step_ray.envs.base import TextEnv
from step_ray.envs.terminal import open_env
from step_ray.exchange.chats import Recorded, chat_of
from step_ray.exchange.oracle_log import log_of
from step_ray.exchange.records import ExchangeError, Record, Rejected, read_records
from step_ray.exchange.replay import replay
from step_ray.exchange.tasks import Tasks
from step_ray.mirror import mirror
from step_ray.schema import to_row
from step_ray.trajectory import Outcome, Provenance, Trajectory, content_hash

IMPORTS: dict[str, Callable[[Any], Recorded]] = {
    "eto": lambda value: chat_of(value, "conversations", ("task", "game_file", "id")),
    "agentgym": lambda value: chat_of(value, "conversations", ("task", "item_id")),
    "messages": lambda value: chat_of(value, "messages", ("task", "id")),
    "scienceworld-log": log_of,
}
"""Format -> what reads one record of it, or raises Rejected."""

Told = Callable[..., None]
"""Is called after each record, with what came of it as the one keyword, of value 1."""

REJECTED = "rejected.jsonl"
_SHOWN = 3  # rejected records that are named for each reason; all are in REJECTED


@dataclass(frozen=True, slots=True)
class Import:
    """What to import.

    ``env``: the environment that the records are of; with ``replayed`` they are played again in
    it, made from ``data`` and ``settings`` (``option=value``), and ``strict`` compares what they
    say it answers. ``reward``: that of records that neither state one nor are replayed.
    ``min_reward``: trajectories below it are published as dropped.
    """

    format: str
    source: Path
    output: str | Place
    env: str | None = None
    data: Path | None = None
    settings: Sequence[str] = ()
    replayed: bool = True
    strict: bool = True
    reward: float | None = None
    min_reward: float = 1.0


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the records; ``rejected`` are (where, reason, detail)."""

    kept: int
    dropped: int
    rejected: tuple[tuple[str, str, str], ...]


def import_records(wanted: Import, told: Told = lambda **_: None) -> Imported:
    """Imports a file or folder and publishes what it holds; ``told`` hears of each record.

    Records that are not imported are listed in ``rejected.jsonl`` next to the dataset and counted
    in its manifest. ``output`` may be in an object store: ``s3://bucket/folder``. Raises
    ExchangeError for an unknown format, or if nothing can be imported.
    """
    output = place(wanted.output)
    if isinstance(output, Path):
        return _import(wanted, output, told)
    with tempfile.TemporaryDirectory(prefix="step-ray-import-") as folder:
        imported = _import(wanted, Path(folder), told)
        (output / REJECTED).write_bytes((Path(folder) / REJECTED).read_bytes())
        mirror(Path(folder), output)
    return imported


def _import(wanted: Import, output: Path, told: Told) -> Imported:
    if wanted.format not in IMPORTS:
        raise ExchangeError(f"unknown format {wanted.format!r}; formats are {', '.join(IMPORTS)}")
    env = None
    if wanted.env is not None and wanted.replayed:
        env = open_env(wanted.env, wanted.data, wanted.settings)
    try:
        rejected: list[tuple[str, str, str]] = []
        rows = list(_rows(wanted, env, rejected, told))
    finally:
        if env is not None:
            env.close()
    reasons = Counter(reason for _, reason, _ in rejected)
    if not rows:
        where, reason, detail = rejected[0] if rejected else (str(wanted.source), "empty", "")
        raise ExchangeError(
            f"{wanted.source}: none of {len(rejected)} records can be imported as "
            f"{wanted.format} ({_counts(reasons)}); the first, {where}: {reason}: {detail}"
        )
    output.mkdir(parents=True, exist_ok=True)
    lines = [dict(zip(("record", "reason", "detail"), one, strict=True)) for one in rejected]
    files.write_text_atomic(output / REJECTED, "".join(json.dumps(line) + "\n" for line in lines))
    lineage = {
        "format": wanted.format,
        "source": wanted.source.name,
        "records": len(rows) + len(rejected),
        "rejected": dict(reasons.most_common()),
        "replayed": env is not None,
    }
    manifest = store.publish(output, rows, extra={"imported": lineage})
    return Imported(manifest.kept, manifest.rows - manifest.kept, tuple(rejected))


def as_text(found: Imported) -> str:
    """What a person is told: counts, and some rejected records for each reason."""
    lines = [f"{found.kept:7d}  kept", f"{found.dropped:7d}  dropped: low_reward"]
    reasons = Counter(reason for _, reason, _ in found.rejected)
    for reason, count in reasons.most_common():
        lines.append(f"{count:7d}  rejected: {reason}")
        named = [f"{where}: {detail}" for where, why, detail in found.rejected if why == reason]
        lines += [f"           {line:.200}" for line in named[:_SHOWN]]
    return "\n".join(lines)


def _rows(
    wanted: Import, env: TextEnv | None, rejected: list[tuple[str, str, str]], told: Told
) -> Iterator[dict[str, Any]]:
    tasks = Tasks(env) if env is not None else None
    seen: dict[str, str] = {}
    for record in read_records(wanted.source):
        try:
            row = _row(wanted, record, env, tasks)
            if row["id"] in seen:
                raise Rejected("duplicate", f"the same as {seen[row['id']]}")
        except Rejected as error:
            rejected.append((record.where, error.reason, error.detail))
            told(**{f"rejected {error.reason}": 1})
            continue
        told(imported=1)
        seen[row["id"]] = record.where
        yield row


def _row(
    wanted: Import, record: Record, env: TextEnv | None, tasks: Tasks | None
) -> dict[str, Any]:
    if record.problem:
        raise Rejected("unreadable", record.problem)
    recorded = IMPORTS[wanted.format](record.value)
    record_hash = content_hash(_plain(record.value))
    instruction, first, turns = recorded.instruction, recorded.first, recorded.turns
    reward = recorded.reward if recorded.reward is not None else wanted.reward
    name, split, task_type = recorded.env or wanted.env or "", recorded.split, recorded.task_type
    task_id = recorded.names[0] if recorded.names else ""
    provenance, ended = Provenance(code_version=__version__), True
    if env is not None and tasks is not None:
        task = tasks.find(recorded)
        played = replay(recorded, env, task, wanted.strict)
        name, split, task_type, task_id = env.name, task.split, task.type, task.id
        instruction, first, turns = played.first.instruction, played.first.text, played.turns
        reward, ended, provenance = played.reward, played.ended, played.provenance
    if reward is None:
        raise Rejected("no_reward", "it states none: replay it (--env) or say it (--reward)")
    success = ended and reward >= 1.0
    outcome: Outcome = "success" if success else "failure" if ended else "step_limit"
    spec = {
        "imported": wanted.format,
        "record": record_hash,
        "task": task_id,
        "build": provenance.env_build,
    }
    trajectory = Trajectory(
        id=content_hash(spec),
        task=task_id,
        env=name,
        split=split,
        task_type=task_type,
        instruction=instruction,
        initial_observation=first,
        turns=turns,
        reward=reward,
        success=success,
        outcome=outcome,
        provenance=provenance,
    )
    return to_row(trajectory, spec, "" if reward >= wanted.min_reward else "low_reward")


def _plain(value: Any) -> Any:
    """The record as JSON has it: Parquet knows types that JSON does not."""
    return json.loads(json.dumps(value, default=str))


def _counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
