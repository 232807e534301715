"""The training loop: pure torch, on one process or in an initialised torch.distributed group.

One loop for a laptop and a cluster, for every loss and every layout of the weights. Who starts the
processes, keeps checkpoints and shows progress is behind :class:`Report`: Ray Train in
``step_ray.training.loop``, plain files in ``step_ray.training.alone``.
"""

from __future__ import annotations

import gc
import math
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from step_ray.config_training import TrainConfig
from step_ray.models.load import load_tokenizer
from step_ray.training.batches import BatchPlan
from step_ray.training.checkpoint import (
    new_folder,
    open_model,
    read_state,
    save_weights,
    write_checkpoint,
    write_final,
)
from step_ray.training.errors import TrainError
from step_ray.training.flops import arithmetic, peak
from step_ray.training.group import Group, current_group
from step_ray.training.layers import compile_layers
from step_ray.training.memory import explained
from step_ray.training.objectives import Objective, make_objective
from step_ray.training.packing import enable_packing
from step_ray.training.parallel import Layout, load_optimizer, optimizer_state, spread
from step_ray.training.passes import Passes
from step_ray.training.table import TokenTable
from step_ray.training.tally import Metrics, Tally

Write = Callable[[Path], None]


class Report(Protocol):
    """Where a training's news go."""

    def begin(self, step: int, steps: int) -> None:
        """Rank 0, once: the steps done before (by an earlier attempt) and in all."""

    def log(self, metrics: Metrics) -> None:
        """Rank 0: one line of metrics."""

    def checkpoint(self, metrics: Metrics, write: Write | None, final: bool) -> None:
        """Every rank, at the same steps. ``write`` (rank 0 only) fills an empty folder."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a training begins with: the model folder and the training's fingerprint.

    ``best`` is a folder for the best model so far, on storage that every attempt sees.
    """

    model: Path
    fingerprint: str
    best: Path


def train_loop(
    config: TrainConfig,
    samples: TokenTable,
    report: Report,
    start: Start,
    resume_from: Path | None = None,
    device: torch.device | str = "cpu",
) -> Metrics:
    """Trains to the end and reports the final model; returns the last metrics.

    In a group every process calls this with the same arguments. With ``resume_from``, a folder that
    an earlier attempt of the same training reported, it goes on exactly there: same data order,
    same curve. Raises :class:`~step_ray.training.checkpoint.TrainError` if it is another's, and
    :class:`~step_ray.training.memory.OutOfMemory` with the settings to change.
    """
    with explained(config, max(samples.lengths)):
        return _train(config, samples, report, start, resume_from, device)


