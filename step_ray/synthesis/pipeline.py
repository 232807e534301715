"""Episodes at scale: specs -> Ray Data actors -> Parquet, then one publication.

Work is at-least-once: a worker writes the rows of a block as they come, in files that are whole or
not there; Ray Data gives the blocks of a lost worker to another, which runs what has no row, and
after a killed driver only specs without a row are run, or with one of a disturbed episode.
Publication is exactly-once: raw files are deduplicated by id, compared with the specs, ordered by
id and published by manifest. A stage that models have failed too often is not published.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext

from step_ray import faults, store
from step_ray.envs.pool import FATES
from step_ray.models.base import ChatModel
from step_ray.models.nearby import beside_driver
from step_ray.progress import StageProgress
from step_ray.schema import SCHEMA
from step_ray.synthesis import raw
from step_ray.synthesis.metrics import StageMetrics
from step_ray.synthesis.placement import PipelineError, cpus_for
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.worker import EpisodeWorker, WorkerSettings
from step_ray.teacher.base import Teacher
from step_ray.trajectory import canonical_json

_UNSHOWN = ("steps", "corrections")  # counts for metrics alone: a line of progress is short
PHASES = ("env", "student", "teacher", "queue")
LOST = ("env_timeout", "env_error")  # the environment is not to be used again
ASKED = ("asked", "prompt tokens", "of them cached", "reply tokens")
RAW_SCHEMA = (
    SCHEMA.append(
        pa.field("phase_seconds", pa.struct([pa.field(phase, pa.float64()) for phase in PHASES]))
    )
    .append(pa.field("env_fates", pa.struct([pa.field(fate, pa.int32()) for fate in FATES])))
    .append(pa.field("student", pa.struct([pa.field(name, pa.int64()) for name in ASKED])))
    .append(raw.DISTURBED)
)


@dataclass(frozen=True, slots=True)
class Pool:
    """``workers`` actors with what CPU there is, on nodes with these ``labels``;
    ``block_size`` episodes are one unit of work, ``blocks_in_flight`` of them run side by side in
    an actor. ``wait``: seconds until a cluster without room is given up.
    """

    workers: int = 2
    block_size: int = 16
    blocks_in_flight: int = 3
    labels: Mapping[str, str] = field(default_factory=dict)
    wait: float = 60.0


@dataclass(frozen=True, slots=True)
class Made:
    """``seconds``: wall time summed over episodes, by phase, and of writing files (``write``).
    ``environments``: how often one hung (``env_timeout``) or failed (``env_error``), and the
    ``FATES`` of :mod:`step_ray.envs.pool`. ``student``: what the students were asked, by the names
    of :meth:`~step_ray.models.traffic.Traffic.counts`."""

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


def counts_of(row: Mapping[str, Any]) -> dict[str, int]:
    """What one episode's row adds to the line of progress."""
    counts = {"success": int(row["success"])}
    if row["provenance"]["teacher"]:
        counts["errors"] = row["errors"]
        counts["recovered"] = row["corrections"] if row["success"] else 0
    elif row["errors"]:  # which the environment's judge found, and nobody corrected
        counts["errors made"] = row["errors"]
        counts["recovered"] = row["errors"] if row["success"] else 0
    if row["outcome"].endswith("_timeout"):
        counts["deadlines"] = 1
    if row["drop_reason"]:
        counts[f"dropped {row['drop_reason']}"] = 1
    fates = row.get("env_fates") or {}
    return counts | {f"environments {fate}": count for fate, count in fates.items() if count}


