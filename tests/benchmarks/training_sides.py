"""One way of training, in a process of its own: ours, TRL's two, or a plain Hugging Face loop.

``python training_sides.py SIDE FOLDER`` trains the model in ``FOLDER/start`` on
``FOLDER/samples.parquet`` as ``FOLDER/settings.json`` says, and prints one JSON object as its last
line. All sides get the same samples, one sample's tokens in one piece; TRL shuffles and batches
them its own way, the plain loop takes our order. Only the training itself is timed: no loading, no
tokenising, no writing of models.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from step_ray.config_training import LoraConfig, TrainConfig
from step_ray.models.load import load_model, load_tokenizer
from step_ray.training import steps, table
from step_ray.training.batches import BatchPlan
from step_ray.training.checkpoint import open_model
from step_ray.training.group import Group
from step_ray.training.objectives import CrossEntropy
from step_ray.training.passes import Passes

_IGNORED = -100


class Clock:
    """Wall and CPU seconds between :meth:`start` and :meth:`stop`; memory at its highest in MB."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self.found: dict[str, float] = {}

    def start(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.found["memory_before_mb"] = _resident_mb()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()
        self.found["wall_seconds"] = round(time.perf_counter() - self._wall, 3)
        self.found["cpu_seconds"] = round(time.process_time() - self._cpu, 3)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        if self._cuda:
            peak = torch.cuda.max_memory_allocated() / 1e6
        self.found["peak_memory_mb"] = round(peak)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 1e6)


Settings = dict[str, Any]


def ours(folder: Path, settings: Settings, clock: Clock) -> tuple[Any, dict[str, float]]:
    """The training loop, with nothing between it and the clock but the writing of the model."""
    samples = table.read(folder / "samples.parquet")
    device = torch.device(settings["device"])
    config = train_config(settings)
    metrics: list[dict[str, float]] = []

    class Report:
        def begin(self, step: int, steps: int) -> None:
            clock.start()

        def log(self, line: dict[str, float]) -> None:
            metrics.append(line)

        def checkpoint(self, line: Any, write: Any, final: bool) -> None:
            clock.stop()

    kept: list[Any] = []
    opened = steps.open_model
    steps.open_model = lambda *given: kept.append(opened(*given)) or kept[-1]  # type: ignore[func-returns-value]
    start = steps.Start(folder / "start", "", folder / "best")
    steps.train_loop(config, samples, Report(), start, None, device)
    tokens, positions = _computed(samples, config)
    return kept[0], {
        "fill_rate": tokens / positions,
        "computed_share": tokens / sum(samples.lengths),
        "logged_loss": metrics[-1]["loss"],
    }


def train_config(settings: Settings) -> TrainConfig:
    """What all sides do, in our words; ``ours`` may add its own."""
    return TrainConfig(
        epochs=settings["epochs"],
        learning_rate=settings["learning_rate"],
        schedule="constant",
        warmup_fraction=0.0,
        samples_per_batch=settings["batch"],
        weight_decay=0.0,
        beta2=0.999,
        precision=settings["precision"],
        workers=1,
        log_every_steps=10,
        save_every_steps=0,
        gradient_checkpointing=settings["recompute"],
        lora=LoraConfig(r=16, alpha=32) if settings["lora"] else None,
        use_gpu=settings["device"] == "cuda",
        **settings["ours"],
    )


def _computed(samples: Any, config: TrainConfig) -> tuple[int, int]:
    """Tokens and positions that an epoch computes: a prefix that samples share counts once."""
    packed = config.packing != "padded"
    group = Group(0, 1, torch.device("cpu"))
    passes = Passes(samples, 1, config.micro_tokens, packed, group, share=config.share_prompts)
    plan = BatchPlan(samples.lengths, 1, config.seed, samples_per_batch=config.samples_per_batch)
    made = [one for batch in plan.epoch(0) for one in passes.of(batch)]
    return sum(one.tokens for one in made), sum(one.ids.numel() for one in made)


def trl_padded(folder: Path, settings: Settings, clock: Clock) -> tuple[Any, dict[str, float]]:
    """TRL's SFTTrainer: every batch padded to its longest sample."""
    return _trl(folder, settings, clock, {"per_device_train_batch_size": settings["batch"]})


def trl_packed(folder: Path, settings: Settings, clock: Clock) -> tuple[Any, dict[str, float]]:
    """TRL's SFTTrainer with packing (best-fit decreasing), in rows of a batch's mean length."""
    lengths = table.read(folder / "samples.parquet").lengths
    batches = math.ceil(len(lengths) / settings["batch"])
    # A little room, so that there are as many rows as batches: as many steps for every side.
    row = max(math.ceil(1.03 * sum(lengths) / batches), *lengths)
    accumulated = 1
    if settings["sequence"]:
        accumulated = max(1, round(row / settings["sequence"]))
        row = max(settings["sequence"], *lengths)
    changes = {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": accumulated,
        "packing": True,
        "max_length": row,
    }
    return _trl(folder, settings, clock, changes)


