"""A LoRA adapter of the packaged model that changes what it says."""

from __future__ import annotations

from pathlib import Path

from step_ray.models.make import PACKAGED_MODEL


def make_adapter(folder: Path, seed: int = 0) -> Path:
    """Writes it as peft does."""
    import peft
    import torch

    from step_ray.models.load import load_model

    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    model = peft.get_peft_model(load_model(PACKAGED_MODEL, "float32"), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3, generator=generator)
    model.save_pretrained(folder)
    return folder
