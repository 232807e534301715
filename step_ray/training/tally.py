"""What a training says of itself: means over all processes since the last line of metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from step_ray.training.group import Group
from step_ray.training.memory import highest_gb
from step_ray.training.passes import Pass

Metrics = dict[str, float]

_SHOWN = {  # what a person sees while it runs, and how it is called there
    "loss": "loss",
    "tokens_per_second": "tokens/s",
    "trained_tokens_per_second": "trained/s",
    "mfu": "MFU",
    "memory_gb": "GB",
}


def shown(metrics: Metrics) -> dict[str, float]:
    """The part of a line of metrics that stands beside a progress bar."""
    return {name: metrics[key] for key, name in _SHOWN.items() if key in metrics}


class Tally:
    """Sums over passes and steps; ``seconds`` is time spent training, earlier attempts included.

    ``before`` is what :meth:`state` gave an earlier attempt's checkpoint: a line of metrics is the
    same whether or not a training was interrupted since the last one. ``peak`` is the FLOP/s of all
    devices together, None if unknown; ``flops_of_token`` is what a token spares that samples share.
    """

    def __init__(
        self,
        group: Group,
        names: Sequence[str],
        before: Mapping[str, Any] | None = None,
        peak: float | None = None,
        flops_of_token: float = 0.0,
    ) -> None:
        self._group = group
        self._names = names
        self._peak = peak
        self._flops_of_token = flops_of_token
        self._reset()
        state = before or {}
        self._before = float(state.get("seconds", 0.0))
        if "sums" in state:
            self._earlier = [float(value) for value in state["sums"]]
        self._tokens = int(state.get("tokens", 0))
        self._size = float(state.get("size", 0.0))
        self._flops = float(state.get("flops", 0.0))
        self._began = time.perf_counter()
        self._last = self._began - float(state.get("elapsed", 0.0))

    def _reset(self) -> None:
        self._losses: list[Tensor] = []
        self._sums: list[Tensor] = []
        self._trained: list[Tensor] = []
        self._positions = 0
        self._computed = 0
        self._earlier = [0.0] * (4 + 2 * len(self._names))
        self._tokens = 0
        self._size = 0.0
        self._flops = 0.0

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
            self._computed += one.tokens

    def step(self, tokens: int, size: float, flops: float = 0.0) -> None:
        """One step of all processes: tokens, what the loss is divided by, needed arithmetic."""
        self._tokens += tokens
        self._size += size
        self._flops += flops

    def state(self) -> dict[str, Any]:
        """What the next line of metrics has so far; every process calls it."""
        return {
            "seconds": self.seconds,
            "elapsed": time.perf_counter() - self._last,
            "sums": self._total(),
            "tokens": self._tokens,
            "size": self._size,
            "flops": self._flops,
        }

    def _total(self) -> list[float]:
        own = [0.0] * len(self._earlier)
        if self._sums:
            own = [
                math.fsum(float(loss) for loss in self._losses),
                float(sum(int(count) for count in self._trained)),
                float(self._positions),
                float(self._computed),
                *torch.stack(self._sums).sum(0).tolist(),
            ]
        added = self._group.sum(own)
        return [now + before for now, before in zip(added, self._earlier, strict=True)]

    def metrics(self) -> Metrics:
        """Means over all processes since the last call; every process calls it."""
        loss, trained, positions, computed, *sums = self._total()
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        metrics = {
            "loss": loss / self._size,
            "tokens_per_second": round(self._tokens / seconds, 1),
            "trained_tokens_per_second": round(trained / seconds, 1),
            "fill_rate": round(computed / positions, 4),
            "memory_gb": round(self._group.largest(highest_gb(self._group.device)), 3),
            "seconds": round(self.seconds, 3),
        }
        if self._peak and self._flops:
            flops = self._flops - self._flops_of_token * (self._tokens - computed)
            metrics["mfu"] = round(flops / seconds / self._peak, 4)
        for name, total, count in zip(self._names, sums[0::2], sums[1::2], strict=True):
            if count:
                metrics[name] = total / count
        self._reset()
        return metrics
