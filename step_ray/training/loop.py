"""Training on Ray: Ray Train starts, watches and restarts the workers; the loop is ``steps.py``.

Workers map the tokenised samples of one Parquet file and index them themselves, by a plan that is a
pure function of seed and epoch. Ray Data's ``iter_torch_batches`` begins again at the first row
after a restart and deals rows to workers as they come, so neither an exact resume nor the same
curve for any number of workers could be had from it.

The stage folder has to be on storage that all nodes see: checkpoints are written there directly,
under Ray Train's book-keeping but without its copying, and the last one is renamed to be the model.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchTrainer
from ray.util.placement_group import placement_group, remove_placement_group

from step_ray import files
from step_ray.config_training import TrainConfig
from step_ray.models.base import ModelError
from step_ray.patience import PATIENT, Patience
from step_ray.training import table
from step_ray.training.batches import BatchPlan, busiest
from step_ray.training.checkpoint import (
    METRICS,
    TrainError,
    check_published,
    new_folder,
    publish,
    read_metrics,
    read_summary,
    sweep,
)
from step_ray.training.memory import OutOfMemory, advice
from step_ray.training.prepare import MODEL, Bar, Data, TrainResult, prepare
from step_ray.training.steps import Start, Write, train_loop
from step_ray.training.tally import Metrics, shown
from step_ray.training.tracking import Journalled

CHECKPOINTS = "checkpoints"
_FAILURE = "failure.txt"
_ABORT_SECONDS = 30
_UNEVEN = 1.3  # times as long as if all workers had as much to do: worth a word
_SAY_EVERY = 5.0  # seconds between two looks at what is lacking
_SHOWN_EVERY = 0.5  # seconds between two looks at the metrics
_ENVIRONMENT = {  # Ray Train's own; what the user has set stays
    # The controller looks at its workers this often, and notices their end no sooner.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # Workers import torch and transformers, which takes minutes on a crowded machine.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
}


def train(
    model: str | Path,
    data: Data,
    output: str | Path,
    config: TrainConfig,
    progress: Bar | None = None,
    wait: float = PATIENT.seconds,
) -> TrainResult:
    """Trains ``model`` on ``data`` with Ray; ``output / "model"`` is the trained model's folder.

    A killed worker is replaced and all go on from the last checkpoint; a killed driver goes on from
    there when this is called again; called again when done, it returns what is there. In ``output``
    are also ``metrics.jsonl``, one line every ``log_every_steps``, and the tokenised samples.
    ``wait``: seconds until a cluster without room for the workers is given up.

    Raises :class:`~step_ray.training.checkpoint.TrainError` or
    :class:`~step_ray.models.base.ModelError`, which say what to do.
    """
    model, output = Path(model).resolve(), Path(output).resolve()
    sweep(output)
    prepared = prepare(model, data, output, config)
    published = check_published(output / MODEL, prepared.fingerprint)
    if published is None:
        run = output / CHECKPOINTS / prepared.fingerprint
        if _finished(run) is None:
            _check_resources(config)
            settings = {
                "model": str(model),
                "output": str(output),
                "samples": str(prepared.path),
                "fingerprint": prepared.fingerprint,
                "config": config.model_dump(mode="json"),
            }
            if progress is not None and (said := uneven(prepared.samples.lengths, config)):
                progress.note(said)
            _wait_for_room(config, Patience(wait, progress.note) if progress else Patience(wait))
            with _shown(output / METRICS, progress):
                _fit(settings, run, config, max(prepared.samples.lengths))
        finished = _finished(run)
        if finished is None:
            raise TrainError(f"the training ended without a model; its checkpoints are in {run}")
        publish(finished, output / MODEL)
        published = check_published(output / MODEL, prepared.fingerprint) or {}
        shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
    return TrainResult(output / MODEL, published["metrics"], published["seconds"], prepared.facts)


def uneven(lengths: Sequence[int], config: TrainConfig) -> str:
    """What to say if workers wait for each other, as steps hold too few samples to share."""
    unit = 2 if config.loss == "dpo" else 1
    units = [sum(lengths[start : start + unit]) for start in range(0, len(lengths), unit)]
    plan = BatchPlan(
        units, config.tokens_per_batch, config.seed, samples_per_batch=config.samples_per_batch
    )
    longer = busiest(plan, config.workers)
    if longer < _UNEVEN:
        return ""
    field = "samples_per_batch" if config.samples_per_batch else "tokens_per_batch"
    return (
        f"steps hold {len(units) / plan.steps:.1f} samples for {config.workers} workers, so they "
        f"take {longer:.1f} times as long as if these could share them equally: raise "
        f"training.{field}, or take fewer training.workers"
    )


def _fit(settings: dict[str, Any], run: Path, config: TrainConfig, longest: int) -> None:
    least = config.min_workers
    workers = config.workers if least is None else (least, config.workers)
    (run / _FAILURE).unlink(missing_ok=True)
    trainer = _Trainer(
        _work,
        train_loop_config=settings,
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers, use_gpu=config.use_gpu, resources_per_worker=_each(config)
        ),
        run_config=ray.train.RunConfig(
            name=run.name,  # the same name finds its checkpoints again
            storage_path=str(run.parent),
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=config.num_to_keep),
        ),
    )
    environment = dict(_ENVIRONMENT)
    if len(_nodes()) == 1:  # then nobody is left when it is taken away: save an actor's start
        environment["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    if config.min_workers is not None:
        # Ray believes in a lost machine a little longer than its workers live: it waits so long for
        # a place there, and then looks for one again.
        environment["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "30"
    try:
        with _environment(environment):
            trainer.fit()
    except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
        if not (run / _FAILURE).exists():
            raise TrainError(_explain(error, config, longest)) from error
    except BaseException:
        trainer.abort()
        raise
    if (run / _FAILURE).exists():
        raise TrainError((run / _FAILURE).read_text("utf-8"))


def _explain(error: Exception, config: TrainConfig, longest: int) -> str:
    text = str(error)
    # Ray, or the system, ends the process that takes the most when a machine's memory runs out.
    memory = f" Memory ran out: {advice(config, longest)}." if "memory" in text.lower() else ""
    return (
        f"the training failed more than {config.max_failures} times (max_failures);{memory} Run it"
        f" again to go on from its last checkpoint. The last failure: {text}"
    )


class _Trainer(TorchTrainer):  # type: ignore[misc]
    """Leaves Ctrl-C alone: Ray's handler outlives the training and ends the program with code 0."""

    _controller: Any = None

    def _register_sigint_handler(self, controller: Any) -> None:
        self._controller = controller

    def abort(self) -> None:
        """Ends the workers and gives their resources back."""
        if self._controller is None:
            return
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self._controller.abort.remote(), timeout=_ABORT_SECONDS)
        ray.kill(self._controller)