def tolerated(episodes: int) -> int:
    """How many episodes of a stage models may fail: a tenth, of few episodes ten, but no more than
    half of them."""
    return min(max(episodes // 10, 10), episodes // 2)


def failed_by_model(row: Mapping[str, Any]) -> bool:
    """Whether a model that was gone or too late ended an episode. An environment that fails is no
    reason to stop a stage: the engine may be unable to play that task."""
    return bool(row.get("disturbed")) and row["outcome"] not in LOST


class _Blocks:
    """The class Ray Data runs in its actors: a batch of specs in, raw files of rows on disk, and
    their number, the seconds of writing them and how many of them a model failed out."""

    def __init__(
        self,
        settings: WorkerSettings,
        load: Callable[[str], ChatModel],
        connect: Callable[[], Teacher] | None,
        board: Any,
        folder: Path,
    ) -> None:
        self._folder, self._board = folder, board
        self._worker = EpisodeWorker(settings, load, connect() if connect else None)

    def __call__(self, batch: pa.Table) -> pa.Table:
        specs = [EpisodeSpec(**json.loads(text)) for text in batch.column("spec").to_pylist()]
        ids = [spec.id for spec in specs]
        block = raw.Block(self._folder, ids, RAW_SCHEMA, self._count)
        left = [spec for spec in specs if spec.id not in block.done]
        try:
            rows = self._worker.run_block(left, block.add)
        finally:  # what has ended is kept, whatever ends the block
            block.close()
        failed = sum(failed_by_model(row) for row in rows)
        return pa.table({"rows": [len(specs)], "seconds": [block.seconds], "failed": [failed]})

    def _count(self, rows: Sequence[Mapping[str, Any]]) -> None:
        counts: Counter[str] = Counter()
        for row in rows:
            steps = sum(turn["executed"] for turn in row["turns"])
            counts.update(
                {**counts_of(row), "done": 1, "steps": steps, "corrections": row["corrections"]}
            )
        self._board.add.remote(counts)

    def __del__(self) -> None:  # Ray Data's way to tell an actor's class that it is over
        worker = getattr(self, "_worker", None)
        if worker is not None:
            worker.close()


def unfinished(
    specs: Sequence[EpisodeSpec], folder: Path, note: Callable[[str], None]
) -> list[EpisodeSpec]:
    """Those of ``specs`` that have no row in ``folder`` yet. What a crash has left there is cleared
    away or quarantined, of which ``note`` is told."""
    raw.prepare(folder, note)
    finished = {row["id"] for row in raw.rows(raw.complete(folder), ["id"])}
    return [spec for spec in specs if spec.id not in finished]


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
    left: Sequence[EpisodeSpec] | None = None,
) -> Made:
    """Runs ``specs`` on the cluster and publishes all their rows in ``folder``, which all machines
    see.

    Rows made before an interruption are kept and not run again, but for disturbed episodes.
    ``load`` and ``connect`` are called in the workers, ``counts`` here, for what else the line of
    progress should show; ``left`` is what :func:`unfinished` has found already.

    Raises :class:`PipelineError` if the pool does not fit the cluster, if models failed more
    episodes than are :func:`tolerated`, as soon as that is so, or if some episode is missing in the
    end, StoreError if the folder cannot be written.
    """
    if left is None:
        left = unfinished(specs, folder, bar.note)
    wanted, written = {spec.id for spec in specs}, 0.0
    finished = len(wanted - {spec.id for spec in left})
    bar.set(completed=finished)
    if plan := faults.plan():
        settings = replace(settings, faults=plan.of_episodes([spec.id for spec in specs]))
    faults.point("planned")
    if left:
        written = _play(left, len(wanted), folder, settings, load, connect, pool, bar, counts)
    faults.point("before-publish")
    raw.settle(folder)
    return _publish(wanted, raw.complete(folder), folder, lineage, bar, written)


def _play(
    left: Sequence[EpisodeSpec],
    planned: int,
    folder: Path,
    settings: WorkerSettings,
    load: Callable[[str], ChatModel],
    connect: Callable[[], Teacher] | None,
    pool: Pool,
    bar: StageProgress,
    counts: Callable[[], Mapping[str, float]],
) -> float:
    """Has what is ``left`` of the ``planned`` episodes played, until they are or models have failed
    too many; returns the seconds that writing took."""
    written, failed = 0.0, 0
    blocks = list(_blocks(left, pool.block_size))
    workers = min(pool.workers, len(blocks))
    cpus = cpus_for(workers, pool.wait, bar.note, pool.labels)
    near: Any = Board.options(scheduling_strategy=beside_driver())  # type: ignore[attr-defined]
    board = near.remote()
    metrics = StageMetrics(settings.env, folder.name)
    with _watching(board, bar, planned - len(left), counts, metrics), _quiet_data():
        # from_arrow would start a task for each block, to look at it.
        results = ray.data.from_blocks(blocks).map_batches(
            _Blocks,
            fn_constructor_args=(settings, load, connect, board, folder),
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                size=workers,
                max_tasks_in_flight_per_actor=pool.blocks_in_flight,
                max_concurrent_calls_per_actor=pool.blocks_in_flight,
                enable_true_multi_threading=True,
            ),
            num_cpus=cpus,
            **({"label_selector": dict(pool.labels)} if pool.labels else {}),
        )
        for done in results.iter_batches(batch_size=None, prefetch_batches=0):
            written += float(done["seconds"].sum())
            failed += int(done["failed"].sum())
            faults.point("block-done")
            if failed > tolerated(planned):
                break  # which makes Ray Data stop its workers
    ray.kill(board)
    return written


