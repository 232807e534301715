"""Models and training states on disk: what a training reads, leaves behind and publishes.

A checkpoint is a Hugging Face folder (adapters only, under LoRA) with ``training_state.pt``; the
last one, ready to publish, has ``training.json`` instead.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from step_ray import files
from step_ray.config_section import of_execution
from step_ray.config_training import LoraConfig, TrainConfig
from step_ray.models.load import end_tokens, load_model, load_tokenizer
from step_ray.models.quiet import quiet
from step_ray.training.errors import TrainError as TrainError
from step_ray.training.table import TokenTable
from step_ray.trajectory import content_hash

STATE = "training_state.pt"
SUMMARY = "training.json"
METRICS = "metrics.jsonl"
_SAME_CURVE = {  # besides the fields that say how the work is done: they change last digits alone
    "workers",
    "use_gpu",
    "micro_tokens",
    "packing",
    "share_prompts",
    "gradient_checkpointing",
}


def training_fingerprint(config: TrainConfig, samples: TokenTable, model: str) -> str:
    """Equal for two trainings that are to give the same model; ``model`` identifies the start."""
    fields = {name for name, info in TrainConfig.model_fields.items() if not of_execution(info)}
    settings = config.model_dump(mode="json", include=fields - _SAME_CURVE)
    return content_hash({"config": settings, "data": samples.fingerprint, "model": model})


def open_model(
    path: Path, config: TrainConfig, resume_from: Path | None, device: torch.device
) -> nn.Module:
    """The model to train, in training mode: from a checkpoint if there is one, else from ``path``.

    Trained weights are float32, unless ``precision`` is ``bf16_weights``; under LoRA the frozen
    ones are bfloat16 then, and on a GPU always.
    """
    half = config.precision == "bf16_weights"
    if config.lora is None:
        dtype = "bfloat16" if half else "float32"
        model: nn.Module = load_model(resume_from or path, dtype, device=device)
    else:
        frozen = "bfloat16" if half or device.type == "cuda" else "float32"
        base = load_model(path, frozen, device=device)
        model = _with_adapters(base, config.lora, resume_from, config.seed)
    if config.gradient_checkpointing:
        cast(Any, model).gradient_checkpointing_enable({"use_reentrant": False})
        if config.lora is not None:
            cast(Any, model).enable_input_require_grads()
    return model.train()


def _with_adapters(
    base: nn.Module, lora: LoraConfig, resume_from: Path | None, seed: int
) -> nn.Module:
    import peft

    if resume_from is not None:
        return cast(nn.Module, peft.PeftModel.from_pretrained(base, resume_from, is_trainable=True))
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    settings = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)  # adapters begin at random: the same on every worker
    try:
        return cast(nn.Module, peft.get_peft_model(base, settings))
    except ValueError as error:
        raise TrainError(f"lora.targets: {error}") from error


def write_checkpoint(
    folder: Path,
    model: nn.Module,
    tokenizer: Any,
    weights: Mapping[str, Any] | None,
    state: Mapping[str, Any],
) -> None:
    """Fills ``folder`` with a checkpoint to resume from; ``weights`` if not those in ``model``."""
    save_weights(folder, model, tokenizer, weights)
    torch.save(dict(state), folder / STATE)


def save_weights(
    folder: Path, model: nn.Module, tokenizer: Any, weights: Mapping[str, Any] | None = None
) -> None:
    """Writes a Hugging Face folder of the model, or of the adapters it has."""
    given = {} if weights is None else {"state_dict": dict(weights)}
    with quiet():
        cast(Any, model).save_pretrained(folder, **given)
        tokenizer.save_pretrained(folder)


def read_state(folder: Path, fingerprint: str, mapped: bool = False) -> dict[str, Any]:
    """The state in a checkpoint. ``mapped``: its tensors are the file's own bytes, which take no
    memory, for who copies them at once; the checkpoint may be removed later.

    Raises :class:`TrainError` if it is another training's.
    """
    state: dict[str, Any] = torch.load(
        folder / STATE, map_location="cpu", weights_only=True, mmap=mapped
    )
    if state["fingerprint"] != fingerprint:
        raise TrainError(
            f"{folder} is a checkpoint of another training (its data, starting model or settings"
            " differ): remove it, or choose another output folder"
        )
    return state


def write_final(
    folder: Path, model: nn.Module, tokenizer: Any, start: Path, summary: Mapping[str, Any]
) -> None:
    """Fills ``folder`` with the trained model, whole (adapters merged), in the start's dtype. Under
    LoRA the adapters by themselves are in its folder ``adapter``."""
    trained: Any = model
    if hasattr(trained, "peft_config"):
        trained.save_pretrained(folder / "adapter")
        trained = trained.merge_and_unload()
    save_weights(folder, _ended(_in_dtype_of(start, trained), tokenizer), tokenizer)
    files.write_json_atomic(folder / SUMMARY, dict(summary))


def merge_adapter(base: Path, adapter: Path, folder: Path) -> None:
    """Fills ``folder`` with the model ``base`` and its LoRA adapter as one, in the base's dtype.

    Raises :class:`~step_ray.models.base.ModelError` if they do not belong together.
    """
    merged, tokenizer = load_model(base, "float32", adapter=adapter), load_tokenizer(base)
    save_weights(folder, _ended(_in_dtype_of(base, merged), tokenizer), tokenizer)


def _ended(model: Any, tokenizer: Any) -> Any:
    """The model, whose configuration says that a reply ends where the chat template ends it, as it
    was trained to, whoever serves it."""
    ends = sorted(end_tokens(model, tokenizer))
    model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    return model


def _in_dtype_of(start: Path, model: Any) -> Any:
    dtype = _dtype_of(start)
    if dtype is not None and dtype != next(model.parameters()).dtype:
        return model.to(dtype)
    return model


def _dtype_of(model: Path) -> torch.dtype | None:
    settings = json.loads((model / "config.json").read_text("utf-8"))
    name = settings.get("dtype") or settings.get("torch_dtype") or ""
    dtype = getattr(torch, str(name).removeprefix("torch."), None)
    return dtype if isinstance(dtype, torch.dtype) and dtype.is_floating_point else None


def read_summary(folder: Path) -> dict[str, Any] | None:
    """What :func:`write_final` said of a finished model; None for any other folder."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((folder / SUMMARY).read_text("utf-8"))
        return found if isinstance(found, dict) else None
    return None


