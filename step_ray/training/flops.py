"""How much arithmetic a training needs, and what share of a device's peak it is (MFU).

What the model has to compute counts, and nothing else: each token once through every layer, causal
attention within its sample, the output layer where there is loss. A matrix costs 2 FLOPs a weight
and token forward, 2 for the gradient of its input and, unless it is frozen, 2 for its own. Padding,
and what is computed again to save memory, is no use and does not count (Chowdhery et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from step_ray.training.table import TokenTable

PEAK = {  # FLOP/s in bfloat16 without sparsity, by a part of the device's name (vendor's figures)
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
}


def peak(device: torch.device) -> float | None:
    """The device's FLOP/s in bfloat16; None where nobody has written them down."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for part, flops in PEAK.items() if part in name), None)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """FLOPs of a training step: of a token in the layers, of a token with loss in the output layer,
    and of a pair of tokens, one of which attends to the other, in all layers."""

    token: float
    trained: float
    pair: float

    def of(self, tokens: int, trained: int) -> float:
        """FLOPs of a sample."""
        return self.token * tokens + self.trained * trained + self.pair * tokens * (tokens + 1) / 2

    def of_units(self, samples: TokenTable, unit: int) -> list[float]:
        """FLOPs of each ``unit`` samples that follow each other."""
        each = [self.of(*sizes) for sizes in zip(samples.lengths, samples.trained, strict=True)]
        return [sum(each[start : start + unit]) for start in range(0, len(each), unit)]


def arithmetic(model: nn.Module) -> Arithmetic | None:
    """The arithmetic of a (peft) causal model; None for a mixture of experts, of whose weights a
    token meets only some."""
    base: Any = model
    if hasattr(base, "peft_config"):
        base = base.get_base_model()
    config = base.config
    if any(parameter.ndim > 2 for parameter in model.parameters()) or any(
        getattr(config, name, None) for name in ("num_experts", "num_local_experts")
    ):
        return None
    head = base.get_output_embeddings().weight
    apart = {id(head), id(base.get_input_embeddings().weight)}
    matrices = (p for p in model.parameters() if p.ndim == 2 and id(p) not in apart)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Arithmetic(
        token=sum(_each(matrix) for matrix in matrices),
        trained=_each(head),
        # Forward q k and p v, 2 FLOPs a number each; backward twice that.
        pair=12.0 * config.num_hidden_layers * config.num_attention_heads * width,
    )


def _each(matrix: torch.Tensor) -> float:
    return matrix.numel() * (6.0 if matrix.requires_grad else 4.0)