def _work(settings: dict[str, Any]) -> None:
    """What every worker runs."""
    import torch

    config = TrainConfig.model_validate(settings["config"])
    torch.set_num_threads(config.threads_per_worker)
    output = Path(settings["output"])
    report = _RayReport(output, config, settings["fingerprint"])
    if (report.run / _FAILURE).exists():
        return  # it would fail again
    start = Start(Path(settings["model"]), settings["fingerprint"], report.run / "best")
    samples = table.read(Path(settings["samples"]))
    device = ray.train.torch.get_device() if config.use_gpu else torch.device("cpu")
    resume_from = _latest(report.run)
    if resume_from is not None and read_summary(resume_from) is not None:
        return  # the last attempt ended after its last checkpoint
    try:
        with report:
            train_loop(config, samples, report, start, resume_from, device)
    except OutOfMemory as error:
        # Of one worker, perhaps: the others have to be ended.
        files.write_text_atomic(report.run / _FAILURE, str(error))
        raise
    except (TrainError, ModelError, FloatingPointError) as error:
        # All workers are here, and would be again: no use in Ray starting them anew.
        if ray.train.get_context().get_world_rank() == 0:
            files.write_text_atomic(report.run / _FAILURE, str(error))


class _RayReport(Journalled):
    """Metrics to a file, checkpoints to the run's folder and to Ray Train's book-keeping."""

    def __init__(self, output: Path, config: TrainConfig, name: str) -> None:
        super().__init__(output, config, name)
        self.run = output / CHECKPOINTS / name

    def begin(self, step: int, steps: int) -> None:
        sweep(self.run)
        super().begin(step, steps)

    def checkpoint(self, metrics: Metrics, write: Write | None, final: bool) -> None:
        checkpoint = None
        if write is not None:
            target = self.run / (
                "checkpoint_final" if final else f"checkpoint_{int(metrics['step']):08d}"
            )
            shutil.rmtree(target, ignore_errors=True)  # of an attempt that Ray does not know of
            with new_folder(target) as folder:
                write(folder)
            checkpoint = ray.train.Checkpoint.from_directory(target)
        ray.train.report(
            dict(metrics),
            checkpoint=checkpoint,
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD,
        )