def _publish(
    wanted: Set[str],
    paths: Sequence[Path],
    folder: Path,
    lineage: Mapping[str, Any],
    bar: StageProgress,
    written: float,
) -> Made:
    """Publishes the wanted rows of the raw files, and shows what they count to: a worker that was
    killed may have kept its last counts to itself. ``written``: seconds that it took to write."""
    seen: set[str] = set()
    counts: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    environments: Counter[str] = Counter(dict.fromkeys((*LOST, *FATES), 0))
    student: Counter[str] = Counter()
    failed: Counter[tuple[str, str]] = Counter()
    columns = ["id", "outcome", "success", "errors", "corrections", "drop_reason", "provenance"]
    columns += ["detail", "phase_seconds", "env_fates", "student", "disturbed"]
    for row in raw.rows(paths, columns):
        if row["id"] in wanted and row["id"] not in seen:
            seen.add(row["id"])
            counts.update(counts_of(row))
            seconds.update(row["phase_seconds"])
            environments.update(row.get("env_fates") or {})
            environments[row["outcome"]] += row["outcome"] in LOST
            asked = row.get("student") or {}
            student.update({name: count for name, count in asked.items() if count})
            if failed_by_model(row):
                failed[row["outcome"], row["detail"]] += 1
    if failed.total() > tolerated(len(wanted)):
        raise PipelineError(_too_many(failed, len(wanted), len(seen), folder))
    missing = wanted - seen
    if missing:
        raise PipelineError(
            f"{len(missing)} of {len(wanted)} episodes left no row in {folder / raw.RAW} (first: "
            f"{min(missing)}); run the same command again to make them"
        )
    bar.set(completed=len(seen), **counts)
    fates = {name: environments[name] for name in (*LOST, *FATES)}
    began, extra = time.perf_counter(), {**lineage, "environments": fates}
    store.publish(
        folder, store.raw_tables(paths, wanted, rows_at_once=2_000), extra=extra, note=bar.note
    )
    written += time.perf_counter() - began
    return Made({**seconds, "write": written}, fates, dict(student))


def _too_many(failed: Counter[tuple[str, str]], planned: int, played: int, folder: Path) -> str:
    by_outcome: Counter[str] = Counter()
    for (outcome, _), count in failed.items():
        by_outcome[outcome] += count
    kinds = ", ".join(f"{count} {outcome}" for outcome, count in by_outcome.most_common())
    [((_, why), _)] = failed.most_common(1)
    return (
        f"{folder}: models failed {failed.total()} of {planned} episodes ({kinds}), and "
        f"{tolerated(planned)} at most may be lost; most often: {why}; mend the model or its "
        "server (or raise synthesis.deadlines), and run the same command again: these episodes are "
        f"played again, the other {played - failed.total()} are kept"
    )


def _blocks(specs: Sequence[EpisodeSpec], size: int) -> Iterator[pa.Table]:
    for start in range(0, len(specs), size):
        texts = [canonical_json(spec.to_dict()) for spec in specs[start : start + size]]
        yield pa.table({"spec": texts})


@contextlib.contextmanager
def _quiet_data() -> Iterator[None]:
    """Ray Data without bars of its own; a worker that dies while it starts is replaced too."""
    context = DataContext.get_current()
    before = context.enable_progress_bars, context.max_consecutive_actor_init_deaths
    context.enable_progress_bars, context.max_consecutive_actor_init_deaths = False, 5
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # there are no bars
    try:
        yield
    finally:
        context.enable_progress_bars, context.max_consecutive_actor_init_deaths = before


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
