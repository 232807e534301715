"""How a model is trained. Importable without torch or Ray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from step_ray import config_text
from step_ray.config_section import EXECUTION, Section, each_once
from step_ray.trajectory import Verdict


class LoraConfig(Section):
    """Low-rank adapters (peft) in place of full weights; merged into the published model."""

    r: int = Field(8, ge=1, description="Rank of the adapters.")
    alpha: float = Field(16.0, gt=0, description="Scale: updates are multiplied by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the adapters, 0 to 1.")
    targets: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", description="Names of the linear layers that get an adapter."
    )


class TrainConfig(Section):
    """One training; the same for a tiny model on two cores and a 7B on a cluster."""

    loss: Literal["cross_entropy", "reward_weighted", "dpo"] = Field(
        "cross_entropy",
        description="Masked cross-entropy of trajectories; the same with each one weighted by its"
        " reward, or by the weights given with its turns; or DPO of preference pairs.",
    )
    turn_weights: Path | None = Field(
        None,
        description="reward_weighted: Parquet file with columns id (of a trajectory) and weights (a"
        " list: one number >= 0 for each of its turns). None: its reward weighs all its turns.",
    )
    dpo_beta: float = Field(
        0.1, gt=0, description="DPO: strength of the pull towards the starting model."
    )
    dpo_reference_free: bool = Field(
        False, description="DPO: compare log-probabilities alone, not with the starting model's."
    )
    epochs: int = Field(3, ge=1, description="Passes over the samples.")
    learning_rate: float = Field(
        1e-3, gt=0, le=1, description="Peak of the schedule: 1e-3 tiny, 1e-5 to 5e-5 for 7B."
    )
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="What the rate does after its warm-up: falls as a cosine, or stays."
    )
    warmup_fraction: float = Field(
        0.05, ge=0, lt=1, description="Share of all steps in which the rate rises from 0."
    )
    final_fraction: float = Field(
        0.1, ge=0, le=1, description="The cosine's end, as a share of the peak."
    )
    tokens_per_batch: int = Field(
        16_384, ge=1, description="Tokens in one optimizer step, over all workers (upper bound)."
    )
    samples_per_batch: int | None = Field(
        None,
        ge=1,
        description="Samples (pairs, for DPO) in one optimizer step, in place of tokens_per_batch.",
    )
    micro_tokens: int = Field(
        8_192, ge=1, description="Tokens with padding in one forward pass of one worker."
    )
    packing: Literal["auto", "packed", "padded"] = Field(
        "auto",
        description="Samples of a forward pass end to end in one row, each attending to itself"
        " alone, or side by side with padding. auto packs where the model's attention allows it.",
    )
    share_prompts: bool = Field(
        True,
        description="Packed rows: what all samples of a row begin with, such as the instruction, is"
        " computed once; loss and gradients are the same.",
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's, on matrices only.")
    beta2: float = Field(0.98, gt=0, lt=1, description="AdamW's second-moment decay.")
    grad_clip: float = Field(1.0, ge=0, description="Largest global gradient norm; 0 is none.")
    precision: Literal["auto", "fp32", "bf16", "bf16_weights"] = Field(
        "auto",
        description="bf16 is autocast over float32 weights; auto takes it where it is faster."
        " bf16_weights keeps weights and AdamW's moments in bfloat16 too: half the memory, and"
        " updates of less than 0.4 % of a weight are lost.",
    )
    workers: int = Field(2, ge=1, description="Training processes, one GPU each if there are any.")
    min_workers: int | None = Field(
        None,
        ge=1,
        description="Fewest workers to go on with when the cluster has lost some; the batches and"
        " the curve stay the same. None: it waits for all of them.",
        json_schema_extra=EXECUTION,
    )
    threads_per_worker: int = Field(
        1, ge=1, description="CPU threads of each worker.", json_schema_extra=EXECUTION
    )
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="Each worker has the whole model (ddp), or a share of its weights, gradients"
        " and optimizer state (fsdp: less memory, more traffic); the curve is the same.",
    )
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
    overlong: Literal["truncate", "drop"] = Field(
        "truncate",
        description="What becomes of a trajectory over max_length: its oldest turns are left out,"
        " or all of it; both are counted.",
    )
    token_cache: Path | None = Field(
        None,
        description="Folder of tokenised samples, shared by trainings with the same data, tokenizer"
        " and mask; in a run a relative one is below $STEP_RAY_RUNS, if that is set. None: each"
        " training keeps its own, for its own next attempt.",
        json_schema_extra=EXECUTION,
    )
    validation_fraction: float = Field(
        0.0, ge=0, lt=1, description="Share of the samples held out; their loss is watched."
    )
    validate_every_steps: int = Field(
        0, ge=0, description="Steps between validations; 0 validates after each epoch."
    )
    keep: Literal["last", "best"] = Field(
        "last", description="The model that is published: the last, or the best in validation."
    )
    seed: int = Field(0, ge=0, description="Of the data order, of dropout and of what is held out.")
    lora: LoraConfig | None = Field(None, description="None trains all weights.")
    gradient_checkpointing: bool = Field(
        False,
        description="Recompute activations in the backward pass: less memory for more time.",
    )
    compile: bool = Field(
        False,
        description="Compile the model's layers (a C++ compiler is needed on CPUs): a minute or two"
        " at the start, then faster steps, more so where passes are padded; for ddp.",
    )
    log_every_steps: int = Field(
        1, ge=1, description="Steps between two lines of metrics.", json_schema_extra=EXECUTION
    )
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(
        ("tensorboard",),
        description="What shows metrics besides metrics.jsonl: tensorboard, wandb (offline unless"
        " WANDB_MODE says otherwise), mlflow (a folder unless MLFLOW_TRACKING_URI names a server).",
        json_schema_extra=EXECUTION,
    )
    save_every_steps: int = Field(
        200,
        ge=0,
        description="Steps between checkpoints; 0 saves only the final model.",
        json_schema_extra=EXECUTION,
    )
    num_to_keep: int = Field(
        1, ge=1, description="Newest checkpoints kept while training.", json_schema_extra=EXECUTION
    )
    max_failures: int = Field(
        2,
        ge=0,
        description="Times the group of workers is restarted from its last checkpoint.",
        json_schema_extra=EXECUTION,
    )

    _each_once = field_validator("trackers")(each_once)

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
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError("min_workers is more than workers: lower it, or leave it out")
        fields = type(self).model_fields
        if self.loss == "dpo":
            if self.normalize != "token":
                raise ValueError("DPO sums over tokens: leave normalize at token")
        else:
            for name in ("dpo_beta", "dpo_reference_free"):
                if getattr(self, name) != fields[name].default:
                    raise ValueError(f"{name} is of DPO alone: set loss to dpo, or leave it out")
        if self.loss == "reward_weighted" and self.normalize == "trajectory":
            raise ValueError(
                "normalize trajectory takes away the weights of reward_weighted: use token or turn"
            )
        if self.turn_weights is not None and self.loss != "reward_weighted":
            raise ValueError("turn_weights is of reward_weighted alone: set loss, or leave it out")
        if self.compile and self.parallel == "fsdp":
            raise ValueError("compile is for parallel: ddp; leave it false with fsdp")
        if not self.validation_fraction:
            for name in ("validate_every_steps", "keep"):
                if getattr(self, name) != fields[name].default:
                    raise ValueError(f"{name} needs samples held out: set validation_fraction")
        return self


def load_train_config(path: Path | None, overrides: Sequence[str] = ()) -> TrainConfig:
    """A training's settings from a YAML file (None: none), with ``field=value`` overrides, or
    ``training.field=value``, as messages and configs name the fields.

    Raises :class:`~step_ray.config_text.ConfigError`, whose text lists every problem.
    """
    raw = config_text.read_yaml(path) if path is not None else {}
    if "training" in raw or "output" in raw:
        whole = "this is a run's config -> give the fields of its section training alone"
        raise config_text.ConfigError([whole], str(path))
    short = [override.removeprefix("training.") for override in overrides]
    problems = config_text.apply_overrides(raw, short)
    try:
        found = TrainConfig.model_validate(raw)
    except ValidationError as error:
        problems += [line for _, line in config_text.describe(error, raw, TrainConfig)]
    if problems:
        raise config_text.ConfigError(problems, str(path or "training"))
    return found
