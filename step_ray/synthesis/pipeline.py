"""Episodes at scale: specs -> Ray Data actors -> Parquet, then one publication.

Work is at-least-once: Ray Data re-runs the blocks of a lost worker, and its checkpoint of
finished ids lets a killed driver go on where it was. Publication is exactly-once: raw files are
deduplicated by id, compared with the specs, ordered by id and published by manifest.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.checkpoint import CheckpointConfig

from step_ray import faults, store
from step_ray.envs.pool import FATES
from step_ray.models.base import ChatModel
from step_ray.progress import StageProgress
from step_ray.schema import SCHEMA
from step_ray.synthesis import raw
from step_ray.synthesis.episode import EpisodeResult
from step_ray.synthesis.metrics import StageMetrics
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.worker import EpisodeWorker, WorkerSettings
from step_ray.teacher.base import Teacher
from step_ray.trajectory import canonical_json

_UNSHOWN = ("steps", "corrections")  # counts for metrics alone: a line of progress is short
PHASES = ("env", "student", "teacher", "queue")
_LOST = ("env_timeout", "env_error")
ASKED = ("asked", "prompt tokens", "of them cached", "reply tokens")
RAW_SCHEMA = (
    SCHEMA.append(
        pa.field("phase_seconds", pa.struct([pa.field(phase, pa.float64()) for phase in PHASES]))
    )
    .append(pa.field("env_fates", pa.struct([pa.field(fate, pa.int32()) for fate in FATES])))
    .append(pa.field("student", pa.struct([pa.field(name, pa.int64()) for name in ASKED])))
)


class PipelineError(RuntimeError):
    """The episodes of a stage could not all be made; says which and what to do."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Ray resources: ``workers`` actors of ``cpus`` each, on nodes with these ``labels``;
    ``block_size`` episodes are one unit of work (what a crash can lose), ``blocks_in_flight`` of
    them run side by side in an actor."""

    workers: int = 2
    cpus: float = 0.9
    gpus: float = 0.0
    block_size: int = 16
    blocks_in_flight: int = 3
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """``seconds``: wall time summed over episodes, by phase. ``environments``: how often one hung
    (``env_timeout``) or failed (``env_error``), how many were ``replaced``, and how many
    ``recycled`` for their memory. ``student``: what the students were asked, by the names of
    :meth:`~step_ray.models.traffic.Traffic.counts`."""

    seconds: dict[str, float]
    environments: dict[str, int]
    student: dict[str, float]


@ray.remote(num_cpus=0)
class Board:
    """Running counts of all workers, for the progress bar."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, counts: Mapping[str, int]) -> None:
        self.counts.update(counts)

    def read(self) -> dict[str, int]:
        return dict(self.counts)


def episode_counts(result: EpisodeResult, reason: str, fates: Mapping[str, int]) -> dict[str, int]:
    """What one episode adds to the running counts."""
    trajectory = result.trajectory
    counts = {
        "done": 1,
        "success": int(trajectory.success),
        "errors": trajectory.errors,
        "recovered": trajectory.corrections if trajectory.success else 0,
        "steps": sum(turn.executed for turn in trajectory.turns),
        "corrections": trajectory.corrections,
    }
    if trajectory.outcome.endswith("_timeout"):
        counts["deadlines"] = 1
    if reason:
        counts[f"dropped {reason}"] = 1
    counts |= {f"environments {fate}": count for fate, count in fates.items() if count}
    return counts


