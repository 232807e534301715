"""The loss by verdict: of masked turns too, which are watched and never trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from test_training_loop import EPISODES, config, curve, start  # noqa: E402, F401 - a fixture

from step_ray.models.load import load_model, load_tokenizer  # noqa: E402
from step_ray.training.alone import train_alone  # noqa: E402
from step_ray.training.checkpoint import read_metrics  # noqa: E402
from step_ray.training.masks import tokenize  # noqa: E402
from step_ray.training.table import from_samples  # noqa: E402
from step_ray.training.watch import watch  # noqa: E402


def naive(model, tokenizer):
    """The definition: logits of everything, one trajectory at a time, every turn trained."""
    sums = {}
    for one in EPISODES:
        sample = tokenize(one, tokenizer, "none")
        ids = torch.tensor([sample.input_ids])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        for span in sample.spans:
            mine = each[span.start - 1 : span.end - 1]
            total, count = sums.get(span.verdict, (0.0, 0))
            sums[span.verdict] = (total + float(mine.sum()), count + len(mine))
    return sums


@pytest.mark.parametrize("mask", ["partial", "none", "corrections_only"])
def test_every_verdict_whatever_is_trained(start, mask):  # noqa: F811
    model, tokenizer = load_model(start), load_tokenizer(start)
    found = watch(model, from_samples([tokenize(one, tokenizer, mask) for one in EPISODES]))
    expected = naive(model, tokenizer)
    assert found.keys() == expected.keys() == {"correct", "error", "correction"}
    for verdict, (total, count) in expected.items():
        assert found[verdict].tokens == count
        assert found[verdict].loss == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("packing", ["padded", "packed"])
def test_a_training_logs_errors_and_does_not_learn_them(start, tmp_path, packing):  # noqa: F811
    settings = config(packing=packing, learning_rate=1e-2, epochs=6)
    result = train_alone(start, EPISODES, tmp_path, settings)
    metrics = read_metrics(tmp_path / "metrics.jsonl")
    assert all("loss_error" in line for line in metrics)
    # The loss is of trained tokens alone: their mean lies between those of the two verdicts.
    for line in metrics:
        low, high = sorted((line["loss_correct"], line["loss_correction"]))
        assert low - 1e-6 <= line["loss"] <= high + 1e-6
    # Each error speaks of a shelf of its own, which a model knows only if it was taught.
    last = metrics[-1]
    assert last["loss_correction"] < last["loss_error"]
    tokenizer = load_tokenizer(start)
    samples = from_samples([tokenize(one, tokenizer) for one in EPISODES])
    after = watch(load_model(result.model), samples)
    assert after["correct"].loss < after["error"].loss


def test_watching_does_not_change_the_curve(start, tmp_path):  # noqa: F811
    """What is masked may be anything: the codes of verdicts reach no gradient."""
    tokenizer = load_tokenizer(start)
    samples = [tokenize(one, tokenizer) for one in EPISODES]
    seen = from_samples(samples)
    blind = replace(seen, verdicts=np.where(seen.weights == 0, -1, seen.verdicts))
    curves = []
    for name, data in (("seen", seen), ("blind", blind)):
        train_alone(start, data, tmp_path / name, config(epochs=1))
        metrics = read_metrics(tmp_path / name / "metrics.jsonl")
        assert ("loss_error" in metrics[0]) == (name == "seen")
        curves.append(curve(metrics))
    assert curves[0] == curves[1]
