"""Packed rows: full, and exact; samples in a row know nothing of each other."""

from __future__ import annotations

import random

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import strategies  # noqa: E402, F401 - its settings for hypothesis
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from small_models import gemma, llama, mamba, mistral, qwen, with_adapters  # noqa: E402
from test_training_losses import gradients, rows  # noqa: E402

from step_ray.training.errors import TrainError  # noqa: E402
from step_ray.training.group import Group  # noqa: E402
from step_ray.training.losses import MaskedLoss  # noqa: E402
from step_ray.training.masks import MaskedSpan, Sample, TrainedSpan  # noqa: E402
from step_ray.training.packing import (  # noqa: E402
    ATTENTION,
    enable_packing,
    first_fit_decreasing,
)
from step_ray.training.passes import Passes  # noqa: E402
from step_ray.training.table import from_samples  # noqa: E402

CPU = torch.device("cpu")


def packed(ids, weights, lengths):
    def row(tensor):
        return torch.cat([tensor[i, :n] for i, n in enumerate(lengths)])[None]

    return row(ids), row(weights), torch.tensor(lengths)


@given(st.lists(st.integers(1, 400), max_size=60), st.integers(50, 1500))
def test_rows_hold_every_sample_once(lengths, capacity):
    packs = first_fit_decreasing(range(len(lengths)), lengths, capacity)
    assert sorted(sample for row in packs for sample in row) == list(range(len(lengths)))
    loads = [sum(lengths[sample] for sample in row) for row in packs]
    assert all(load <= capacity or len(row) == 1 for load, row in zip(loads, packs, strict=True))
    # No sample fits into a row before its own.
    for number, row in enumerate(packs):
        for earlier in loads[:number]:
            assert earlier + min(lengths[sample] for sample in row) > capacity


@pytest.mark.parametrize("make", [llama, qwen, mistral, with_adapters])
def test_packed_is_unpacked(make):
    model = make()
    lengths = (20, 13, 7, 2)
    ids, weights = rows(*lengths)
    loss, each, trained = MaskedLoss(model)(ids, weights)
    loss.backward()
    wanted = gradients(model)
    model.zero_grad()
    enable_packing(model)
    ids, weights, sizes = packed(ids, weights, lengths)
    mine, own, where = MaskedLoss(model)(ids, weights, sizes)
    mine.backward()
    torch.testing.assert_close(mine, loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own, each, rtol=1e-5, atol=1e-5)
    assert where.sum() == trained.sum()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-5, atol=1e-5)


MODELS = {make: make() for make in (llama, mistral)}


@settings(max_examples=40)
@given(
    make=st.sampled_from([llama, mistral]),
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=7),
    seed=st.integers(0, 2**31),
)
def test_any_samples_packed_are_the_same_unpacked(make, lengths, seed):
    """Loss and gradients of whatever shares a row, to 1e-5 in float32."""
    model = MODELS[make]
    ids, weights = rows(*lengths, seed=seed)
    found = []
    for together in (False, True):
        model.zero_grad(set_to_none=True)
        model.set_attn_implementation("sdpa")
        given_ones = (ids, weights)
        if together:
            enable_packing(model)
            given_ones = packed(ids, weights, lengths)
        loss, each, _ = MaskedLoss(model)(*given_ones)
        loss.backward()
        found.append((loss.detach(), each, gradients(model)))
    torch.testing.assert_close(found[0][:2], found[1][:2], rtol=1e-5, atol=1e-5)
    for name, gradient in found[0][2].items():
        torch.testing.assert_close(gradient, found[1][2][name], rtol=1e-5, atol=1e-5)


@settings(max_examples=40)
@given(
    make=st.sampled_from([llama, mistral]),
    prefix=st.integers(1, 12),
    lengths=st.lists(st.integers(2, 20), min_size=1, max_size=6),
    seed=st.integers(0, 2**31),
)
def test_what_samples_begin_with_is_computed_once(make, prefix, lengths, seed):
    """Loss, watched losses and gradients are those of whole samples, padded, to 1e-5."""
    chance = random.Random(seed)
    begin = [chance.randrange(64) for _ in range(prefix)]
    samples = []
    for number, length in enumerate(lengths):
        # Each goes on in its own way, is silent for a token, then speaks.
        ids = [*begin, number, *(chance.randrange(64) for _ in range(length - 1))]
        said, middle = prefix + 1, prefix + 1 + chance.randrange(length)
        weights = [0.0] * len(ids)
        weights[middle:] = [chance.choice([0.5, 1.0])] * (len(ids) - middle)
        spans = [TrainedSpan(middle, len(ids), 1, "correct", "")] if middle < len(ids) else []
        masked = [MaskedSpan(said, middle, "error")] if said < middle else []
        samples.append(Sample(str(number), ids, weights, spans, 0, masked))
    made = from_samples(samples)
    count = range(len(samples))
    found_prefix = made.prefix(count)
    assert found_prefix == (prefix if len(samples) > 1 else 0)
    model = MODELS[make]
    found = []
    for together in (False, True):
        model.zero_grad(set_to_none=True)
        model.set_attn_implementation("sdpa")
        sizes, shared = None, 0
        if together:
            assert enable_packing(model)
            *arrays, lengths_now = made.packed(count, prefix=found_prefix)
            assert arrays[0].shape[1] < sum(made.lengths) - prefix * (len(samples) - 1) + 32
            sizes, shared = torch.from_numpy(lengths_now), found_prefix
        else:
            arrays = made.padded(count)
        ids, weights, verdicts = (torch.from_numpy(array) for array in arrays)
        loss, each, seen = MaskedLoss(model)(ids, weights, sizes, verdicts >= 0, shared)
        loss.backward()
        found.append((loss.detach(), each, verdicts[seen], gradients(model)))
    torch.testing.assert_close(found[0][:3], found[1][:3], rtol=1e-5, atol=1e-5)
    for name, gradient in found[0][3].items():
        torch.testing.assert_close(gradient, found[1][3][name], rtol=1e-5, atol=1e-5)


