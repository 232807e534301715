"""What models and running checkpoints take on disk, in bytes a parameter."""

from __future__ import annotations

import json
import math
from pathlib import Path

from step_ray.config_training import TrainConfig

_WIDE = {"float32": 4, "float64": 8}  # bytes of a number; all other formats have 2


def published_bytes(model: Path | None) -> int:
    """Of a trained model, which has the number format of its start (training/checkpoint.py):
    float32 where that is made on the spot (None), and half of it where it is not there yet."""
    if model is None:
        return 4
    try:
        settings = json.loads((model.expanduser() / "config.json").read_text("utf-8"))
    except FileNotFoundError:
        return 2
    return _WIDE.get(str(settings.get("dtype") or settings.get("torch_dtype")), 2)


def training_bytes(config: TrainConfig, steps: float, published: int) -> int:
    """What is there besides while a model is trained in so many steps, at most.

    A running checkpoint has the weights and AdamW's two moments, and the next one is written before
    the oldest goes; in the end the model is there twice, and with fsdp its weights as they were
    trained. Adapters are taken to be nothing.
    """
    number = 2 if config.precision == "bf16_weights" else 4
    each, gathered = 3 * number, number if config.parallel == "fsdp" else 0
    if config.lora is not None:
        each = gathered = 0
    every, keep = config.save_every_steps, config.num_to_keep
    written = max(0, math.ceil(steps / every) - 1) if every else 0  # none after the last step
    return max(min(written, keep + 1) * each, min(written, keep) * each + gathered + published)