def check_published(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The summary of a model published by this same training; None if there is no such folder.

    Raises :class:`TrainError` if something else is there.
    """
    if not folder.exists():
        return None
    summary = read_summary(folder)
    if summary is None or summary.get("fingerprint") != fingerprint:
        raise TrainError(
            f"{folder} holds something else than this training would put there (other data,"
            " starting model or settings): remove it, or choose another output folder"
        )
    return summary


def publish(source: Path, target: Path) -> None:
    """Puts a copy of a finished model at ``target``: wholly there or not at all."""
    with new_folder(target) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Gives an empty temporary folder to fill; renames it to ``target`` if the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = files.temporary_name(target)
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            files.sync(path)
        files.sync(temporary)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    files.sync(target.parent)


def sweep(*folders: Path) -> None:
    """Removes what killed writers left half done; nobody else may be writing there."""
    for folder in folders:
        for path in folder.glob(f"{files.TEMPORARY}*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class MetricsFile:
    """One JSON object a line, each written at once, so that it can be read while it grows."""

    def __init__(self, path: Path, from_step: int) -> None:
        """Keeps what an earlier attempt wrote up to ``from_step``, as later steps come again."""
        self._path = path
        kept = [line for line in _lines(path) if line.get("step", math.inf) <= from_step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        files.write_text_atomic(path, text)

    def append(self, metrics: Mapping[str, float]) -> None:
        line = json.dumps(metrics, allow_nan=False) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text("utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):  # half a line of a killed writer
            found = json.loads(line)
            if isinstance(found, dict):
                yield found


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All lines of a metrics file so far."""
    return list(_lines(path))