def _train(
    config: TrainConfig,
    samples: TokenTable,
    report: Report,
    start: Start,
    resume_from: Path | None,
    device: torch.device | str,
) -> Metrics:
    group = current_group(torch.device(device))
    state: dict[str, Any] = {}
    if resume_from is not None:
        on_gpu = group.device.type == "cuda"  # which the moments are copied to
        state = read_state(resume_from, start.fingerprint, mapped=on_gpu)
    bf16 = bool(state.get("bf16", wants_bf16(config.precision, group.device)))
    autocast = torch.autocast(group.device.type, dtype=torch.bfloat16, enabled=bf16)
    with group.agreed():
        tokenizer = load_tokenizer(start.model)
        model = open_model(start.model, config, resume_from, group.device)
        with autocast:
            packed, share = _pack(model, config)
        if config.compile:
            compile_layers(model)
    objective = make_objective(config, samples)
    even = config.parallel == "fsdp"
    passes = Passes(samples, objective.unit, config.micro_tokens, packed, group, even, share)
    units, held_out = _hold_out(len(passes.lengths), config)
    plan = BatchPlan(
        [passes.lengths[unit] for unit in units],
        config.tokens_per_batch,
        config.seed,
        config.epochs,
        samples_per_batch=config.samples_per_batch,
    )
    loss = objective.module(model)
    with autocast:
        objective.begin(loss, passes, group, state)
    with group.agreed():
        layout = spread(loss, config, group, bf16)
    optimizer = _optimizer(model, config)
    if state:
        load_optimizer(layout, optimizer, state.pop("optimizer"))  # twice the weights: let go
        gc.collect()  # torch leaves them in cycles
    done = int(state.get("step", 0))
    devices = peak(group.device) if bf16 else None
    cost = arithmetic(model) if devices else None
    needed = cost.of_units(samples, objective.unit) if cost else []
    tally = Tally(
        group,
        objective.names,
        state.get("tally"),
        devices and devices * group.world,
        cost.token if cost else 0.0,
    )
    if group.rank == 0:
        report.begin(done, plan.steps)
    metrics: Metrics = dict(state.get("metrics", {}))
    best: Metrics = dict(state.get("best", {}))
    if best and not _kept(start.best, int(best["step"])).is_dir():
        best = {}  # a better one took its place after that checkpoint: it is to be found again
    for step, (epoch, index, batch) in enumerate(plan.after(done), done + 1):
        torch.manual_seed(_step_seed(config.seed, step, group.rank))  # dropout, alike on a resume
        rate = learning_rate(config, step, plan.steps)
        for parameters in optimizer.param_groups:
            parameters["lr"] = rate
        chosen = [units[place] for place in batch]
        size = math.fsum(objective.size(chosen))
        todo = list(passes.of(chosen))
        for number, one in enumerate(todo):
            with layout.accumulating(last=number == len(todo) - 1):
                with autocast:
                    total, sums = objective(layout.module, one)
                # Gradients are averaged over processes, hence the factor.
                scaled: Any = total * (group.world / size if size else 0.0)
                scaled.backward()
            tally.add(one, total, sums)
        norm = layout.clip(config.grad_clip)
        if not math.isfinite(norm):  # before a weight is, and a checkpoint keeps it
            raise FloatingPointError(
                f"the gradient is {norm} at step {step}, so the loss is no number or near to it:"
                f" lower learning_rate ({config.learning_rate}), or set precision to fp32"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens = sum(passes.lengths[unit] for unit in chosen)
        tally.step(tokens, size, math.fsum(needed[unit] for unit in chosen) if needed else 0.0)
        ends = step == plan.steps
        seen: Metrics = {}
        if held_out and (ends or _validates(config, step, index == plan.sizes[epoch] - 1)):
            with autocast:
                seen = _validate(objective, layout, passes, held_out, group)
        if step % config.log_every_steps == 0 or ends or seen:
            place = {"step": step, "steps": plan.steps, "epoch": epoch + 1, "lr": rate}
            place["workers"] = group.world
            metrics = {**place, **tally.metrics(), "grad_norm": norm, **seen}
            if group.rank == 0:
                report.log(metrics)
        if (
            config.keep == "best"
            and seen
            and not best.get("validation_loss", math.inf) <= (seen["validation_loss"])
        ):
            best = dict(metrics)
            weights = layout.weights()
            if group.rank == 0:
                _keep(start.best, step, _later(save_weights, model, tokenizer, weights))
        if config.save_every_steps and step % config.save_every_steps == 0 and not ends:
            now = {
                "step": step,
                "epoch": epoch,
                "batch": index,
                "bf16": bf16,
                "fingerprint": start.fingerprint,
                "metrics": metrics,
                "best": best,
                "tally": tally.state(),
                "optimizer": optimizer_state(layout, optimizer),
                **objective.state(),
            }
            write = _later(write_checkpoint, model, tokenizer, layout.weights(), now)
            named = {**metrics, "step": step}  # a line of metrics may be older
            report.checkpoint(named, write if group.rank == 0 else None, final=False)
    if best:
        metrics = best
    summary = {
        "fingerprint": start.fingerprint,
        "metrics": metrics,
        "seconds": round(tally.seconds, 3),
        "samples": len(samples),
        "held_out": len(held_out) * objective.unit,
        "precision": "bf16" if bf16 else "fp32",
        "packing": "packed" if packed else "padded",
        "config": config.model_dump(mode="json"),
    }
    source = _kept(start.best, int(best["step"])) if best else None
    weights = None if best else layout.weights()

    def finish(folder: Path) -> None:
        whole, saved = model, source
        if weights is not None:
            saved = folder / "weights"
            save_weights(saved, model, tokenizer, weights)
        if saved is not None:
            whole = open_model(start.model, config, saved, torch.device("cpu"))
        write_final(folder, whole, tokenizer, start.model, summary)
        shutil.rmtree(folder / "weights", ignore_errors=True)

    report.checkpoint(metrics, finish if group.rank == 0 else None, final=True)
    return metrics


def _pack(model: nn.Module, config: TrainConfig) -> tuple[bool, bool]:
    """Whether samples are packed, and share their prefix; makes the model fit for it."""
    if config.packing == "padded":
        return False, False
    try:
        return True, enable_packing(model) and config.share_prompts
    except TrainError:
        if config.packing == "packed":
            raise
        return False, False  # auto: what is used is in the summary


def _hold_out(count: int, config: TrainConfig) -> tuple[list[int], list[int]]:
    """Units to train on, and units to watch. Raises :class:`TrainError` if there are too few."""
    held = round(config.validation_fraction * count)
    if config.validation_fraction and not 0 < held < count:
        raise TrainError(
            f"validation_fraction {config.validation_fraction} holds out {held} of {count} samples:"
            " give more samples, or another fraction"
        )
    chance = random.Random(f"step-ray held out {config.seed}")
    held_out = sorted(chance.sample(range(count), held))
    return sorted(set(range(count)) - set(held_out)), held_out


def _validates(config: TrainConfig, step: int, epoch_ends: bool) -> bool:
    every = config.validate_every_steps
    return step % every == 0 if every else epoch_ends


def _validate(
    objective: Objective, layout: Layout, passes: Passes, units: Sequence[int], group: Group
) -> Metrics:
    """The held-out samples' means, over all processes."""
    watched = Tally(group, objective.names)
    layout.module.eval()
    with torch.no_grad():
        for one in passes.of(units):
            watched.add(one, *objective(layout.module, one))
    layout.module.train()
    watched.step(sum(passes.lengths[unit] for unit in units), math.fsum(objective.size(units)))
    found = watched.metrics()
    return {
        f"validation_{name}": found[name] for name in ("loss", *objective.names) if name in found
    }


def _kept(folder: Path, step: int) -> Path:
    return folder.with_name(f"{folder.name}-{step:08d}")


def _keep(folder: Path, step: int, write: Write) -> None:
    """Writes the best model so far, then removes those that were the best before."""
    target = _kept(folder, step)
    shutil.rmtree(target, ignore_errors=True)  # of an attempt that was interrupted after this step
    with new_folder(target) as temporary:
        write(temporary)
    for old in folder.parent.glob(f"{folder.name}-*"):
        if old != target:
            shutil.rmtree(old)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The rate of optimizer step ``step`` (1 is the first) of ``steps``: warm-up, then as told."""
    warmup = math.ceil(config.warmup_fraction * steps)
    if step <= warmup:
        return config.learning_rate * step / warmup
    if config.schedule == "constant":
        return config.learning_rate
    gone = (step - warmup) / max(1, steps - warmup)
    share_left = 0.5 * (1 + math.cos(math.pi * gone))
    low = config.final_fraction
    return config.learning_rate * (low + (1 - low) * share_left)


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: as told, or where the hardware multiplies it faster."""
    if precision != "auto":
        return precision.startswith("bf16")
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # AVX-512 alone, without AMX, is no faster in bfloat16.
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    betas = (0.9, config.beta2)
    try:
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)
    except RuntimeError:  # no fused kernel for this device or dtype
        return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas)


def _step_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step) * 4_099 + rank


def _later(write: Callable[..., None], *rest: Any) -> Write:
    return lambda folder: write(folder, *rest)
