"""``make bench-training``: our training loop against what people use, in one run on one machine.

Prints one JSON object as its last line and writes it to ``docs/benchmarks/training.json``. The same
model is trained on the same trajectories (golden ALFWorld episodes) with the same optimizer and as
many samples in a step by our loop, by TRL's SFTTrainer with padding and with packing, and by a
plain Hugging Face loop, each in a process of its own. What counts is useful tokens a second:
tokens of trajectories, padding left out. Ratios are ours / theirs: on a CPU by CPU time of one
thread, as machines are shared, on a GPU by wall time. The plain loop takes its samples in our
order, so it must end with our loss (to 2 %: bfloat16 adds up otherwise); TRL shuffles its own way,
and ours must not be more than 5 % above its. Else the benchmark fails.

Episodes are generated, so anybody can run it; with ``STEP_RAY_TEST_DATA`` they are played in the
official games there. TRL comes with ``pip install 'step-ray[bench]'``; without it its two sides are
left out, with a note. On a machine with a GPU and neither Ray nor ALFWorld::

    python tests/benchmarks/training.py --samples FOLDER --device cuda --shape llama-2-7b \\
        --sequence 4096 --recompute --lora --out docs/benchmarks/training_7b_lora.json

where FOLDER is what ``--keep FOLDER`` left on another machine; ``--full`` in place of ``--lora``
trains all weights. ``mfu`` is there where the device's peak is known (step_ray/training/flops.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from heading import committed, heading, publish
from training_sides import SIDES

from step_ray.models import tiny
from step_ray.training import table
from step_ray.training.flops import Arithmetic, arithmetic, peak
from step_ray.trajectory import Trajectory

_HERE = Path(__file__).parent
_ARCHIVE = "alfworld/json_2.1.1-part.tar.xz"
_SAME, _AT_MOST = 0.02, 1.05  # of the plain loop's loss, of TRL's
_SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden": 192, "layers": 4, "heads": 6, "kv_heads": 2, "intermediate": 512},
    "small": {"hidden": 512, "layers": 8, "heads": 8, "kv_heads": 8, "intermediate": 1376},
    "llama-2-7b": {
        "hidden": 4096,
        "layers": 32,
        "heads": 32,
        "kv_heads": 32,
        "intermediate": 11008,
    },
}


def main() -> None:
    given = _arguments()
    cuda = given.device == "cuda"
    result: dict[str, Any] = {**heading("training"), "left_out": []}
    result["versions"] |= _version("trl")
    if cuda:
        result["machine"]["gpu"] = torch.cuda.get_device_name()
    sides = [side for side in SIDES if side in given.sides]
    if importlib.util.find_spec("trl") is None:
        result["left_out"] = [side for side in sides if side.startswith("trl")]
        sides = [side for side in sides if side not in result["left_out"]]
        print("trl is not installed: pip install 'step-ray[bench]'", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="step-ray-bench-") as scratch:
        folder = Path(scratch)
        _samples(folder, given)
        _start(folder, given)
        if given.keep:
            given.keep.mkdir(parents=True, exist_ok=True)
            for name in ("samples.parquet", "tokenizer"):
                source = folder / name
                copy = shutil.copytree if source.is_dir() else shutil.copy
                copy(source, given.keep / name)
        settings = {
            "device": given.device,
            "threads": 1,
            "epochs": given.epochs,
            "batch": given.batch,
            "learning_rate": given.learning_rate or (2e-3 if given.shape == "tiny" else 2e-5),
            "precision": given.precision,
            "lora": given.lora,
            "recompute": given.recompute,
            "sequence": given.sequence,
            "ours": {"micro_tokens": given.sequence or 8192, "packing": given.packing},
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        samples = table.read(folder / "samples.parquet")
        tokens = sum(samples.lengths)
        cost = _arithmetic(folder, given)
        result |= {
            "shape": given.shape,
            "settings": settings,
            "data": {
                "trajectories": len(samples),
                "tokens": tokens,
                "longest": max(samples.lengths),
                "source": _source(given),
            },
            "shared_prefix_share": round(_shared(samples), 4),
            "trained_share": round(float((samples.weights > 0).sum()) / tokens, 4),
        }
        found: dict[str, Any] = {}
        for side in sides:
            print(f"measuring {side} ...", file=sys.stderr, flush=True)
            found[side] = _side(side, folder)
            seconds = found[side]["wall_seconds" if cuda else "cpu_seconds"]
            found[side]["useful_tokens_per_second"] = round(tokens * given.epochs / seconds, 1)
    if "ours" in found:
        mine = found["ours"]
        result["fill_rate"] = round(mine["fill_rate"], 4)
        for side in found.keys() - {"ours"}:
            ratio = mine["useful_tokens_per_second"] / found[side]["useful_tokens_per_second"]
            result[f"ratio_{side}"] = round(ratio, 3)
        result["computed_share"] = round(mine["computed_share"], 4)
        known = peak(torch.device(given.device))
        if known:
            flops = sum(cost.of_units(samples, 1)) - cost.token * tokens * (
                1 - mine["computed_share"]
            )
            result["mfu"] = round(flops * given.epochs / mine["wall_seconds"] / known, 4)
    result["sides"] = found
    publish(result, given.out)
    losses = {side: one["final_loss"] for side, one in found.items()}
    mine = losses.pop("ours", 0.0)
    plain = losses.pop("hf_loop", mine)
    worse = [side for side, loss in losses.items() if mine > _AT_MOST * loss]
    if "ours" in found and (worse or abs(mine - plain) > _SAME * plain):
        raise SystemExit(
            f"we end with a loss of {mine}, the plain loop with {plain}, TRL: {losses}"
        )


def _samples(folder: Path, given: argparse.Namespace) -> None:
    """``samples.parquet`` and ``tokenizer``: golden episodes and a tokenizer of their words."""
    if given.samples:
        shutil.copy(given.samples / "samples.parquet", folder)
        shutil.copytree(given.samples / "tokenizer", folder / "tokenizer")
        return
    from step_ray.react import to_messages
    from step_ray.training.masks import tokenize_all

    with tempfile.TemporaryDirectory() as games:
        episodes = list(_episodes(given, Path(games)))
    texts = (message.content for one in episodes for message in to_messages(one))
    tokenizer = tiny.make_tokenizer(texts, 1024)
    tokenizer.save_pretrained(folder / "tokenizer")
    samples = tokenize_all(episodes, tokenizer, max_length=tiny.MAX_POSITIONS)
    table.write(table.from_samples(samples), folder / "samples.parquet")


def _episodes(given: argparse.Namespace, scratch: Path) -> Iterator[Trajectory]:
    """Games that the expert wins."""
    import step_ray
    from step_ray.synthesis.golden import golden_episode
    from step_ray.synthesis.spec import EpisodeSpec

    if _source(given) == "official":
        with tarfile.open(Path(os.environ["STEP_RAY_TEST_DATA"]) / _ARCHIVE) as tar:
            members = (m for m in tar if "/train/" in m.name)
            tar.extractall(scratch, members=members, filter="data")
        env = step_ray.make_env("alfworld", data=scratch / "json_2.1.1")
    else:
        games = {"train": given.trajectories, "valid_seen": 1, "valid_unseen": 1}
        env = step_ray.make_env("alfworld", games=games)
    made = 0
    for task in env.tasks("train"):
        spec = EpisodeSpec(
            env="alfworld", data="", split=task.split, task=task.id, task_type=task.type, seed=0
        )
        episode = golden_episode(spec, env, task)
        if episode.success:
            made += 1
            yield episode
        if made == given.trajectories:
            break
    env.close()


def _source(given: argparse.Namespace) -> str:
    named = os.environ.get("STEP_RAY_TEST_DATA")
    if given.samples:
        return "prepared"
    return "official" if named and (Path(named) / _ARCHIVE).is_file() else "generated"


def _start(folder: Path, given: argparse.Namespace) -> None:
    """``start``: a model with random weights, in the shape that is asked for."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    shape = _SHAPES[given.shape]
    if given.shape == "tiny":
        tiny.save(tiny.make_llama(tokenizer, **shape), tokenizer, folder / "start")
        return
    torch.manual_seed(0)
    with torch.device(given.device):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=given.vocab,
                hidden_size=shape["hidden"],
                intermediate_size=shape["intermediate"],
                num_hidden_layers=shape["layers"],
                num_attention_heads=shape["heads"],
                num_key_value_heads=shape["kv_heads"],
                max_position_embeddings=tiny.MAX_POSITIONS,
                dtype="bfloat16",
            )
        )
    tiny.save(model, tokenizer, folder / "start", "bfloat16")
    if given.device == "cuda":  # the sides need all of it
        del model
        torch.cuda.empty_cache()


