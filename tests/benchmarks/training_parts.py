"""What each part of the training loop spares, on one CPU thread (of Linux).

    python tests/benchmarks/training_parts.py MODEL DATA

MODEL and DATA are those of ``step-ray train``. Prints one JSON object: the CPU seconds of a forward
and backward pass over all samples in several ways, with the loss that each finds (equal, as none of
them changes what is computed); tokens tokenised a second; time and memory of the loss with a large
vocabulary. ``--out FILE`` writes it to a file, too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from step_ray import store
from step_ray.machine import machine, packages
from step_ray.models.load import load_model, load_tokenizer
from step_ray.training import losses, table
from step_ray.training.group import Group
from step_ray.training.losses import MaskedLoss
from step_ray.training.masks import tokenize, tokenize_all
from step_ray.training.packing import enable_packing
from step_ray.training.passes import Passes
from step_ray.training.rules import positions

_CPU = Group(0, 1, torch.device("cpu"))
_VOCABULARY, _WIDTH, _TRAINED = 128_256, 256, 4096


def main() -> None:
    given = _arguments()
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(given.model)
    rows = list(store.read(given.data))
    tokenize(rows[0], tokenizer)  # what is learned of a template once
    began = time.process_time()
    samples = table.from_samples(tokenize_all(rows, tokenizer, max_length=positions(given.model)))
    seconds = time.process_time() - began
    tokens = sum(samples.lengths)
    steps = {
        name: _step(given, samples, *how)
        for name, how in {
            "padded, logits of all positions": (False, False, _naive),
            "padded": (False, False, _ours),
            "packed": (True, False, _ours),
            "packed, prefix once": (True, True, _ours),
        }.items()
    }
    result: dict[str, Any] = {
        "benchmark": "training_parts",
        "machine": machine(),
        "versions": packages(),
        "samples": len(samples),
        "tokens": tokens,
        "trained_share": round(sum(samples.trained) / tokens, 4),
        "tokenised_per_second": round(tokens / seconds),
        "micro_tokens": given.micro_tokens,
        "passes_cpu_seconds": _passes(given, samples),
        "steps": steps,
        "vocabulary": {
            name: _apart(_vocabulary, chunked)
            for name, chunked in (("at once", False), ("in chunks", True))
        },
    }
    text = json.dumps(result, indent=2)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")
    print(json.dumps(result))


def _passes(given: argparse.Namespace, samples: table.TokenTable) -> float:
    """To make all passes, and do nothing with them."""
    began = time.process_time()
    for _ in Passes(samples, 1, given.micro_tokens, True, _CPU, share=True).of(range(len(samples))):
        pass
    return round(time.process_time() - began, 4)


_Loss = Callable[[torch.nn.Module, Any], torch.Tensor]


def _step(
    given: argparse.Namespace, samples: table.TokenTable, packed: bool, share: bool, loss_of: _Loss
) -> dict[str, float]:
    """The second of two passes over all samples: kernels are made in the first."""
    model = load_model(given.model, "float32").train()
    if packed:
        enable_packing(model)
    passes = Passes(samples, 1, given.micro_tokens, packed, _CPU, share=share)
    module = MaskedLoss(model)
    seconds = total = 0.0
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        total, began = 0.0, time.process_time()
        for one in passes.of(range(len(samples))):
            loss = loss_of(module, one)
            loss.backward()
            total += float(loss.detach())
        seconds = time.process_time() - began
    return {
        "cpu_seconds": round(seconds, 2),
        "loss": round(total / sum(samples.weight_sums), 6),
    }


def _ours(module: torch.nn.Module, one: Any) -> torch.Tensor:
    return module(one.ids, one.weights, one.lengths, None, one.prefix)[0]


def _naive(module: Any, one: Any) -> torch.Tensor:
    logits = module.model(input_ids=one.ids, use_cache=False).logits[:, :-1].float()
    each = functional.cross_entropy(
        logits.flatten(0, 1), one.ids[:, 1:].flatten(), reduction="none"
    )
    return (each * one.weights[:, 1:].flatten()).sum()


def _apart(work: Callable[..., float], *arguments: Any) -> dict[str, float]:
    """CPU seconds and growth of the largest resident size in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (work, *arguments))


def _measured(work: Callable[..., float], *arguments: Any) -> dict[str, float]:
    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far, which is the parent's as well
    before = _peak_mb()
    began = time.process_time()
    found = work(*arguments)
    return {
        "cpu_seconds": round(time.process_time() - began, 2),
        "peak_mb": round(_peak_mb() - before),
        "value": round(found, 4),
    }


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1.024e-3 for line in lines if line.startswith("VmHWM"))


def _vocabulary(chunked: bool) -> float:
    """The gradient's norm of the loss of 4,096 positions over 128,256 words."""
    if not chunked:
        losses._LOGITS_AT_ONCE = 2**62
    torch.manual_seed(0)
    head = torch.nn.Linear(_WIDTH, _VOCABULARY, bias=False).requires_grad_(False)
    hidden = torch.randn(_TRAINED, _WIDTH, requires_grad=True)
    labels = torch.randint(0, _VOCABULARY, (_TRAINED,))
    losses._cross_entropy(head, hidden, labels).sum().backward()
    assert hidden.grad is not None
    return float(hidden.grad.norm())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--micro-tokens", type=int, default=8192)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