class _Blocks:
    """The class Ray Data runs in its actors: a batch of specs in, a batch of rows out."""

    def __init__(
        self,
        settings: WorkerSettings,
        load: Callable[[str], ChatModel],
        connect: Callable[[], Teacher] | None,
        board: Any,
    ) -> None:
        self._worker = EpisodeWorker(
            settings,
            load,
            connect() if connect else None,
            lambda *done: board.add.remote(episode_counts(*done)),
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        specs = [EpisodeSpec(**json.loads(text)) for text in batch.column("spec").to_pylist()]
        return pa.Table.from_pylist(self._worker.run_block(specs), schema=RAW_SCHEMA)

    def __del__(self) -> None:  # Ray Data's way to tell an actor's class that it is over
        worker = getattr(self, "_worker", None)
        if worker is not None:
            worker.close()


def run_episodes(
    specs: Sequence[EpisodeSpec],
    folder: Path,
    settings: WorkerSettings,
    load: Callable[[str], ChatModel],
    connect: Callable[[], Teacher] | None,
    pool: Pool,
    bar: StageProgress,
    lineage: Mapping[str, Any],
    counts: Callable[[], Mapping[str, float]] = dict,
) -> Made:
    """Runs ``specs`` on the cluster and publishes all their rows in ``folder``.

    Rows made before an interruption are kept and not run again. ``load`` and ``connect`` are
    called in the workers, ``counts`` here, for what else the line of progress should show.

    Raises :class:`PipelineError` if some episode is missing in the end, StoreError if the folder
    cannot be written.
    """
    _check_fits(pool, bar.note)
    folder.mkdir(parents=True, exist_ok=True)
    planned = folder / "specs"
    _write_specs(specs, planned, pool.block_size)
    wanted = {spec.id for spec in specs}
    raw.quarantine_damaged(folder, bar.note)
    finished = {row["id"] for row in raw.rows(raw.complete(folder), ["id"])} & wanted
    bar.set(completed=len(finished))
    if plan := faults.plan():
        settings = replace(settings, faults=plan.of_episodes([spec.id for spec in specs]))
    faults.point("planned")
    if len(finished) < len(specs):
        board = Board.remote()  # type: ignore[attr-defined]
        metrics = StageMetrics(settings.env, folder.name)
        with (
            _watching(board, bar, len(finished), counts, metrics),
            _checkpointing(folder / raw.CHECKPOINTS),
        ):
            blocks = -(-len(specs) // pool.block_size)
            (
                ray.data.read_parquet(str(planned))
                .repartition(blocks)  # many small files are read as one block otherwise
                .map_batches(
                    _Blocks,
                    fn_constructor_args=(settings, load, connect, board),
                    batch_size=None,
                    batch_format="pyarrow",
                    compute=ActorPoolStrategy(
                        size=min(pool.workers, blocks),
                        max_tasks_in_flight_per_actor=pool.blocks_in_flight,
                        max_concurrent_calls_per_actor=pool.blocks_in_flight,
                        enable_true_multi_threading=True,
                    ),
                    num_cpus=pool.cpus,
                    num_gpus=pool.gpus,
                    **({"label_selector": dict(pool.labels)} if pool.labels else {}),
                )
                .write_parquet(str(folder / raw.RAW), compression="zstd", write_page_checksum=True)
            )
        ray.kill(board)
    faults.point("before-publish")
    return _publish(wanted, raw.complete(folder), folder, lineage, bar.note)


def _publish(
    wanted: Set[str],
    paths: Sequence[Path],
    folder: Path,
    lineage: Mapping[str, Any],
    note: Callable[[str], None],
) -> Made:
    """Publishes the wanted rows of the raw files."""
    seen: set[str] = set()
    seconds: Counter[str] = Counter()
    environments: Counter[str] = Counter(dict.fromkeys((*_LOST, *FATES), 0))
    student: Counter[str] = Counter()
    for row in raw.rows(paths, ["id", "outcome", "phase_seconds", "env_fates", "student"]):
        if row["id"] in wanted and row["id"] not in seen:
            seen.add(row["id"])
            seconds.update(row["phase_seconds"])
            environments.update(row.get("env_fates") or {})
            environments[row["outcome"]] += row["outcome"] in _LOST
            asked = row.get("student") or {}
            student.update({name: count for name, count in asked.items() if count})
    missing = wanted - seen
    if missing:
        raise PipelineError(
            f"{len(missing)} of {len(wanted)} episodes left no row in {folder / raw.RAW} (first: "
            f"{min(missing)}); run the same command again to make them"
        )
    fates = {name: environments[name] for name in (*_LOST, *FATES)}
    made = Made(dict(seconds), fates, dict(student))
    extra = {**lineage, "environments": made.environments}
    store.publish(folder, store.raw_tables(paths, wanted), extra=extra, note=note)
    return made


def _write_specs(specs: Sequence[EpisodeSpec], planned: Path, block_size: int) -> None:
    shutil.rmtree(planned, ignore_errors=True)
    planned.mkdir(parents=True)
    for start in range(0, len(specs), block_size):
        block = specs[start : start + block_size]
        table = pa.table(
            {
                "id": [spec.id for spec in block],
                "spec": [canonical_json(spec.to_dict()) for spec in block],
            }
        )
        pq.write_table(table, planned / f"{start:08d}.parquet")


def _check_fits(pool: Pool, note: Callable[[str], None]) -> None:
    """A pool that one machine can never hold is refused at once instead of waiting for ever.

    Where there are several, or a head that takes no work, an autoscaler may bring more: then it is
    only said what is waited for.
    """
    total = ray.cluster_resources()
    alone = sum(node["Alive"] for node in ray.nodes()) == 1 and total.get("CPU", 0.0) > 0
    for name, each in (("CPU", pool.cpus), ("GPU", pool.gpus)):
        if pool.workers * each > total.get(name, 0.0):
            wanted = f"{pool.workers} workers of {each:g} {name} each"
            there = f"{total.get(name, 0.0):g}"
            if alone:
                raise PipelineError(
                    f"{wanted} do not fit the cluster's {there}: set synthesis.workers lower"
                )
            note(f"{wanted} wait for nodes: the cluster has {there}")


@contextlib.contextmanager
def _checkpointing(path: Path) -> Iterator[None]:
    context = DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="id", checkpoint_path=str(path), delete_checkpoint_on_success=False
    )
    context.enable_progress_bars = False
    # The newer reader starts dozens of actors to look at file footers; the specs are a few kB.
    context.use_datasource_v2 = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        yield
    finally:
        context.checkpoint_config = None


@contextlib.contextmanager
def _watching(
    board: Any,
    bar: StageProgress,
    before: int,
    others: Callable[[], Mapping[str, float]],
    metrics: StageMetrics,
) -> Iterator[None]:
    """Shows the workers' counts and those of ``others`` while the driver waits for the data."""
    stop = threading.Event()

    def show() -> None:
        counts: dict[str, Any] = {**ray.get(board.read.remote()), **others()}
        metrics.update(counts)
        done = before + counts.pop("done", 0)
        bar.set(completed=done, **{name: n for name, n in counts.items() if name not in _UNSHOWN})
        faults.point("episodes-done", done)

    def watch() -> None:
        while not stop.wait(0.5):
            show()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
        show()
    finally:
        stop.set()
        thread.join()
