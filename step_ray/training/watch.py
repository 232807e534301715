"""The loss of a model by what teachers said of the turns: what it has learned, and what not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from step_ray.training.group import Group
from step_ray.training.objectives import CrossEntropy
from step_ray.training.passes import Passes
from step_ray.training.table import CLASSES, TokenTable
from step_ray.trajectory import Verdict

_MICRO_TOKENS = 4096  # of a forward pass, padding included


@dataclass(frozen=True, slots=True)
class Watched:
    """The mean negative log likelihood, in nats, of the tokens of all turns with one verdict."""

    loss: float
    tokens: int


def watch(
    model: nn.Module, samples: TokenTable, device: torch.device | str = "cpu"
) -> dict[Verdict, Watched]:
    """What a (peft) causal model on ``device`` makes of the samples' turns, trained or masked.

    Verdicts that no turn has are left out. Nothing of the model is changed.
    """
    objective = CrossEntropy(samples)
    module = objective.module(model)
    passes = Passes(samples, 1, _MICRO_TOKENS, False, Group(0, 1, torch.device(device)))
    sums = torch.zeros(2 * len(CLASSES), dtype=torch.float64)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for one in passes.of(range(len(samples))):
                sums += objective(module, one)[1].cpu()
    finally:
        model.train(was_training)
    totals, counts = sums[0::2].tolist(), sums[1::2].tolist()
    return {
        verdict: Watched(total / count, int(count))
        for verdict, total, count in zip(CLASSES, totals, counts, strict=True)
        if count
    }
