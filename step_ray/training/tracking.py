"""Where metrics go while a training runs: a file always, and the trackers that the config names.

TensorBoard's event files lie beside ``metrics.jsonl``. Nothing leaves the machine unless the
environment says so: ``WANDB_MODE=online`` (with wandb's own key), ``MLFLOW_TRACKING_URI``.
"""

from __future__ import annotations

import importlib.util
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

from step_ray.config_training import TrainConfig
from step_ray.training.checkpoint import METRICS, MetricsFile
from step_ray.training.errors import TrainError
from step_ray.training.tally import Metrics

_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
_NOT_SCALARS = ("step", "steps")
_PROJECT = "step-ray"


class Tracker(Protocol):
    """Shows metrics to people."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """The scalars of one step, by name."""

    def close(self, failed: bool) -> None:
        """No more will come from this attempt."""


def check_trackers(config: TrainConfig) -> None:
    """Raises :class:`TrainError` if a tracker that the config names is not installed."""
    for name in config.trackers:
        if importlib.util.find_spec(_PACKAGES[name]) is None:
            extra = "torch" if name == "tensorboard" else "tracking"
            raise TrainError(
                f"training.trackers: {name} is not installed: pip install 'step-ray[{extra}]', or"
                " leave it out"
            )


class Journal:
    """``metrics.jsonl`` in ``output``, and the trackers; kept by one process of a training."""

    def __init__(self, output: Path, config: TrainConfig, name: str, step: int) -> None:
        """``name`` identifies the training: a resumed one goes on in its trackers after ``step``,
        which is the last that is known to be done."""
        self._file = MetricsFile(output / METRICS, step)
        self._trackers = [_open(kind, output, config, name, step) for kind in config.trackers]

    def append(self, metrics: Metrics) -> None:
        """One line of metrics."""
        self._file.append(metrics)
        values = {key: value for key, value in metrics.items() if key not in _NOT_SCALARS}
        for tracker in self._trackers:
            tracker.log(int(metrics["step"]), values)

    def close(self, failed: bool) -> None:
        """Ends the use of the trackers, until perhaps another attempt."""
        for tracker in self._trackers:
            tracker.close(failed)


class Journalled:
    """A report of a training that keeps a journal, from the first step on until it is left."""

    def __init__(self, output: Path, config: TrainConfig, name: str) -> None:
        self._journal_of = (output, config, name)
        self._journal: Journal | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._journal is not None:
            self._journal.close(failed=kind is not None)

    def begin(self, step: int, steps: int) -> None:
        """Opens the journal; ``step`` of all ``steps`` is the last that is done."""
        self._journal = Journal(*self._journal_of, step)

    def log(self, metrics: Metrics) -> None:
        """One line of it."""
        assert self._journal is not None
        self._journal.append(metrics)


def _open(kind: str, output: Path, config: TrainConfig, name: str, step: int) -> Tracker:
    if kind == "tensorboard":
        return TensorBoard(output / "tensorboard", step)
    if kind == "wandb":
        return WeightsAndBiases(output, config, name)
    return MLflow(output, config, name)


class TensorBoard:
    """Event files, shown by ``tensorboard --logdir``."""

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboardX import SummaryWriter

        # What an earlier attempt wrote after its last checkpoint comes again. Files are named by
        # the second, and one of the same name would be written over.
        own = f".{time.time_ns()}"
        self._writer = SummaryWriter(str(folder), purge_step=step + 1, filename_suffix=own)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # a killed worker has shown all it logged

    def close(self, failed: bool) -> None:
        self._writer.close()


class WeightsAndBiases:
    """wandb: offline, in the output folder, unless ``WANDB_MODE`` says otherwise."""

    def __init__(self, output: Path, config: TrainConfig, name: str) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]
            dir=output,
            id=name,
            name=output.name,
            resume="allow",
            config=config.model_dump(mode="json"),
            settings=wandb.Settings(console="off", silent=True, disable_git=True),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class MLflow:
    """MLflow: the server in ``MLFLOW_TRACKING_URI``, or a folder in the output folder."""

    def __init__(self, output: Path, config: TrainConfig, name: str) -> None:
        from mlflow import MlflowClient

        address = os.environ.get("MLFLOW_TRACKING_URI")
        if not address:
            # MLflow wants to be asked for a folder, since its servers are better with a database.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            address = (output / "mlruns").resolve().as_uri()
        self._client = MlflowClient(tracking_uri=address)
        project = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        found = self._client.get_experiment_by_name(project)
        experiment = found.experiment_id if found else self._client.create_experiment(project)
        tag = f"tags.`step_ray.training` = '{name}'"
        runs = self._client.search_runs([experiment], tag, max_results=1)
        if runs:
            self._run = runs[0].info.run_id
            self._client.update_run(self._run, "RUNNING")
            return
        tags = {"step_ray.training": name}
        self._run = self._client.create_run(experiment, tags=tags, run_name=output.name).info.run_id
        for key, value in config.model_dump(mode="json").items():
            self._client.log_param(self._run, key, str(value)[:500])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        now = int(time.time() * 1000)
        try:
            self._client.log_batch(
                self._run, [Metric(key, value, now, step) for key, value in values.items()]
            )
        except MlflowException as error:  # a server's outage must not cost the training
            warnings.warn(f"mlflow lacks step {step}, {METRICS} has it: {error}", stacklevel=2)

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")