def test_a_prefix_ends_before_anything_is_said():
    """What is said first is predicted from a token of its own sample, never from the shared one."""
    same = list(range(10))
    span = TrainedSpan(6, 10, 0, "correct", "")
    alike = Sample("a", same, [0.0] * 6 + [1.0] * 4, [span])
    assert from_samples([alike, alike]).prefix([0, 1]) == 5
    other = Sample("b", [0, 1, 9, *same[3:]], alike.loss_weights, [span])
    assert from_samples([alike, other]).prefix([0, 1]) == 2
    assert from_samples([alike, other]).prefix([0]) == 0


@pytest.mark.parametrize("make", [llama, mistral])
def test_no_sample_feels_another(make):
    model = make()
    enable_packing(model)
    lengths = (20, 13, 9)
    ids, weights, sizes = packed(*rows(*lengths), lengths)
    other = ids.clone()
    other[0, :20] = torch.randint(0, 64, (20,), generator=torch.Generator().manual_seed(5))
    other[0, 33:] = 1
    module = MaskedLoss(model)
    weights[0, :20] = 0
    weights[0, 33:] = 0
    assert weights.any()
    first, second = module(ids, weights, sizes), module(other, weights, sizes)
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize(("make", "why"), [(gemma, "softcap"), (mamba, "cannot be packed")])
def test_models_that_would_leak_are_refused(make, why):
    model = make()
    before = model.config._attn_implementation
    with pytest.raises(TrainError, match=rf"{why}.*set training.packing to padded"):
        enable_packing(model)
    assert model.config._attn_implementation == before


def test_a_leaking_attention_is_refused(monkeypatch):
    from step_ray.training import packing

    def leaking(module, query, key, value, mask, **others):
        return packed_attention(module, query, key, value, None)

    packed_attention = packing.packed_attention
    monkeypatch.setattr(packing, "packed_attention", leaking)
    with pytest.raises(TrainError, match="change hidden states"):
        enable_packing(llama())
    transformers.AttentionInterface.register(ATTENTION, packed_attention)


def table(lengths):
    samples = []
    for number, length in enumerate(lengths):
        span = TrainedSpan(length // 2, length, 0, "correct", "")
        weights = [0.0] * (length // 2) + [1.0] * (length - length // 2)
        samples.append(Sample(str(number), list(range(length)), weights, [span]))
    return from_samples(samples)


@pytest.mark.parametrize("unit", [1, 2])
@pytest.mark.parametrize("kind", [True, False])
def test_passes_of_all_processes_are_the_batch(kind, unit):
    chance = random.Random(3)
    lengths = [chance.randrange(4, 90) for _ in range(24)]
    samples = table(lengths)
    seen, counts = [], set()
    for rank in range(3):
        passes = Passes(samples, unit, 200, kind, Group(rank, 3, CPU), even=True)
        made = list(passes.of(range(len(lengths) // unit)))
        counts.add(len(made))
        for one in made:
            seen += one.samples
            if not one.samples:
                assert not one.weights.any()
                continue
            assert one.samples[::unit] == tuple(s // unit * unit for s in one.samples[::unit])
            assert one.weights.sum() == sum(samples.weight_sums[i] for i in one.samples)
            if kind:
                sizes = one.lengths.tolist()
                assert sizes[: len(one.samples)] == [lengths[i] for i in one.samples]
                assert one.tokens == sum(lengths[i] for i in one.samples)
                assert sum(sizes) == one.ids.shape[1]
                assert one.ids.shape[1] % 32 == 0
                starts = [sum(sizes[:i]) for i in range(len(one.samples))]
                assert one.ids[0, starts].tolist() == [0] * len(starts)
    assert sorted(seen) == list(range(24))
    assert len(counts) == 1  # processes that share weights have to call the model together


def test_rows_of_long_trajectories_are_full():
    chance = random.Random(0)
    samples = table([int(chance.lognormvariate(6.4, 0.4)) for _ in range(300)])
    passes = Passes(samples, 1, 8192, True, Group(0, 1, CPU))
    made = list(passes.of(range(300)))
    assert sum(samples.lengths) / sum(one.ids.numel() for one in made) > 0.99
    assert len(made) == -(-sum(samples.lengths) // 8192)  # and no more rows than needed


def test_passes_of_samples_that_begin_alike():
    made = table([90, 80, 70, 60])  # all count up from 0 and speak in their second half
    alone = Passes(made, 1, 400, True, Group(0, 1, CPU), share=False)
    (whole,) = alone.of(range(4))
    (one,) = Passes(made, 1, 400, True, Group(0, 1, CPU), share=True).of([0, 1])
    assert (whole.prefix, whole.tokens) == (0, 300)
    assert (one.prefix, one.tokens) == (39, 170 - 39)
    assert one.lengths.tolist()[:2] == [90, 80]
    assert one.ids.shape[1] == 160
    (short,) = Passes(made, 1, 400, True, Group(0, 1, CPU), share=True).of(range(4))
    assert short.prefix == 0  # 29 tokens are not worth it
