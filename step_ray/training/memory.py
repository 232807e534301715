"""Memory: how much a training takes, and what to change when there is too little."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator

import torch

from step_ray.config_training import TrainConfig
from step_ray.training.errors import TrainError


class OutOfMemory(TrainError):  # noqa: N818 - as torch calls it
    """A training does not fit a device or machine; says which settings make it smaller."""


def highest_gb(device: torch.device) -> float:
    """The most memory so far, in GB (10^9 bytes): of a GPU's tensors, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e9 if sys.platform == "darwin" else 1e6)


def advice(config: TrainConfig, longest: int) -> str:
    """What makes a training smaller, in the order in which to try; ``longest`` sample in tokens."""
    ways = []
    if config.micro_tokens > longest:
        # A longer sample has a pass of its own, so less than this changes nothing.
        lower = max(longest, config.micro_tokens // 2)
        ways.append(f"set training.micro_tokens to {lower} (now {config.micro_tokens})")
    if not config.gradient_checkpointing:
        ways.append("set training.gradient_checkpointing to true")
    if config.micro_tokens <= longest:
        ways.append(f"set training.max_length below {longest}, the longest sample's tokens")
    if config.lora is None:
        ways.append("train adapters: training.lora")
    if config.parallel != "fsdp":
        ways.append("share the weights out among workers: training.parallel fsdp")
    else:
        ways.append(f"use more training.workers (now {config.workers})")
    return "; then ".join(ways)


@contextlib.contextmanager
def explained(config: TrainConfig, longest: int) -> Iterator[None]:
    """Turns an allocator's failure into :class:`OutOfMemory`."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and (
            "DefaultCPUAllocator" not in str(error)
        ):
            raise
        first = (str(error).strip().splitlines() or ["no memory"])[0]
        raise OutOfMemory(f"out of memory: {advice(config, longest)}. ({first})") from error
