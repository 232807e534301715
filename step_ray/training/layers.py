"""The repeated layers of a model: what is compiled, and what weights are gathered for."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from step_ray.training.errors import TrainError


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The layers of a (peft) causal model. Raises :class:`TrainError` if it has no list of them."""
    base: Any = model
    if hasattr(base, "peft_config"):
        base = base.get_base_model()
    layers = getattr(getattr(base, base.base_model_prefix), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise TrainError(
            f"{type(base).__name__} has no list of layers: set training.parallel to ddp and"
            " training.compile to false"
        )
    return layers


def compile_layers(model: nn.Module) -> None:
    """Has each layer compiled when it is first called, once for all lengths."""
    for layer in decoder_layers(model):
        cast(Any, layer).compile(dynamic=True)
