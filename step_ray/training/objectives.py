"""What is minimised, in the form that the loop asks for: cross-entropy or DPO.

The reward-weighted cross-entropy is the cross-entropy of samples with other weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from step_ray.config_training import TrainConfig
from step_ray.training.group import Group
from step_ray.training.losses import MaskedLoss, PreferenceLoss
from step_ray.training.passes import Pass, Passes
from step_ray.training.table import CLASSES, TokenTable


class Objective(Protocol):
    """A loss: a sum over units, divided by the sum of their sizes over the whole step."""

    unit: int
    """Samples in a unit: 1, or 2 for pairs."""
    names: tuple[str, ...]
    """What is shown beside the loss, each a mean."""

    def module(self, model: nn.Module) -> Any:
        """The model with its loss."""

    def size(self, units: Sequence[int]) -> Sequence[float]:
        """What the loss is divided by, unit by unit."""

    def begin(self, module: Any, passes: Passes, group: Group, state: dict[str, Any]) -> None:
        """Once before the first step of an attempt; every process calls it."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to keep of it."""

    def __call__(self, module: nn.Module, one: Pass) -> tuple[Tensor, Tensor]:
        """The loss's sum (a scalar to differentiate); for each of ``names`` its sum and count,
        float64 [2 * names]."""


class CrossEntropy:
    """Of the tokens with a weight, each weighted; shown by verdict, with those of masked turns:
    whether the model learns an error is seen, though the error is never trained."""

    unit = 1
    names = tuple(f"loss_{verdict}" for verdict in CLASSES)

    def __init__(self, samples: TokenTable) -> None:
        self._sizes = samples.weight_sums

    def module(self, model: nn.Module) -> Any:
        return MaskedLoss(model)

    def size(self, units: Sequence[int]) -> Sequence[float]:
        return [self._sizes[unit] for unit in units]

    def begin(self, module: Any, passes: Passes, group: Group, state: dict[str, Any]) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {}

    def __call__(self, module: nn.Module, one: Pass) -> tuple[Tensor, Tensor]:
        loss, each, seen = module(one.ids, one.weights, one.lengths, one.verdicts >= 0, one.prefix)
        codes = torch.arange(len(CLASSES), device=each.device)[:, None]
        mine = (one.verdicts[seen] == codes).double()
        return loss, torch.stack([mine @ each.double(), mine.sum(1)], 1).flatten()


class Preference:
    """DPO of pairs; the reference is the starting model, asked once, before the first step."""

    unit = 2
    names: tuple[str, ...] = ("accuracy", "margin", "reward_chosen", "reward_rejected")

    def __init__(self, samples: TokenTable, beta: float, reference_free: bool) -> None:
        self._beta = beta
        self._reference = torch.zeros(len(samples), dtype=torch.float64)
        self._free = reference_free

    def module(self, model: nn.Module) -> Any:
        return PreferenceLoss(model, self._beta)

    def size(self, units: Sequence[int]) -> Sequence[float]:
        return [1.0] * len(units)

    def begin(self, module: Any, passes: Passes, group: Group, state: dict[str, Any]) -> None:
        """log pi_ref of all samples: from the checkpoint of an earlier attempt, else of the model
        as it is now (new adapters change nothing yet); each process asks for its share."""
        if self._free:
            return
        if "reference" in state:
            self._reference = state["reference"].clone()  # the state may be a mapped file
            return
        was_training = module.training
        module.eval()
        with torch.no_grad():
            for one in passes.of(range(len(passes.lengths))):
                if one.samples:
                    sums = module.sums(
                        one.ids, one.weights, one.lengths, len(one.samples), one.prefix
                    )
                    self._reference[list(one.samples)] = sums.cpu()
        module.train(was_training)
        self._reference = torch.tensor(group.sum(self._reference.tolist()), dtype=torch.float64)

    def state(self) -> dict[str, Any]:
        return {} if self._free else {"reference": self._reference}

    def __call__(self, module: nn.Module, one: Pass) -> tuple[Tensor, Tensor]:
        reference = self._reference[list(one.samples)].to(one.ids.device)
        loss, chosen, rejected = module(one.ids, one.weights, one.lengths, reference, one.prefix)
        count = torch.tensor(len(chosen), dtype=torch.float64, device=chosen.device)
        accurate = (chosen > rejected).double()
        shown = [accurate, chosen - rejected, chosen, rejected]
        return loss, torch.stack([value for each in shown for value in (each.sum(), count)])


def make_objective(config: TrainConfig, samples: TokenTable) -> Objective:
    """The objective that a config asks for."""
    if config.loss == "dpo":
        return Preference(samples, config.dpo_beta, config.dpo_reference_free)
    return CrossEntropy(samples)
