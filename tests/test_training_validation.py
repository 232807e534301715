"""Samples that are held out: watched, never trained, and a choice of the best model."""

from __future__ import annotations

import json
import random

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from test_training_loop import (  # noqa: E402
    CHECKPOINTS,
    EPISODES,
    HELD,
    PowerError,
    config,
    curve,
    same,
    start,  # noqa: F401 - a fixture
)

from step_ray.models.load import load_model, load_tokenizer  # noqa: E402
from step_ray.training import steps  # noqa: E402
from step_ray.training.alone import train_alone  # noqa: E402
from step_ray.training.checkpoint import TrainError, read_metrics  # noqa: E402
from step_ray.training.masks import tokenize  # noqa: E402
from step_ray.training.steps import learning_rate  # noqa: E402


def spoil(monkeypatch, off=None):
    """After step 10 the rate is so high that the model gets worse; the power may go off as well."""

    def hot(settings, now, total):
        if now == off:
            raise PowerError
        return 0.3 if now > 10 else learning_rate(settings, now, total)

    monkeypatch.setattr(steps, "learning_rate", hot)


def test_held_out_samples_are_watched_and_never_trained(start, tmp_path):  # noqa: F811
    settings = config(validation_fraction=0.25)
    result = train_alone(start, EPISODES, tmp_path, settings)
    metrics = read_metrics(tmp_path / "metrics.jsonl")
    seen = [line["step"] for line in metrics if "validation_loss" in line]
    assert len(seen) == 2  # the end of each epoch
    assert seen[-1] == metrics[-1]["steps"]
    held = json.loads((result.model / "training.json").read_text())["held_out"]
    assert held == 9
    # The loss is that of exactly these samples, in the model as it is.
    chosen = random.Random("step-ray held out 7").sample(range(36), 9)
    model, tokenizer = load_model(result.model), load_tokenizer(start)
    total, count = 0.0, 0
    for number in chosen:
        sample = tokenize(EPISODES[number], tokenizer)
        ids, wanted = torch.tensor([sample.input_ids]), torch.tensor(sample.loss_weights) > 0
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        total, count = total + float(each[wanted[1:]].sum()), count + int(wanted.sum())
    assert metrics[-1]["validation_loss"] == pytest.approx(total / count, rel=1e-4)
    assert {"validation_loss_correct", "validation_loss_correction"} <= metrics[-1].keys()


def test_watching_changes_nothing(start, tmp_path):  # noqa: F811
    for name, changes in (("often", {"validate_every_steps": 1}), ("seldom", {})):
        settings = config(validation_fraction=0.25, **changes)
        train_alone(start, EPISODES, tmp_path / name, settings)
    often, seldom = (
        curve(read_metrics(tmp_path / n / "metrics.jsonl")) for n in ("often", "seldom")
    )
    assert often == seldom


def test_the_best_model_is_published_also_after_an_interruption(start, tmp_path, monkeypatch):  # noqa: F811
    settings = config(**HELD, save_every_steps=4)
    spoil(monkeypatch)
    whole = train_alone(start, EPISODES, tmp_path / "whole", settings)
    metrics = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    seen = {m["step"]: m["validation_loss"] for m in metrics if "validation_loss" in m}
    best = min(seen, key=lambda step: seen[step])
    assert best < max(seen)  # it does get worse
    assert whole.metrics["step"] == best
    assert not (tmp_path / "whole" / CHECKPOINTS).exists()
    saved = best // 4 * 4 + 4  # a checkpoint that knows of the best model
    assert saved < metrics[-1]["step"]
    for off in (best + 2, saved + 1):
        output = tmp_path / f"off-{off}"
        spoil(monkeypatch, off=off)
        with pytest.raises(PowerError):
            train_alone(start, EPISODES, output, settings)
        names = sorted(path.name for path in (output / CHECKPOINTS).iterdir())
        assert f"best-{best:08d}" in names
        assert (f"step-{saved:08d}" in names) == (off > saved)
        spoil(monkeypatch)
        parts = train_alone(start, EPISODES, output, settings)
        assert parts.metrics["step"] == best
        same(parts.model, whole.model)
    # A better one came after the checkpoint, took the place of the best that it knows, and is not
    # as good once more, as sums round otherwise on other workers.
    spoil(monkeypatch, off=saved + 1)
    with pytest.raises(PowerError):
        train_alone(start, EPISODES, tmp_path / "gone", settings)
    known = tmp_path / "gone" / CHECKPOINTS / f"best-{best:08d}"
    known.rename(known.with_name(f"best-{saved + 1:08d}"))
    spoil(monkeypatch)
    parts = train_alone(start, EPISODES, tmp_path / "gone", settings)
    assert parts.metrics["step"] == min((s for s in seen if s > saved), key=lambda step: seen[step])
    # And it is the model of that step.
    until = config(**{**HELD, "keep": "last"}, save_every_steps=best)
    spoil(monkeypatch, off=best + 1)
    with pytest.raises(PowerError):
        train_alone(start, EPISODES, tmp_path / "until", until)
    same(whole.model, tmp_path / "until" / CHECKPOINTS / f"step-{best:08d}")


def test_too_little_to_hold_out(start, tmp_path):  # noqa: F811
    with pytest.raises(TrainError, match="holds out 0 of 4"):
        train_alone(start, EPISODES[:4], tmp_path, config(validation_fraction=0.1))
