"""The plan of batches: what a step holds, for any number of workers, again and again."""

from __future__ import annotations

import random

import pytest
import strategies  # noqa: F401 - its settings for hypothesis
from hypothesis import given
from hypothesis import strategies as st

from step_ray.training.batches import BatchPlan, busiest, fill_rate, micro_batches, share

lengths = st.lists(st.integers(2, 400), min_size=1, max_size=60)
budgets = st.integers(50, 1500)


@given(lengths, budgets, st.integers(0, 2**40))
def test_every_sample_once_an_epoch_within_the_budget(lengths, budget, seed):
    plan = BatchPlan(lengths, budget, seed, epochs=2)
    for epoch in range(2):
        batches = plan.epoch(epoch)
        assert sorted(sample for batch in batches for sample in batch) == list(range(len(lengths)))
        for batch in batches:
            assert sum(lengths[sample] for sample in batch) <= budget or len(batch) == 1
        assert batches == BatchPlan(lengths, budget, seed).epoch(epoch)


@given(lengths, st.integers(1, 20), st.integers(0, 9))
def test_batches_of_a_number_of_samples(lengths, count, seed):
    batches = BatchPlan(lengths, 1, seed, samples_per_batch=count).epoch(0)
    assert sorted(sample for batch in batches for sample in batch) == list(range(len(lengths)))
    assert sorted(map(len, batches), reverse=True) == [
        count for _ in range(len(lengths) // count)
    ] + [rest for rest in [len(lengths) % count] if rest]


@given(lengths, budgets, st.integers(1, 7), st.integers(20, 900))
def test_workers_share_a_batch(lengths, budget, world, micro):
    plan = BatchPlan(lengths, budget)
    for batch in plan.epoch(0):
        shares = [share(batch, lengths, rank, world) for rank in range(world)]
        assert sorted(sample for one in shares for sample in one) == sorted(batch)
        work = [sum(lengths[sample] for sample in one) for one in shares]
        assert max(work) - min(work) <= max(lengths[sample] for sample in batch)
        for one in shares:
            passes = micro_batches(one, lengths, micro)
            assert sorted(sample for each in passes for sample in each) == sorted(one)
            for each in passes:
                padded = len(each) * max(lengths[sample] for sample in each)
                assert padded <= micro or len(each) == 1


@given(lengths, budgets, st.integers(1, 7))
def test_the_busiest_worker(lengths, budget, world):
    found = busiest(BatchPlan(lengths, budget), world)
    assert 1 - 1e-9 <= found <= world
    assert busiest(BatchPlan(lengths, 1), world) == pytest.approx(world), "a sample a step"
    assert busiest(BatchPlan([7] * 4 * world, 28 * world), world) == 1


@given(lengths, budgets, st.data())
def test_a_resumed_plan_goes_on_where_it_was(lengths, budget, data):
    plan = BatchPlan(lengths, budget, seed=3, epochs=3)
    whole = list(plan.after(0))
    assert len(whole) == plan.steps
    assert [(epoch, index) for epoch, index, _ in whole] == [
        (epoch, index) for epoch, size in enumerate(plan.sizes) for index in range(size)
    ]
    step = data.draw(st.integers(0, plan.steps))
    assert list(plan.after(step)) == whole[step:]


def test_epochs_and_seeds_differ():
    plan = BatchPlan([10 + i % 7 for i in range(200)], 300)
    assert plan.epoch(0) != plan.epoch(1)
    assert plan.epoch(0) != BatchPlan(plan.lengths, 300, seed=1).epoch(0)
    together = [
        {frozenset((a, b)) for batch in plan.epoch(epoch) for a in batch for b in batch if a < b}
        for epoch in range(2)
    ]
    assert len(together[0] & together[1]) < 0.5 * len(together[0])  # other company, too


def test_the_order_is_the_same_on_every_machine_and_version():
    plan = BatchPlan([5, 9, 3, 7, 7, 2, 8, 4], 16, seed=11)
    assert plan.epoch(0) == [[2, 1, 5], [6, 4], [3, 0, 7]]


def test_little_padding():
    chance = random.Random(0)
    lengths = [int(chance.lognormvariate(6.6, 0.4)) for _ in range(500)]
    plan = BatchPlan(lengths, 16_384)
    assert fill_rate(plan, 2, 8_192) > 0.7
    assert fill_rate(plan, 2, 4_096) > 0.8


@pytest.mark.parametrize("wrong", [{"tokens_per_batch": 0}, {"epochs": 0}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        BatchPlan(**{"lengths": [1], "tokens_per_batch": 1, **wrong})
    with pytest.raises(ValueError, match="no samples"):
        BatchPlan([], 1)
