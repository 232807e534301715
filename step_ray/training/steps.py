"""The training loop: pure torch, on one process or in an initialised torch.distributed group.

One loop for a laptop and a cluster. Who starts the processes, keeps checkpoints and shows progress
is behind :class:`Report`: Ray Train in ``step_ray.training.loop``, plain files in
``step_ray.training.alone``.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from step_ray.models.base import ModelError
from step_ray.models.load import load_tokenizer
from step_ray.training.batches import BatchPlan, micro_batches, share
from step_ray.training.checkpoint import (
    TrainError,
    open_model,
    read_state,
    write_checkpoint,
    write_final,
)
from step_ray.training.config import TrainConfig
from step_ray.training.losses import MaskedLoss
from step_ray.training.table import CLASSES, TokenTable

Metrics = dict[str, float]
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
    """What a training begins with: the model folder and the training's fingerprint."""

    model: Path
    fingerprint: str


@dataclass(slots=True)
class _Group:
    """This process among the training's processes."""

    rank: int
    world: int
    device: torch.device

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """If the block fails for one process, all fail: none is left waiting for the others."""
        error: Exception | None = None
        try:
            yield
        except (ModelError, TrainError) as caught:
            error = caught
        errors: list[str | None] = [None] * self.world
        if self.world > 1:
            dist.all_gather_object(errors, None if error is None else str(error))
        if error is not None:
            raise error
        for message in errors:
            if message is not None:
                raise TrainError(message)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Adds vectors over all processes, in double precision."""
        if self.world == 1:
            return list(values)
        # NCCL has no CPU tensors; a device without float64 (mps) has no groups here.
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]


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
    same curve. Raises :class:`~step_ray.training.checkpoint.TrainError` if it is another's.
    """
    group = _group(torch.device(device))
    plan = BatchPlan(samples.lengths, config.tokens_per_batch, config.seed, config.epochs)
    state = read_state(resume_from, start.fingerprint) if resume_from is not None else {}
    bf16 = bool(state.get("bf16", wants_bf16(config.precision, group.device)))
    with group.agreed():
        tokenizer = load_tokenizer(start.model)
        model = open_model(start.model, config, resume_from, group.device)
    loss = MaskedLoss(model)
    module: nn.Module = loss
    if group.world > 1:
        module = DistributedDataParallel(
            loss, gradient_as_bucket_view=True, broadcast_buffers=False
        )
    optimizer = _optimizer(model, config)
    if state:
        optimizer.load_state_dict(state["optimizer"])
    done = int(state.get("step", 0))
    tally = _Tally(group, samples, float(state.get("seconds", 0.0)))
    if group.rank == 0:
        report.begin(done, plan.steps)
    metrics: Metrics = dict(state.get("metrics", {}))
    weight_sums = samples.weight_sums
    for step, (epoch, index, batch) in enumerate(plan.after(done), done + 1):
        torch.manual_seed(_step_seed(config.seed, step, group.rank))  # dropout, alike on a resume
        rate = learning_rate(config, step, plan.steps)
        for parameters in optimizer.param_groups:
            parameters["lr"] = rate
        passes = micro_batches(
            share(batch, plan.lengths, group.rank, group.world), plan.lengths, config.micro_tokens
        )
        total = math.fsum(weight_sums[sample] for sample in batch)
        for number, one in enumerate(passes or [[]]):
            last = number >= len(passes) - 1
            tally.add(_backward(module, samples, one, total, group, bf16, last))
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip or math.inf)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tally.step(batch, total)
        if step % config.log_every_steps == 0 or step == plan.steps:
            place = {"step": step, "steps": plan.steps, "epoch": epoch + 1, "lr": rate}
            metrics = {**place, **tally.metrics(), "grad_norm": float(norm)}
            if not math.isfinite(metrics["loss"]):
                raise FloatingPointError(
                    f"the loss is {metrics['loss']} at step {step}: lower learning_rate"
                    f" ({config.learning_rate}), or set precision to fp32"
                )
            if group.rank == 0:
                report.log(metrics)
        if config.save_every_steps and step % config.save_every_steps == 0 and step < plan.steps:
            now = {
                "step": step,
                "epoch": epoch,
                "batch": index,
                "bf16": bf16,
                "fingerprint": start.fingerprint,
                "metrics": metrics,
                "seconds": tally.seconds,
                "optimizer": optimizer.state_dict(),
            }
            write = _later(write_checkpoint, model, tokenizer, now)
            report.checkpoint(metrics, write if group.rank == 0 else None, final=False)
    summary = {
        "fingerprint": start.fingerprint,
        "metrics": metrics,
        "seconds": round(tally.seconds, 3),
        "samples": len(samples),
        "precision": "bf16" if bf16 else "fp32",
        "config": config.model_dump(mode="json"),
    }
    write = _later(write_final, model, tokenizer, start.model, summary)
    report.checkpoint(metrics, write if group.rank == 0 else None, final=True)
    return metrics


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The rate of optimizer step ``step`` (1 is the first) of ``steps``: warm-up, then a cosine."""
    warmup = math.ceil(config.warmup_fraction * steps)
    if step <= warmup:
        return config.learning_rate * step / warmup
    gone = (step - warmup) / max(1, steps - warmup)
    share_left = 0.5 * (1 + math.cos(math.pi * gone))
    low = config.final_fraction
    return config.learning_rate * (low + (1 - low) * share_left)


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: as told, or where the hardware multiplies it faster."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # AVX-512 alone, without AMX, is no faster in bfloat16.
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def _backward(
    module: nn.Module,
    samples: TokenTable,
    one: Sequence[int],
    total: float,
    group: _Group,
    bf16: bool,
    last: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """One forward and backward pass; the last one of a step adds the gradients of all workers up.

    Returns the weighted loss sum, the loss of each trained token and their verdict codes.
    """
    arrays = samples.padded(one) if one else samples.padded([0])
    ids, weights, verdicts = (torch.from_numpy(a).to(group.device) for a in arrays)
    if not one:
        ids, weights, verdicts = ids[:, :2], weights[:, :2] * 0, verdicts[:, :2]
    # Gradients are averaged over workers by DDP, hence the factor.
    scale = group.world / total if total else 0.0
    silent = (
        cast(Any, module).no_sync() if group.world > 1 and not last else contextlib.nullcontext()
    )
    with silent:
        with torch.autocast(group.device.type, dtype=torch.bfloat16, enabled=bf16):
            loss, each, trained = module(ids, weights)
        (loss * scale).backward()
    return loss.detach(), each, verdicts[trained]


class _Tally:
    """Sums since the last line of metrics."""

    def __init__(self, group: _Group, samples: TokenTable, seconds: float) -> None:
        self._group = group
        self._before = seconds
        self._began = self._last = time.perf_counter()
        self._lengths = samples.lengths
        self._reset()

    def _reset(self) -> None:
        self._losses: list[tuple[Tensor, Tensor, Tensor]] = []
        self._tokens = 0
        self._weight = 0.0

    @property
    def seconds(self) -> float:
        """Time spent training, earlier attempts included."""
        return self._before + time.perf_counter() - self._began

    def add(self, losses: tuple[Tensor, Tensor, Tensor]) -> None:
        self._losses.append(losses)

    def step(self, batch: Sequence[int], weight: float) -> None:
        self._tokens += sum(self._lengths[sample] for sample in batch)
        self._weight += weight

    def metrics(self) -> Metrics:
        """Means over all workers since the last call; every worker calls it."""
        weighted = math.fsum(float(loss) for loss, _, _ in self._losses)
        sums = [weighted]
        each = torch.cat([each for _, each, _ in self._losses]).double()
        codes = torch.cat([codes for _, _, codes in self._losses])
        for code in range(len(CLASSES)):
            mine = each[codes == code]
            sums += [float(mine.sum()), float(len(mine))]
        sums = self._group.sum(sums)
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        trained = sum(sums[2::2])
        metrics = {
            "loss": sums[0] / self._weight,
            "tokens_per_second": round(self._tokens / seconds, 1),
            "trained_tokens_per_second": round(trained / seconds, 1),
            "seconds": round(self.seconds, 3),
        }
        for name, total, count in zip(CLASSES, sums[1::2], sums[2::2], strict=True):
            if count:
                metrics[f"loss_{name}"] = total / count
        self._reset()
        return metrics


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


def _group(device: torch.device) -> _Group:
    if dist.is_available() and dist.is_initialized():
        return _Group(dist.get_rank(), dist.get_world_size(), device)
    return _Group(0, 1, device)


def _step_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step) * 4_099 + rank


def _later(write: Callable[..., None], *rest: Any) -> Write:
    return lambda folder: write(folder, *rest)
