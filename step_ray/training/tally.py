"""What a training says of itself: means over all processes since the last line of metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from step_ray.training.group import Group
from step_ray.training.passes import Pass

Metrics = dict[str, float]


class Tally:
    """Sums over passes and steps; ``seconds`` is time spent training, earlier attempts included."""

    def __init__(self, group: Group, names: Sequence[str], seconds: float = 0.0) -> None:
        self._group = group
        self._names = names
        self._before = seconds
        self._began = self._last = time.perf_counter()
        self._reset()

    def _reset(self) -> None:
        self._losses: list[Tensor] = []
        self._sums: list[Tensor] = []
        self._trained: list[Tensor] = []
        self._positions = 0
        self._tokens = 0
        self._size = 0.0

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._began

    def add(self, one: Pass, loss: Tensor, sums: Tensor) -> None:
        """One pass of this process; tensors are read when metrics are asked for."""
        self._losses.append(loss.detach())
        self._sums.append(sums)
        if one.samples:
            self._trained.append((one.weights > 0).sum())
            self._positions += one.ids.numel()

    def step(self, tokens: int, size: float) -> None:
        """One step: the tokens, and what the loss is divided by, of all processes."""
        self._tokens += tokens
        self._size += size

    def metrics(self) -> Metrics:
        """Means over all processes since the last call; every process calls it."""
        own = [
            math.fsum(float(loss) for loss in self._losses),
            float(sum(int(count) for count in self._trained)),
            float(self._positions),
            *torch.stack(self._sums).sum(0).tolist(),
        ]
        loss, trained, positions, *sums = self._group.sum(own)
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        metrics = {
            "loss": loss / self._size,
            "tokens_per_second": round(self._tokens / seconds, 1),
            "trained_tokens_per_second": round(trained / seconds, 1),
            "fill_rate": round(self._tokens / positions, 4),
            "seconds": round(self.seconds, 3),
        }
        for name, total, count in zip(self._names, sums[0::2], sums[1::2], strict=True):
            if count:
                metrics[name] = total / count
        self._reset()
        return metrics
