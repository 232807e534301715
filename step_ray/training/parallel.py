"""Where the weights are: whole in every process (DDP), or shared out among them (FSDP2)."""

from __future__ import annotations

import contextlib
import math
import warnings
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from step_ray.config_training import TrainConfig
from step_ray.training.group import Group
from step_ray.training.layers import decoder_layers

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_TRAINED = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)


class Layout(Protocol):
    """A loss module, spread over processes that average their gradients."""

    module: nn.Module
    """What is called."""
    model: Any
    """The (peft) language model in it."""

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        """Around a pass; the last one of a step adds the gradients of all processes up."""

    def clip(self, largest: float) -> float:
        """Scales gradients to a global norm of at most ``largest`` (0: none); returns the norm."""

    def weights(self) -> dict[str, Any] | None:
        """The trained weights in one piece, for process 0; None where ``model`` has them so.
        Every process calls it."""


def optimizer_state(layout: Layout, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a checkpoint keeps of the optimizer, for any layout. Every process calls it."""
    return get_optimizer_state_dict(layout.model, optimizer, options=_WHOLE)


def load_optimizer(layout: Layout, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Puts back what :func:`optimizer_state` gave."""
    set_optimizer_state_dict(layout.model, optimizer, state, options=_WHOLE)


def spread(loss: Any, config: TrainConfig, group: Group, bf16: bool = False) -> Layout:
    """The layout that a config asks for; one process has everything. ``bf16``: what is computed."""
    if config.parallel == "fsdp" and group.world > 1:
        return Sharded(loss, group, bf16)
    return Replicated(loss, group)


class Replicated:
    """DDP, or one process alone."""

    def __init__(self, loss: Any, group: Group) -> None:
        self.model = loss.model
        self.module = loss
        self._world = group.world
        if group.world > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # older torch has no other name
                self.module = DistributedDataParallel(
                    loss, gradient_as_bucket_view=True, broadcast_buffers=False
                )

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        if self._world > 1 and not last:
            return self.module.no_sync()  # type: ignore[no-any-return]
        return contextlib.nullcontext()

    def clip(self, largest: float) -> float:
        return float(nn.utils.clip_grad_norm_(self.model.parameters(), largest or math.inf))

    def weights(self) -> dict[str, Any] | None:
        return None


class Sharded:
    """FSDP2: every layer's weights, gradients and optimizer state are spread over all processes.

    A layer is gathered when it is computed; so are the embedding, the norm and the output layer,
    which the loss module uses itself. In bfloat16 if that is what is computed in.
    """

    def __init__(self, loss: Any, group: Group, bf16: bool) -> None:
        self.model = loss.model
        # Half the traffic; gradients are added up in float32, and the loss's weights stay as given.
        kept = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if bf16 else None,
            reduce_dtype=torch.float32 if bf16 else None,
            cast_forward_inputs=False,
        )
        mesh = init_device_mesh(group.device.type, (group.world,))
        for layer in decoder_layers(self.model):
            fully_shard(layer, mesh=mesh, mp_policy=kept)
        self.module = cast(nn.Module, fully_shard(loss, mesh=mesh, mp_policy=kept))

    @contextlib.contextmanager
    def _kept(self) -> Any:
        sharded = cast(FSDPModule, self.module)
        sharded.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            sharded.set_requires_gradient_sync(True)

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if last else self._kept()

    def clip(self, largest: float) -> float:
        norm: Any = nn.utils.clip_grad_norm_(self.model.parameters(), largest or math.inf)
        return float(norm.full_tensor())

    def weights(self) -> dict[str, Any] | None:
        found = get_model_state_dict(self.model, options=_TRAINED)
        own = {name for name, _ in self.model.named_parameters()}  # tied ones once
        return {name: value for name, value in found.items() if name in own}
