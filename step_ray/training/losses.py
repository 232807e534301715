"""The loss, computed where there is a weight and nowhere else.

L(theta) = - sum_i delta_i log pi(t_i, a_i | u, tau_<i): the weight delta of a turn lies on each of
its tokens. The sum is divided by the sum of all weights in the optimizer step, over all workers and
forward passes. Hidden states without a weight never meet the output layer: for a small share of
trained tokens and a large vocabulary that is most of the memory and much of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from step_ray.training.packing import packing_arguments

if TYPE_CHECKING:
    from step_ray.training.masks import Sample

Normalize = Literal["token", "turn", "trajectory"]
_Predict = Callable[[Tensor], Tensor]

_LOGITS_AT_ONCE = 2**26  # more are made, and made again in the backward pass, in chunks
# CPU kernels are compiled, and kept, for every new shape: megabytes each.
_ROWS = 64


def reweight(sample: Sample, normalize: Normalize) -> list[float]:
    """A sample's weights such that each token, turn or trajectory weighs the same.

    The weight of a turn's verdict is kept: under "turn" a turn's tokens have it as their sum, under
    "trajectory" all of a sample's weights have the sum 1.
    """
    if normalize == "token":
        return list(sample.loss_weights)
    weights = list(sample.loss_weights)
    if normalize == "turn":
        for span in sample.spans:
            for index in range(span.start, span.end):
                weights[index] /= span.end - span.start
        return weights
    if normalize == "trajectory":
        total = sum(weights)
        return [weight / total for weight in weights]
    raise ValueError(f"unknown normalize {normalize!r}: choose token, turn or trajectory")


class MaskedLoss(nn.Module):
    """A causal language model with its loss, as one module (so that DDP sees its forward pass)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._plain = _head_is_plain(model)

    def forward(
        self,
        ids: Tensor,
        weights: Tensor,
        lengths: Tensor | None = None,
        watched: Tensor | None = None,
        prefix: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Ids int64 and weights float32, both [rows, positions]; ``weights[:, i]`` is of token i.

        With ``lengths``, int64 [samples], there is one row that holds samples end to end, all of
        which begin with its first ``prefix`` tokens (see ``packing.py``). Returns the weighted sum
        of negative log likelihoods in nats (a scalar to differentiate), the unweighted one of each
        token with a weight or ``watched`` (bool [rows, positions]), float32 [seen], and the
        positions of these, bool [rows, positions].
        """
        predict, predicted = self._predictions(ids, lengths, prefix)
        trained = (weights > 0) & predicted
        losses = predict(trained)
        each = torch.zeros_like(weights)
        each[trained] = losses.detach().float()
        seen = trained
        if watched is not None:
            masked = watched & predicted & ~trained
            with torch.no_grad():
                each[masked] = predict(masked).float()
            seen = trained | masked
        return (losses * weights[trained]).sum(), each[seen], seen

    def each(
        self, ids: Tensor, weights: Tensor, lengths: Tensor | None, prefix: int
    ) -> tuple[Tensor, Tensor]:
        """The negative log likelihood of every token with a weight, and where these are."""
        predict, predicted = self._predictions(ids, lengths, prefix)
        trained = (weights > 0) & predicted
        return predict(trained), trained

    def _predictions(
        self, ids: Tensor, lengths: Tensor | None, prefix: int
    ) -> tuple[_Predict, Tensor]:
        """Negative log likelihoods [n] of the tokens at n positions, as a function of these; and
        the positions whose token is predicted from the one before: not the first of a sample. (Nor
        the first after a prefix that is elsewhere, but nothing is said there.)"""
        predicted = torch.ones_like(ids, dtype=torch.bool)
        predicted[:, 0] = False
        packing: dict[str, Any] = {}
        if lengths is not None:
            packing = packing_arguments(lengths, prefix)
            predicted &= packing["position_ids"] > 0
        if self._plain:
            decoder, head = _parts(self.model)
            hidden = decoder(input_ids=ids, use_cache=False, **packing).last_hidden_state
            return lambda at: _cross_entropy(head, hidden[_before(at)], ids[at]), predicted
        logits = cast(Any, self.model)(input_ids=ids, use_cache=False, **packing).logits
        return lambda at: functional.cross_entropy(
            logits[_before(at)].float(), ids[at], reduction="none"
        ), predicted


class PreferenceLoss(MaskedLoss):
    """Direct preference optimisation (Rafailov et al. 2023) of pairs of whole conversations:

    L = - log sigmoid(beta * (log pi/pi_ref (chosen) - log pi/pi_ref (rejected))), each log pi a sum
    over the tokens with a weight. Samples are in the order chosen, rejected, chosen, rejected, ...
    """

    def __init__(self, model: nn.Module, beta: float) -> None:
        super().__init__(model)
        self._beta = beta

    def sums(
        self, ids: Tensor, weights: Tensor, lengths: Tensor | None, count: int, prefix: int = 0
    ) -> Tensor:
        """log pi of what is said in each of the first ``count`` samples, float64 [count]: sums of
        thousands are compared with each other."""
        losses, trained = self.each(ids, weights, lengths, prefix)
        samples = torch.arange(len(ids) if lengths is None else len(lengths), device=ids.device)
        if lengths is None:
            owners = samples[:, None].expand(ids.shape)[trained]
        else:
            own = functional.pad(samples.repeat_interleave(lengths - prefix), (prefix, 0))
            owners = own[None][trained]
        sums = losses.new_zeros(max(count, len(samples)), dtype=torch.float64)
        return sums.index_add(0, owners, -(losses * weights[trained]).double())[:count]

    def forward(  # type: ignore[override]
        self,
        ids: Tensor,
        weights: Tensor,
        lengths: Tensor | None,
        reference: Tensor,
        prefix: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``reference`` float64 [2 * pairs]: log pi_ref of each sample (0: reference-free).

        Returns the sum of the pairs' losses, and for each pair beta * log pi/pi_ref of the chosen
        and of the rejected sample, float64 [pairs] each.
        """
        sums = self.sums(ids, weights, lengths, len(reference), prefix)
        rewards = self._beta * (sums - reference)
        chosen, rejected = rewards[0::2], rewards[1::2]
        loss = -functional.logsigmoid(chosen - rejected).sum()
        return loss, chosen.detach(), rejected.detach()


def _before(positions: Tensor) -> Tensor:
    """Where the hidden states are that predict the tokens at ``positions``."""
    return positions.roll(-1, dims=1)


def _cross_entropy(head: nn.Module, hidden: Tensor, labels: Tensor) -> Tensor:
    """Negative log likelihoods [n] of labels [n] given hidden states [n, width]."""

    def part(states: Tensor, targets: Tensor) -> Tensor:
        rows = len(targets)
        padded = functional.pad(states, (0, 0, 0, -rows % _ROWS))
        return functional.cross_entropy(head(padded)[:rows].float(), targets, reduction="none")

    vocabulary = int(cast(Any, head).weight.shape[0])
    rows = max(1, _LOGITS_AT_ONCE // vocabulary)
    if len(labels) <= rows:
        return part(hidden, labels)
    chunks = [
        checkpoint(part, states, targets, use_reentrant=False)
        for states, targets in zip(
            torch.split(hidden, rows), torch.split(labels, rows), strict=True
        )
    ]
    return torch.cat(cast(list[Tensor], chunks))


def _parts(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The layers below the output layer, and the output layer, of a (peft) causal model."""
    base: Any = model
    if hasattr(base, "peft_config"):
        base = base.get_base_model()
    return getattr(base, base.base_model_prefix), base.get_output_embeddings()


def _head_is_plain(model: nn.Module) -> bool:
    """Whether logits are the output layer of the hidden states: some models scale or cap them."""
    device = next(model.parameters()).device
    ids = torch.tensor([[1, 2, 3, 4]], device=device)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            decoder, head = _parts(model)
            ours = head(decoder(input_ids=ids, use_cache=False).last_hidden_state)
            theirs = cast(Any, model)(input_ids=ids, use_cache=False).logits
        return ours.shape == theirs.shape and bool(torch.allclose(ours, theirs, atol=1e-4))
    except AttributeError:
        return False
    finally:
        model.train(was_training)
