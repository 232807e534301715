"""How a model is trained. Importable without torch or Ray."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from step_ray.trajectory import Verdict


class LoraConfig(BaseModel):
    """Low-rank adapters (peft) in place of full weights; merged into the published model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: int = Field(8, ge=1, description="Rank of the adapters.")
    alpha: float = Field(16.0, gt=0, description="Scale: updates are multiplied by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the adapters, 0 to 1.")
    targets: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", description="Names of the linear layers that get an adapter."
    )


class TrainConfig(BaseModel):
    """One supervised training; the same for a tiny model on two cores and a 7B on a cluster."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(3, ge=1, description="Passes over the samples.")
    learning_rate: float = Field(
        1e-3, gt=0, le=1, description="Peak of the cosine schedule: 1e-3 tiny, 1e-5 to 5e-5 for 7B."
    )
    warmup_fraction: float = Field(
        0.05, ge=0, lt=1, description="Share of all steps in which the rate rises from 0."
    )
    final_fraction: float = Field(
        0.1, ge=0, le=1, description="Learning rate at the end, as a share of the peak."
    )
    tokens_per_batch: int = Field(
        16_384, ge=1, description="Tokens in one optimizer step, over all workers (upper bound)."
    )
    micro_tokens: int = Field(
        8_192, ge=1, description="Tokens with padding in one forward pass of one worker."
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's, on matrices only.")
    beta2: float = Field(0.98, gt=0, lt=1, description="AdamW's second-moment decay.")
    grad_clip: float = Field(1.0, ge=0, description="Largest global gradient norm; 0 is none.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="bf16 is autocast over float32 weights; auto takes it where it is faster.",
    )
    workers: int = Field(2, ge=1, description="Training processes, one GPU each if there are any.")
    threads_per_worker: int = Field(1, ge=1, description="CPU threads of each worker.")
    use_gpu: bool = Field(False, description="Train on GPUs (nccl) instead of CPUs (gloo).")
    normalize: Literal["token", "turn", "trajectory"] = Field(
        "token", description="What weighs the same in the loss: each token, turn or trajectory."
    )
    mask: Literal["partial", "none", "corrections_only"] | dict[Verdict, float] = Field(
        "partial", description="Weights of verdicts: errors masked, nothing masked, or by verdict."
    )
    max_length: int | None = Field(
        None,
        ge=16,
        description="Tokens of a sample; older turns go first. None: the model's limit.",
    )
    seed: int = Field(0, ge=0, description="Of the data order and of dropout.")
    lora: LoraConfig | None = Field(None, description="None trains all weights.")
    gradient_checkpointing: bool = Field(
        False,
        description="Recompute activations in the backward pass: less memory, a third slower.",
    )
    log_every_steps: int = Field(1, ge=1, description="Steps between two lines of metrics.")
    save_every_steps: int = Field(
        200, ge=0, description="Steps between checkpoints; 0 saves only the final model."
    )
    num_to_keep: int = Field(1, ge=1, description="Newest checkpoints kept while training.")
    max_failures: int = Field(
        2, ge=0, description="Times the group of workers is restarted from its last checkpoint."
    )

    @model_validator(mode="before")
    @classmethod
    def _remedies(cls, values: Any) -> Any:
        if isinstance(values, dict) and "batch_size" in values:
            raise ValueError("batches are sized in tokens: set tokens_per_batch, not batch_size")
        return values

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if not isinstance(self.mask, str):
            weights = self.mask.values()
            if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
                raise ValueError("weights of the mask are finite and at least 0")
            if not any(weights):
                raise ValueError("all weights of the mask are 0: give one verdict a positive one")
        return self
