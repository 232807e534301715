"""Which samples make up which optimizer step: a pure function of lengths, seed and epoch.

A step's samples do not depend on the number of workers; how they are dealt to workers and cut into
forward passes does. So a position (epoch, batch) is all there is to remember for an exact resume,
and one worker or eight draw the same curve. Samples of like length are not gathered in one batch:
that saves padding, but the model learns less from as many steps.

A sample stands for what stays together: one trajectory, or a pair of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class BatchPlan:
    """All batches of a training.

    ``lengths`` are the tokens of each sample; a batch holds at most ``tokens_per_batch`` of them,
    or one sample that is longer than that; or it holds ``samples_per_batch`` whatever their length.
    """

    lengths: Sequence[int]
    tokens_per_batch: int
    seed: int = 0
    epochs: int = 1
    samples_per_batch: int | None = None

    def __post_init__(self) -> None:
        if not self.lengths:
            raise ValueError("there are no samples to make batches of")
        if min(self.tokens_per_batch, self.epochs) < 1:
            raise ValueError("tokens_per_batch and epochs must be at least 1")

    def epoch(self, epoch: int) -> list[list[int]]:
        """The batches of one epoch in order, as indices of samples; every sample once."""
        chance = random.Random(f"step-ray batches {self.seed} {epoch}")  # the same everywhere
        order = list(range(len(self.lengths)))
        chance.shuffle(order)
        return list(self._cut(order))

    def _cut(self, order: Sequence[int]) -> Iterator[list[int]]:
        most = self.samples_per_batch or self.tokens_per_batch
        batch: list[int] = []
        size = 0
        for sample in order:
            one = 1 if self.samples_per_batch else self.lengths[sample]
            if batch and size + one > most:
                yield batch
                batch, size = [], 0
            batch.append(sample)
            size += one
        if batch:
            yield batch

    @cached_property
    def sizes(self) -> list[int]:
        """The number of batches of each epoch."""
        return [len(self.epoch(epoch)) for epoch in range(self.epochs)]

    @property
    def steps(self) -> int:
        """The number of batches of all epochs."""
        return sum(self.sizes)

    def after(self, step: int) -> Iterator[tuple[int, int, list[int]]]:
        """(epoch, index in the epoch, batch) of every step from ``step`` (0 is the first) on."""
        for epoch, size in enumerate(self.sizes):
            if step >= size:
                step -= size
                continue
            batches = self.epoch(epoch)
            for index in range(step, size):
                yield epoch, index, batches[index]
            step = 0


def share(batch: Sequence[int], lengths: Sequence[int], rank: int, world: int) -> list[int]:
    """The samples of a batch that one worker takes, see :func:`shares`."""
    return shares(batch, lengths, world)[rank]


def shares(batch: Sequence[int], lengths: Sequence[int], world: int) -> list[list[int]]:
    """The samples of a batch that each worker takes, longest first; shares are about equal work, as
    each sample goes to who has the fewest tokens so far.

    A share can be empty: the worker then takes part in the step with nothing.
    """
    found: list[list[int]] = [[] for _ in range(world)]
    work = [0] * world
    for sample in sorted(batch, key=lambda sample: (-lengths[sample], sample)):
        place = min(range(world), key=work.__getitem__)
        work[place] += lengths[sample]
        found[place].append(sample)
    return found


def busiest(plan: BatchPlan, world: int) -> float:
    """How much longer an epoch takes than if its work were shared equally by ``world`` workers:
    every step takes as long as who has the most of it. From 1 to ``world``."""
    longest = sum(
        max(
            sum(plan.lengths[sample] for sample in one)
            for one in shares(batch, plan.lengths, world)
        )
        for batch in plan.epoch(0)
    )
    return longest * world / sum(plan.lengths)


def micro_batches(
    samples: Sequence[int], lengths: Sequence[int], micro_tokens: int
) -> list[list[int]]:
    """Cuts one worker's share into forward passes of at most ``micro_tokens`` with padding.

    A sample that is longer has a pass of its own.
    """
    order = sorted(samples, key=lambda sample: (-lengths[sample], sample))
    passes: list[list[int]] = []
    for sample in order:
        if passes and (len(passes[-1]) + 1) * lengths[passes[-1][0]] <= micro_tokens:
            passes[-1].append(sample)
        else:
            passes.append([sample])
    return passes


def fill_rate(plan: BatchPlan, world: int, micro_tokens: int, epoch: int = 0) -> float:
    """The share of an epoch's computed positions that are tokens, not padding."""
    padded = 0
    for batch in plan.epoch(epoch):
        for samples in shares(batch, plan.lengths, world):
            for one in micro_batches(samples, plan.lengths, micro_tokens):
                padded += len(one) * max(plan.lengths[sample] for sample in one)
    return sum(plan.lengths) / padded