def _latest(run: Path) -> Path | None:
    """The last complete checkpoint of a run. Ray itself forgets one that a worker reported in the
    second or so before it died, so the folders tell, and all workers see the same: none writes
    before all are here."""
    steps = [path for path in run.glob("checkpoint_*") if re.fullmatch(r"\d{8}", path.name[11:])]
    return _finished(run) or max(steps, default=None)


def _finished(run: Path) -> Path | None:
    """The finished model among a run's checkpoints, if there is one."""
    found = run / "checkpoint_final"
    return found if read_summary(found) is not None else None


def _check_resources(config: TrainConfig) -> None:
    """Refuses what a cluster of one machine can never give: Ray would wait for it for ever."""
    nodes = _nodes()
    if len(nodes) != 1:
        return
    there = nodes[0]["Resources"]
    cpus = config.workers * config.threads_per_worker
    if 0 < there.get("CPU", 0) < cpus:
        raise TrainError(
            f"training needs {cpus} CPUs ({config.workers} workers of {config.threads_per_worker}),"
            f" Ray has {there['CPU']:g}: lower training.workers, or start Ray with num_cpus={cpus}"
        )
    if config.use_gpu and there.get("CPU", 0) and there.get("GPU", 0) < config.workers:
        raise TrainError(
            f"training needs {config.workers} GPUs, Ray has {there.get('GPU', 0):g}: lower"
            " training.workers, or set training.use_gpu to false"
        )


def _each(config: TrainConfig) -> dict[str, float]:
    """What one worker takes."""
    return {"CPU": config.threads_per_worker, **({"GPU": 1.0} if config.use_gpu else {})}


def _wait_for_room(config: TrainConfig, patience: Patience) -> None:
    """Waits until the cluster has room for the workers; Ray Train would do so for ever, and say
    nothing. An autoscaler sees what is asked for. Raises TrainError when the patience is over."""
    each, workers = _each(config), config.min_workers or config.workers
    wanted = f"{workers} workers with {_said(each)} each"
    until, told = time.monotonic() + patience.seconds, ""
    group = placement_group([each] * workers, strategy="PACK")
    try:
        while not group.wait(max(min(until - time.monotonic(), _SAY_EVERY), 0.1)):
            there = ray.available_resources()
            free = _said({name: there.get(name, 0.0) for name in each})
            if time.monotonic() >= until:
                raise TrainError(
                    f"{wanted} found no room on the cluster in {patience.seconds:g} s; free are "
                    f"{free}: lower training.workers or training.threads_per_worker, stop what "
                    "else runs there, or raise ray.wait_seconds"
                )
            if free != told:
                told = free
                patience.say(f"waiting for room on the cluster for {wanted}; free are {free}")
    finally:
        remove_placement_group(group)


def _said(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{count:g} {name}s" for name, count in resources.items())


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


@contextlib.contextmanager
def _shown(path: Path, progress: Bar | None) -> Iterator[None]:
    """Moves a progress bar along with what rank 0 writes."""
    if progress is None:
        yield
        return
    over = threading.Event()
    before = _identity(path)

    def look() -> None:
        seen = -1
        while True:
            last = over.wait(_SHOWN_EVERY)
            # Rank 0 begins with a new file; until then the old one tells of an earlier attempt.
            lines = read_metrics(path) if _identity(path) != before else []
            if lines and lines[-1]["step"] != seen:
                seen = lines[-1]["step"]
                progress.set(int(seen), int(lines[-1]["steps"]), **shown(lines[-1]))
            if last:
                return

    watcher = threading.Thread(target=look, name="training progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _identity(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _environment(defaults: dict[str, str]) -> Iterator[None]:
    mine = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)
