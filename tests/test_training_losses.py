"""The loss at trained positions equals the loss over all logits, in value and in gradients."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import numpy as np  # noqa: E402
import strategies  # noqa: E402, F401 - its settings for hypothesis
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from small_models import gemma, llama, with_adapters  # noqa: E402
from torch.nn import functional  # noqa: E402

from step_ray.training import losses, table  # noqa: E402
from step_ray.training.losses import MaskedLoss, reweight  # noqa: E402
from step_ray.training.masks import Sample, TrainedSpan  # noqa: E402


def full(model, ids, weights):
    logits = model(input_ids=ids).logits.float()
    each = functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    return (each * weights[:, 1:].flatten()).sum()


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def rows(*lengths, seed=1):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 64, (len(lengths), max(lengths)), generator=generator)
    weights = torch.rand(ids.shape, generator=generator)
    weights[weights < 0.6] = 0.0
    for row, length in enumerate(lengths):
        weights[row, length:] = 0.0
    return ids, weights


@pytest.mark.parametrize("make", [llama, gemma, with_adapters])
def test_equal_to_the_loss_over_all_logits(make):
    model = make()
    ids, weights = rows(20, 13, 7)
    expected = full(model, ids, weights)
    expected.backward()
    wanted = gradients(model)
    model.zero_grad()
    module = MaskedLoss(model)
    loss, each, trained = module(ids, weights)
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5)
    assert trained.sum() == len(each) == (weights[:, 1:] > 0).sum()
    assert module._plain == (make is not gemma)
    torch.testing.assert_close((each * weights[trained]).sum(), loss.detach())


def test_the_output_layer_sees_trained_positions_only(monkeypatch):
    model = llama()
    ids, weights = rows(30, 30)
    monkeypatch.setattr(losses, "_ROWS", 4)
    seen = []
    model.lm_head.register_forward_hook(lambda _, args, __: seen.append(args[0].shape))
    module = MaskedLoss(model)
    seen.clear()
    module(ids, weights)
    trained = int((weights[:, 1:] > 0).sum())
    assert trained < 30
    assert seen == [torch.Size([-(-trained // 4) * 4, 32])]  # rounded up: few shapes of kernels


def test_chunks_change_nothing(monkeypatch):
    ids, weights = rows(30, 21)
    found = []
    for at_once in (2**26, 64 * 5):
        monkeypatch.setattr(losses, "_LOGITS_AT_ONCE", at_once)
        model = llama()
        loss, each, _ = MaskedLoss(model)(ids, weights)
        loss.backward()
        found.append((loss.detach(), each, gradients(model)))
    torch.testing.assert_close(found[0][:2], found[1][:2])
    for name, gradient in found[0][2].items():
        torch.testing.assert_close(gradient, found[1][2][name], rtol=1e-5, atol=1e-6)


def test_padding_and_its_ids_change_nothing():
    module = MaskedLoss(llama())
    ids, weights = rows(9, 20)
    other = ids.clone()
    other[0, 9:] = 3
    first, second = module(ids, weights)[0], module(other, weights)[0]
    assert first == second
    alone = module(ids[:1, :9], weights[:1, :9])[0] + module(ids[1:], weights[1:])[0]
    torch.testing.assert_close(first, alone, rtol=1e-5, atol=1e-5)


@given(st.integers(0, 2**31))
def test_labels_of_masked_tokens_change_no_gradient(seed):
    """What is predicted where there is no weight does not exist for the loss."""
    model = llama()
    ids, weights = rows(14, 9)
    labels = ids.clone()
    others = torch.randint(0, 64, ids.shape, generator=torch.Generator().manual_seed(seed))
    labels[weights == 0] = others[weights == 0]
    logits = model(input_ids=ids).logits
    each = functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="none"
    )
    (each * weights[:, 1:].flatten()).sum().backward()
    wanted = gradients(model)
    model.zero_grad()
    MaskedLoss(model)(ids, weights)[0].backward()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5)


def test_the_last_masked_token_is_not_there_at_all():
    """Behind it nothing is trained, so its very id changes no gradient, bit by bit."""
    ids, weights = rows(14)
    weights[:, 10:] = 0
    found = []
    for token in (3, 40):
        ids[:, 10:] = token
        model = llama()
        MaskedLoss(model)(ids, weights)[0].backward()
        found.append(gradients(model))
    for name, gradient in found[0].items():
        if name != "model.embed_tokens.weight":  # whose rows 3 and 40 are not used in both
            assert torch.equal(gradient, found[1][name]), name


def test_nothing_to_train_is_no_loss_and_no_gradient():
    model = llama()
    ids, _ = rows(5)
    loss, each, _ = MaskedLoss(model)(ids, torch.zeros(ids.shape))
    loss.backward()
    assert loss == 0
    assert len(each) == 0
    assert all(not gradient.any() for gradient in gradients(model).values())


def test_a_first_token_is_predicted_by_nothing():
    model = llama()
    ids, weights = rows(8)
    weights[:, 0] = 1.0
    without = weights.clone()
    without[:, 0] = 0.0
    module = MaskedLoss(model)
    assert module(ids, weights)[0] == module(ids, without)[0]


# --- what weighs the same ---


@st.composite
def samples(draw):
    weights, spans = [0.0] * draw(st.integers(1, 5)), []
    for turn in range(draw(st.integers(1, 6))):
        start, size = len(weights), draw(st.integers(1, 20))
        weight = draw(st.sampled_from([1.0, 0.5, 2.0]))
        weights += [weight] * size + [0.0] * draw(st.integers(0, 3))
        spans.append(TrainedSpan(start, start + size, turn, "correct", ""))
    return Sample("id", list(range(len(weights))), weights, spans)


@given(samples())
def test_reweight(sample):
    assert reweight(sample, "token") == sample.loss_weights
    by_turn = reweight(sample, "turn")
    for span in sample.spans:
        total = math.fsum(by_turn[span.start : span.end])
        assert total == pytest.approx(sample.loss_weights[span.start])
    by_trajectory = reweight(sample, "trajectory")
    assert math.fsum(by_trajectory) == pytest.approx(1)
    for made in (by_turn, by_trajectory):
        assert [bool(w) for w in made] == [bool(w) for w in sample.loss_weights]
    with pytest.raises(ValueError, match="unknown normalize"):
        reweight(sample, "epoch")


@given(st.lists(samples(), min_size=1, max_size=5))
def test_tables_keep_samples(tmp_path_factory, made):
    packed = table.from_samples(made)
    path = tmp_path_factory.mktemp("table") / "samples.parquet"
    table.write(packed, path)
    back = table.read(path)
    for one in (packed, back):
        assert one.lengths == [len(sample.input_ids) for sample in made]
        assert one.weight_sums == pytest.approx([sum(sample.loss_weights) for sample in made])
        ids, weights, verdicts = one.padded(range(len(made)))
        for row, sample in enumerate(made):
            size = len(sample.input_ids)
            assert ids[row, :size].tolist() == sample.input_ids
            assert weights[row, :size].tolist() == sample.loss_weights
            assert not weights[row, size:].any()
            assert ((verdicts[row] >= 0) == (weights[row] > 0)).all()
    assert back.fingerprint == packed.fingerprint
    assert back.names == packed.names
    assert back.ids.dtype == np.int32


MAPPED = """
import resource, sys
from pathlib import Path
from step_ray.training import table
from step_ray.training.masks import Sample

def taken():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))

def check(path, count):
    made = table.from_samples(one for _ in range(count))
    table.write(made, path)
    back = table.read(path)
    assert back.fingerprint == made.fingerprint
    assert back.weight_sums == made.weight_sums == [100_000.0] * count
    assert back.padded([count - 1])[0].sum() == 700_000

one = Sample("x", [7] * 100_000, [1.0] * 100_000, [])
table._TOKENS_AT_ONCE = 200_000
check(Path(sys.argv[1]), 8)  # libraries take what they always do
limit = taken() + 160 * 100_000 * 5
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
check(Path(sys.argv[1]), 160)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and counted as Linux does")
def test_a_table_does_not_have_to_fit_into_memory(tmp_path):
    """Made, written, read and summed up in a process that may take less than the table's size."""
    done = subprocess.run(
        [sys.executable, "-c", MAPPED, str(tmp_path / "samples.parquet")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
