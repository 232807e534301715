"""A LoRA adapter of the packaged model that changes what it says."""

from __future__ import annotations

from pathlib import Path

from step_ray.models.make import PACKAGED_MODEL


def make_adapter(folder: Path, seed: int = 0) -> Path:
    """Writes it as peft does."""
    import peft
    import torch

    from step_ray.models.load import load_model

    torch.manual_seed(seed)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    model = peft.get_peft_model(load_model(PACKAGED_MODEL, "float32"), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 1.0)
    model.save_pretrained(folder)
    return folder
