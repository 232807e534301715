"""What the turns of each verdict pull a model towards: loss and gradient, masked and unmasked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from step_ray.training.group import Group
from step_ray.training.losses import MaskedLoss
from step_ray.training.passes import Passes
from step_ray.training.table import CLASSES, TokenTable
from step_ray.training.watch import watch
from step_ray.trajectory import Verdict

_MICRO_TOKENS = 4096  # of a forward pass, padding included


@dataclass(frozen=True, slots=True)
class Pull:
    """Of all turns with one verdict in some samples: ``tokens``, their mean ``loss`` (nats), and
    the norm of what they add to the gradient of the samples' loss.

    ``masked`` is that norm under the samples' weights, ``unmasked`` with a weight of 1 on each
    token; both are divided by the sum of the samples' weights, as the loss is. ``cosine`` is that
    of the unmasked gradient with the whole masked one: below 0, training the turns would undo it.
    """

    tokens: int
    loss: float
    masked: float
    unmasked: float
    cosine: float


@dataclass(frozen=True, slots=True)
class Pulls:
    """``whole`` is the norm of the whole masked gradient; ``rest`` of what is left of it when the
    parts of all verdicts are taken away: 0 but for rounding if nothing else is trained."""

    whole: float
    rest: float
    verdicts: dict[Verdict, Pull]


def pulls(model: nn.Module, samples: TokenTable, device: torch.device | str = "cpu") -> Pulls:
    """Measures a causal model on ``device``. Its weights stay; gradients are cleared at the end.

    A verdict's part is the gradient of the loss that is left when only tokens of its turns keep
    their weight. It is measured, not taken to be 0 where the mask says so: the same passes go
    through the same loss that trains.
    """
    losses = watch(model, samples, device)
    total = sum(samples.weight_sums)
    was_training = model.training
    model.eval()  # no dropout: parts have to add up
    try:
        whole = _gradient(model, samples, samples.weights, total, device)
        rest = whole.clone()
        found: dict[Verdict, Pull] = {}
        for code, verdict in enumerate(CLASSES):
            mine = samples.verdicts == code
            if verdict not in losses:
                continue
            masked = _gradient(model, samples, samples.weights * mine, total, device)
            unmasked = _gradient(model, samples, mine.astype(np.float32), total, device)
            rest -= masked
            scale = unmasked.norm() * whole.norm()
            found[verdict] = Pull(
                losses[verdict].tokens,
                losses[verdict].loss,
                float(masked.norm()),
                float(unmasked.norm()),
                float(unmasked @ whole / scale) if scale else 0.0,
            )
        return Pulls(float(whole.norm()), float(rest.norm()), found)
    finally:
        model.zero_grad(set_to_none=True)
        model.train(was_training)


def _gradient(
    model: nn.Module, samples: TokenTable, weights: Any, total: float, device: torch.device | str
) -> Tensor:
    """The gradient of the samples' loss with other weights, all parameters in one row, float64."""
    module = MaskedLoss(model)
    weighted = dataclasses.replace(samples, weights=weights.astype(np.float32))
    passes = Passes(weighted, 1, _MICRO_TOKENS, False, Group(0, 1, torch.device(device)))
    model.zero_grad(set_to_none=True)
    for one in passes.of(range(len(samples))):
        loss, _, _ = module(one.ids, one.weights, one.lengths)
        (loss / total).backward()
    return torch.cat(
        [
            (torch.zeros_like(one) if one.grad is None else one.grad).detach().double().flatten()
            for one in model.parameters()
            if one.requires_grad
        ]
    ).cpu()