def _side(side: str, folder: Path) -> dict[str, Any]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(_HERE.parents[1]), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    out = subprocess.run(
        [sys.executable, str(_HERE / "training_sides.py"), side, str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    if out.returncode:
        raise SystemExit(f"{side} failed with code {out.returncode}")
    found: dict[str, Any] = json.loads(out.stdout.splitlines()[-1])
    return found


def _arithmetic(folder: Path, given: argparse.Namespace) -> Arithmetic:
    """What a token costs."""
    import peft
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder / "start"))
    if given.lora:
        adapters = peft.LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
        model = peft.get_peft_model(model, adapters)
    cost = arithmetic(model)
    assert cost is not None
    return cost


def _shared(samples: table.TokenTable) -> float:
    """The share of tokens in the prefix that all samples have in common: what could be computed
    once for a row instead of for each of its samples, at the very most."""
    each = [
        samples.ids[start:end]
        for start, end in zip(samples.offsets[:-1], samples.offsets[1:], strict=True)
    ]
    shortest = min(map(len, each))
    alike = np.all([one[:shortest] == each[0][:shortest] for one in each], axis=0)
    prefix = int(np.argmin(alike)) if not alike.all() else shortest
    return prefix * (len(each) - 1) / sum(map(len, each))


def _version(package: str) -> dict[str, str]:
    import importlib.metadata

    try:
        return {package: importlib.metadata.version(package)}
    except importlib.metadata.PackageNotFoundError:
        return {}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trajectories", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8, help="samples in an optimizer step")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--shape", choices=_SHAPES, default="tiny")
    parser.add_argument("--vocab", type=int, default=32_000, help="of a shape that is not tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--lora", action="store_true", help="adapters instead of full weights")
    weights.add_argument("--full", action="store_false", dest="lora", help="all weights (default)")
    parser.add_argument("--recompute", action="store_true", help="activations, to save memory")
    parser.add_argument(
        "--sequence", type=int, help="tokens of a row, ours and TRL's packed (default: of a step)"
    )
    parser.add_argument("--packing", choices=("auto", "packed", "padded"), default="auto")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--samples", type=Path, help="folder that --keep left")
    parser.add_argument("--keep", type=Path, help="folder for the samples and their tokenizer")
    parser.add_argument("--out", type=Path, help="file to write (default: docs/benchmarks)")
    given = parser.parse_args()
    if given.out is None and len(sys.argv) == 1:
        given.out = committed("training")
    return given


if __name__ == "__main__":
    main()