def _trl(
    folder: Path, settings: Settings, clock: Clock, changes: dict[str, Any]
) -> tuple[Any, dict[str, float]]:
    import datasets
    import trl
    from transformers import TrainerCallback

    class Timed(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.start()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            clock.stop()

    longest = max(table.read(folder / "samples.parquet").lengths)
    cuda = settings["device"] == "cuda"
    arguments = {
        "output_dir": str(folder / "trl"),
        "num_train_epochs": settings["epochs"],
        "learning_rate": settings["learning_rate"],
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "max_length": longest,
        "gradient_checkpointing": settings["recompute"],
        "bf16": settings["precision"] == "bf16",
        "use_cpu": not cuda,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 10,
        "disable_tqdm": True,
        "seed": 0,
        **changes,
    }
    rows = [{"input_ids": ids, "labels": labels} for ids, labels in _labelled(folder)]
    lora = {}
    if settings["lora"]:
        from peft import LoraConfig as Adapters

        lora["peft_config"] = Adapters(
            r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        )
    trainer = trl.SFTTrainer(
        model=_model(folder, settings),
        args=trl.SFTConfig(**arguments),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=load_tokenizer(folder / "start"),
        callbacks=[Timed()],
        **lora,
    )
    trainer.train()
    return trainer.model, {}


def hf_loop(folder: Path, settings: Settings, clock: Clock) -> tuple[Any, dict[str, float]]:
    """The loop of a tutorial: pad, let the model make its loss, step; the samples in our order."""
    device = torch.device(settings["device"])
    model: Any = _model(folder, settings).train()
    rows = list(_labelled(folder))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings["learning_rate"], weight_decay=0.0)
    plan = BatchPlan(
        [len(ids) for ids, _ in rows],
        1,
        train_config(settings).seed,
        settings["epochs"],
        samples_per_batch=settings["batch"],
    )
    bf16 = settings["precision"] == "bf16"
    clock.start()
    for epoch in range(settings["epochs"]):
        for chosen in plan.epoch(epoch):
            batch = [rows[index] for index in chosen]
            width = max(len(ids) for ids, _ in batch)
            ids = torch.zeros(len(batch), width, dtype=torch.long)
            labels = torch.full((len(batch), width), _IGNORED)
            there = torch.zeros(len(batch), width, dtype=torch.long)
            for row, (given, wanted) in enumerate(batch):
                ids[row, : len(given)] = torch.tensor(given)
                labels[row, : len(given)] = torch.tensor(wanted)
                there[row, : len(given)] = 1
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                out = model(
                    input_ids=ids.to(device),
                    attention_mask=there.to(device),
                    labels=labels.to(device),
                )
            out.loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
    clock.stop()
    return model, {}


def _model(folder: Path, settings: Settings) -> Any:
    device = torch.device(settings["device"])
    config = train_config(settings)
    if config.lora is None or sys.argv[1].startswith("trl"):
        frozen = config.lora is not None and device.type == "cuda"  # as ours and as TRL's advice is
        dtype = "bfloat16" if frozen else "float32"
        model: Any = load_model(folder / "start", dtype, device=device)
        if settings["recompute"]:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model
    return open_model(folder / "start", config, None, device)


def _labelled(folder: Path) -> Any:
    samples = table.read(folder / "samples.parquet")
    labels = np.where(samples.weights > 0, samples.ids, _IGNORED)
    for start, end in zip(samples.offsets[:-1], samples.offsets[1:], strict=True):
        yield samples.ids[start:end].tolist(), labels[start:end].tolist()


def loss_of(model: Any, folder: Path, device: torch.device, most: int = 64) -> float:
    """The mean loss of trained tokens over the first samples, in the model as a side left it."""
    samples = table.read(folder / "samples.parquet")
    model.set_attn_implementation("sdpa")
    model.eval()
    objective = CrossEntropy(samples)
    module = objective.module(model)
    passes = Passes(samples, 1, 4096, False, Group(0, 1, device))
    units = range(min(most, len(samples)))
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, device.type == "cuda"):
        total = sum(float(objective(module, one)[0]) for one in passes.of(units))
    return total / math.fsum(objective.size(units))


SIDES: dict[str, Callable[[Path, Settings, Clock], tuple[Any, dict[str, float]]]] = {
    "ours": ours,
    "trl_padded": trl_padded,
    "trl_packed": trl_packed,
    "hf_loop": hf_loop,
}


def main() -> None:
    side, folder = sys.argv[1], Path(sys.argv[2])
    settings = json.loads((folder / "settings.json").read_text())
    device = torch.device(settings["device"])
    torch.set_num_threads(settings["threads"])
    clock = Clock(device)
    model, more = SIDES[side](folder, settings, clock)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    base: Any = model.get_base_model() if hasattr(model, "peft_config") else model
    result = {**clock.found, **more, "parameters": parameters}
    result["final_loss"] = loss_of(base, folder, device)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
