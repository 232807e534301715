"""Which token comes next, and whether rounding could have made it another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Draw:
    """How one row's token is drawn; ``noise`` is a uniform number per word, None for greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    noise: torch.Tensor | None = None


def pick(
    logits: torch.Tensor, draws: Sequence[Draw], tolerance: float = 0.0
) -> list[tuple[int, bool]]:
    """For each row of ``logits`` its token, and whether that choice is safe.

    A choice is safe if logits that are off by ``tolerance`` times the row's largest one would lead
    to the same token. Sampling is by the Gumbel trick: the largest of logit / temperature + noise,
    which depends on nothing but the row and its noise.
    """
    slack = logits.abs().amax(dim=1, keepdim=True) * tolerance
    greedy = [row for row, draw in enumerate(draws) if draw.noise is None]
    sampled = [row for row, draw in enumerate(draws) if draw.noise is not None]
    picked: dict[int, tuple[int, bool]] = {}
    if greedy:
        scores, gap = logits[greedy], slack[greedy]
        picked.update(zip(greedy, _largest(scores, gap), strict=True))
    if sampled:
        chosen = [draws[row] for row in sampled]
        picked.update(
            zip(sampled, _sample(logits[sampled].double(), chosen, slack[sampled]), strict=True)
        )
    return [picked[row] for row in range(len(draws))]


def _largest(scores: torch.Tensor, slack: torch.Tensor) -> list[tuple[int, bool]]:
    """Index of each row's largest score, and whether it leads by more than twice the slack."""
    if scores.shape[1] == 1:
        return [(0, True)] * len(scores)
    values, indices = scores.topk(2, dim=1)
    # topk does not say which of two equal scores comes first; argmax takes the first.
    best = torch.where(values[:, 0] == values[:, 1], scores.argmax(dim=1), indices[:, 0])
    safe = (values[:, 0] - values[:, 1]) > 2 * slack[:, 0]
    return list(zip(best.tolist(), safe.tolist(), strict=True))


def _sample(
    logits: torch.Tensor, draws: Sequence[Draw], slack: torch.Tensor
) -> list[tuple[int, bool]]:
    temperature = torch.tensor([[draw.temperature] for draw in draws], dtype=torch.float64)
    logits, slack = logits / temperature, slack.double() / temperature
    noise = torch.stack([draw.noise for draw in draws if draw.noise is not None])
    scores = logits - torch.log(-torch.log(noise))
    picked = _largest(scores, slack)
    mass = torch.softmax(logits, dim=1)
    for row, draw in enumerate(draws):
        if draw.top_p < 1:
            picked[row] = _in_nucleus(
                logits[row].numpy(),
                mass[row].numpy(),
                scores[row].numpy(),
                draw.top_p,
                float(slack[row, 0]),
            )
    return picked


def _in_nucleus(
    logits: Array, mass: Array, scores: Array, top_p: float, slack: float
) -> tuple[int, bool]:
    """The best score among the likeliest words that together hold ``top_p``; is it safe?

    A word is one of them if the likelier ones hold less than ``top_p``. Candidates are looked at
    from the best score down: the first one nearly always is it, so no vocabulary is sorted.
    """
    margin = 2 * slack
    left = scores.copy()
    while True:
        token = int(left.argmax())
        if mass[logits > logits[token] + margin].sum() >= top_p + margin:
            left[token] = -np.inf  # not in, whatever the rounding
            continue
        if not slack:
            return token, True
        before = mass[logits >= logits[token] - margin].sum() - mass[token]
        left[token] = -np.inf
        leads = scores[token] - left.max(initial=-np.inf) > margin
        return token, bool(before < top_p - margin and leads)
