"""Training without Ray: in this process, or under ``torchrun`` in each of its processes.

The same loop, files and resume as ``step_ray.training.loop``; for experiments, for a machine with
nothing but torch, and as the reference that the Ray Train shell is compared with.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from torch import distributed as dist

from step_ray.config_training import TrainConfig
from step_ray.training.checkpoint import TrainError, check_published, new_folder, sweep
from step_ray.training.prepare import MODEL, Bar, Data, TrainResult, prepare
from step_ray.training.steps import Start, Write, train_loop
from step_ray.training.tally import Metrics, shown
from step_ray.training.tracking import Journalled

CHECKPOINTS = "checkpoints"
BEST = "best"


def train_alone(
    model: str | Path,
    data: Data,
    output: str | Path,
    config: TrainConfig,
    progress: Bar | None = None,
) -> TrainResult:
    """Trains ``model`` on ``data``; ``output / "model"`` is the trained model's folder.

    Run again after an interruption, it goes on from the last checkpoint; run again when done, it
    returns what is there. The processes are those that torchrun started, or this one alone,
    whatever ``config.workers`` says. Raises :class:`~step_ray.training.checkpoint.TrainError`.
    """
    model, output = Path(model), Path(output)
    if config.use_gpu and not torch.cuda.is_available():
        raise TrainError(
            "training.use_gpu: this machine has no CUDA device that torch can use; set it to false,"
            " or train where there is one (step-ray doctor says what torch sees)"
        )
    started = _join_group(config)
    try:
        prepared = prepare(model, data, output, config)
        published = check_published(output / MODEL, prepared.fingerprint)
        report = FileReport(output, config, prepared.fingerprint, progress)
        if published is None:
            # One process does the work of all workers, and has their threads.
            alone = not dist.is_initialized()
            torch.set_num_threads(config.threads_per_worker * (config.workers if alone else 1))
            device = torch.device("cuda", _local_rank()) if config.use_gpu else "cpu"
            start = Start(model, prepared.fingerprint, output / CHECKPOINTS / BEST)
            with report:
                train_loop(config, prepared.samples, report, start, report.latest(), device)
            if dist.is_initialized():
                dist.barrier()
            published = check_published(output / MODEL, prepared.fingerprint)
            assert published is not None  # the loop ends with its publication
    finally:
        if started:
            dist.destroy_process_group()
    return TrainResult(output / MODEL, published["metrics"], published["seconds"], prepared.facts)


class FileReport(Journalled):
    """Keeps checkpoints in a folder, the newest ones only, and publishes the last."""

    def __init__(
        self, output: Path, config: TrainConfig, name: str, progress: Bar | None = None
    ) -> None:
        super().__init__(output, config, name)
        self._output = output
        self._folder = output / CHECKPOINTS
        self._config = config
        self._progress = progress

    def latest(self) -> Path | None:
        """The newest checkpoint to resume from."""
        found = self._checkpoints()
        return found[-1] if found else None

    def _checkpoints(self) -> list[Path]:
        return sorted(self._folder.glob("step-*")) if self._folder.is_dir() else []

    def begin(self, step: int, steps: int) -> None:
        sweep(self._output, self._folder)
        super().begin(step, steps)
        if self._progress is not None:
            self._progress.set(step, steps)

    def log(self, metrics: Metrics) -> None:
        super().log(metrics)
        if self._progress is not None:
            self._progress.set(int(metrics["step"]), int(metrics["steps"]), **shown(metrics))

    def checkpoint(self, metrics: Metrics, write: Write | None, final: bool) -> None:
        if write is None:
            return
        if final:
            with new_folder(self._output / MODEL) as folder:
                write(folder)
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        with new_folder(self._folder / f"step-{int(metrics['step']):08d}") as folder:
            write(folder)
        for old in self._checkpoints()[: -self._config.num_to_keep]:
            shutil.rmtree(old)


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def _join_group(config: TrainConfig) -> bool:
    """Joins the group that torchrun describes, if it does and nobody has yet."""
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return False
    dist.init_process_group("nccl" if config.use_gpu else "gloo")
    if config.use_gpu:
        torch.cuda.set_device(_local_rank())
    return True
