"""Metrics in TensorBoard, wandb and MLflow, also across an interruption; nothing leaves here."""

from __future__ import annotations

import importlib.util
import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tensorboardX")

from test_training_loop import (  # noqa: E402
    EPISODES,
    HELD,
    PowerError,
    config,
    interrupt,
    start,  # noqa: F401 - a fixture
)

from step_ray.training.alone import train_alone  # noqa: E402
from step_ray.training.checkpoint import TrainError, read_metrics  # noqa: E402

WANTED = {
    "loss",
    "loss_correct",
    "loss_error",
    "loss_correction",
    "lr",
    "tokens_per_second",
    "trained_tokens_per_second",
    "grad_norm",
    "memory_gb",
}


def in_two_parts(start, output, monkeypatch, **changes):  # noqa: F811
    """A training that was interrupted at step 8, after a checkpoint at step 5."""
    settings = config(**changes)
    interrupt(monkeypatch, 8)
    with pytest.raises(PowerError):
        train_alone(start, EPISODES, output, settings)
    monkeypatch.undo()
    train_alone(start, EPISODES, output, settings)
    return read_metrics(output / "metrics.jsonl")


def scalars(folder):
    """tag -> {step: value}, as TensorBoard reads it: later files purge what they write again."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter  # noqa: F401 - the format's own module

    found: dict[str, dict[int, float]] = {}
    files = sorted(folder.glob("events*"))
    for file in files:
        data, at = file.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + size])
            at += 12 + size + 4
            if event.HasField("session_log") and event.session_log.status == 1:  # a new start
                for steps in found.values():
                    for step in [step for step in steps if step >= event.step]:
                        del steps[step]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found, len(files)


def test_tensorboard_by_default(start, tmp_path, monkeypatch):  # noqa: F811
    metrics = in_two_parts(start, tmp_path, monkeypatch, **HELD)
    found, files = scalars(tmp_path / "tensorboard")
    assert files == 2
    assert found.keys() >= WANTED | {"validation_loss", "validation_loss_error"}
    assert found["loss"] == pytest.approx({line["step"]: line["loss"] for line in metrics})
    assert found["validation_loss"] == pytest.approx(
        {line["step"]: line["validation_loss"] for line in metrics if "validation_loss" in line}
    )


def test_no_tracker_at_all(start, tmp_path):  # noqa: F811
    train_alone(start, EPISODES[:8], tmp_path, config(epochs=1, trackers=()))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "metrics.jsonl",
        "model",
        "samples.parquet",
    ]


def test_mlflow_in_a_folder(start, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install '.[tracking]'")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    metrics = in_two_parts(start, tmp_path, monkeypatch, trackers=("mlflow",))
    client = MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    (experiment,) = (e for e in client.search_experiments() if e.name == "step-ray")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.003"
    assert run.data.metrics.keys() >= WANTED
    history = {one.step: one.value for one in client.get_metric_history(run.info.run_id, "loss")}
    assert history == pytest.approx({line["step"]: line["loss"] for line in metrics})


def test_wandb_offline(start, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip("wandb", reason="wandb is not installed: pip install '.[tracking]'")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    metrics = in_two_parts(start, tmp_path, monkeypatch, trackers=("wandb",))
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    found, names = {}, set()
    for file in sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb")):
        names.add(file.name)
        store = DataStore()
        store.open_for_scan(str(file))
        while (data := store.scan_data()) is not None:
            record = Record.FromString(data)
            items = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            if items:
                found[items["_step"]] = items
    assert len(names) == 1  # one run, resumed
    assert {step: items["loss"] for step, items in found.items()} == pytest.approx(
        {line["step"]: line["loss"] for line in metrics}
    )
    assert found[1].keys() >= WANTED


@pytest.mark.parametrize(("name", "extra"), [("tensorboard", "torch"), ("wandb", "tracking")])
def test_a_tracker_that_is_not_there(start, tmp_path, monkeypatch, name, extra):  # noqa: F811
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(TrainError, match=rf"{name} is not installed.*step-ray\[{extra}\]"):
        train_alone(start, EPISODES, tmp_path / "out", config(trackers=(name,)))
    assert not (tmp_path / "out").exists()
