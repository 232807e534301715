"""This process among the training's processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import distributed as dist

from step_ray.models.base import ModelError
from step_ray.training.errors import TrainError


@dataclass(frozen=True, slots=True)
class Group:
    """``rank`` of ``world`` processes, and the device it computes on."""

    rank: int
    world: int
    device: torch.device

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """If the block fails for one process, all fail: none is left waiting for the others."""
        error: Exception | None = None
        try:
            yield
        except (ModelError, TrainError) as caught:
            error = caught
        errors: list[str | None] = [None] * self.world
        if self.world > 1:
            dist.all_gather_object(errors, None if error is None else str(error))
        if error is not None:
            raise error
        for message in errors:
            if message is not None:
                raise TrainError(message)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Adds vectors over all processes, in double precision."""
        if self.world == 1:
            return list(values)
        # NCCL has no CPU tensors; a device without float64 (mps) has no groups here.
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def largest(self, value: float) -> float:
        """The largest of all processes' values."""
        if self.world == 1:
            return value
        found = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return float(found)


def current_group(device: torch.device) -> Group:
    """The initialised torch.distributed group, or this process alone."""
    if dist.is_available() and dist.is_initialized():
        return Group(dist.get_rank(), dist.get_world_size(), device)
    return Group(0, 1, device)
