"""Two processes: the curve of one, whether each has the whole model (DDP) or a share (FSDP2)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from test_training_loop import (  # noqa: E402
    CHECKPOINTS,
    EPISODES,
    config,
    curve,
    same,
    start,  # noqa: F401 - a fixture
    weights,
)

from step_ray.models.load import load_model, load_tokenizer  # noqa: E402
from step_ray.training.alone import train_alone  # noqa: E402
from step_ray.training.checkpoint import read_metrics  # noqa: E402

PROGRAM = """
import json, sys
from pathlib import Path
import pytest, torch.distributed as dist
from test_training_loop import EPISODES, PowerError, config, interrupt
from test_training_preferences import PAIRS
from step_ray.training.alone import train_alone

start, folder, jobs = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
dist.init_process_group("gloo")
for name, (changes, off) in jobs.items():
    data = PAIRS if changes.get("loss") == "dpo" else EPISODES
    with pytest.MonkeyPatch.context() as patch:
        if off:
            interrupt(patch, off)
        try:
            train_alone(start, data, folder / name.split("+")[0], config(**changes))
            assert not off
        except PowerError:
            assert off
    dist.barrier()
dist.destroy_process_group()
"""
LORA = {"lora": {"r": 4, "alpha": 8, "targets": ["q_proj", "v_proj"]}, "learning_rate": 1e-2}
HELD = {"validation_fraction": 0.2, "keep": "best", "validate_every_steps": 3}
DPO = {"loss": "dpo", "tokens_per_batch": 2000, "epochs": 1}
FSDP = {"parallel": "fsdp"}
JOBS = {  # name: (changes, the step at which the power goes off); "+" goes on
    "ddp": ({}, 0),
    "fsdp": (FSDP, 0),
    "packed": ({**FSDP, "packing": "packed", "micro_tokens": 300}, 0),
    "resumed": (FSDP, 8),
    "resumed+": (FSDP, 0),
    "lora": ({**FSDP, **LORA, "save_every_steps": 4, "gradient_checkpointing": True}, 6),
    "lora+": ({**FSDP, **LORA, "save_every_steps": 4, "gradient_checkpointing": True}, 0),
    "adapters": ({**FSDP, **LORA, "save_every_steps": 4}, 6),  # its checkpoint stays
    "best": ({**FSDP, **HELD}, 0),
    "best_lora": ({**FSDP, **LORA, **HELD}, 0),
    "dpo": ({**FSDP, **DPO}, 0),
    "bf16": ({**FSDP, "precision": "bf16"}, 0),
    "elastic": ({**FSDP, "save_every_steps": 4}, 6),  # goes on in one process
}


@pytest.fixture(scope="module")
def two(start, tmp_path_factory):  # noqa: F811
    """The folder of what two processes trained, by name; started once."""
    folder = tmp_path_factory.mktemp("two")
    program = folder / "program.py"
    program.write_text(PROGRAM)
    here = os.path.dirname(__file__)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(program)]
    subprocess.run(
        [sys.executable, *command, str(start), str(folder), json.dumps(JOBS)],
        check=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
        },
    )
    return folder


def losses(folder):
    return curve(read_metrics(folder / "metrics.jsonl"))


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one(start, tmp_path_factory):  # noqa: F811
    """The same trainings in one process, when asked for."""
    folder = tmp_path_factory.mktemp("one")

    def run(name):
        if not (folder / name).exists():
            changes = {key: value for key, value in JOBS[name][0].items() if key != "parallel"}
            from test_training_preferences import PAIRS

            data = PAIRS if name == "dpo" else EPISODES
            train_alone(start, data, folder / name, config(**changes))
        return folder / name

    return run


def test_ddp_is_one_process(one, two):
    assert losses(two / "ddp") == pytest.approx(losses(one("ddp")), rel=1e-5)


@pytest.mark.parametrize("name", ["fsdp", "packed", "resumed"])
def test_fsdp_is_ddp(two, name):
    assert losses(two / name) == pytest.approx(losses(two / "ddp"), rel=1e-4)
    same(two / name / "model", two / "ddp" / "model", rtol=1e-3, atol=1e-3)
    assert not (two / name / CHECKPOINTS).exists()


def test_bf16_weights_are_gathered(one, two):
    assert losses(two / "bf16") == pytest.approx(losses(one("bf16")), rel=0.02)


def test_one_process_goes_on_with_the_work_of_two(start, two, tmp_path):  # noqa: F811
    """The batches are the same, in more passes; the shared-out optimizer state fits one alone."""
    output = tmp_path / "elastic"
    shutil.copytree(two / "elastic", output)
    assert [path.name for path in (output / CHECKPOINTS).iterdir()] == ["step-00000004"]
    train_alone(start, EPISODES, output, config(**JOBS["elastic"][0]))
    assert losses(output) == pytest.approx(losses(two / "ddp"), rel=1e-4)
    assert {line["workers"] for line in read_metrics(output / "metrics.jsonl")} == {1, 2}


def test_fsdp_goes_on_exactly_where_it_was(two):
    assert losses(two / "resumed") == losses(two / "fsdp")
    same(two / "resumed" / "model", two / "fsdp" / "model")


def test_adapters_on_fsdp_reload(start, one, two):  # noqa: F811
    assert losses(two / "lora") == pytest.approx(losses(one("lora")), rel=1e-4)
    merged = two / "lora" / "model"
    assert sorted(weights(merged)) == sorted(weights(start))
    assert sorted(path.name for path in merged.iterdir()) == sorted(
        path.name for path in (one("lora") / "model").iterdir()
    )
    before, after = weights(start), weights(merged)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(changed) == 4
    ids = torch.tensor([load_tokenizer(merged)("go to shelf 1")["input_ids"]])
    with torch.no_grad():
        found, expected = (
            load_model(folder)(input_ids=ids).logits for folder in (merged, one("lora") / "model")
        )
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", ["best", "best_lora"])
def test_the_best_model_is_published(one, two, name):
    mine, theirs = (
        json.loads((f / "model" / "training.json").read_text()) for f in (two / name, one(name))
    )
    assert mine["metrics"]["step"] == theirs["metrics"]["step"]
    assert mine["metrics"]["validation_loss"] == pytest.approx(
        theirs["metrics"]["validation_loss"], rel=1e-4
    )
    same(two / name / "model", one(name) / "model", rtol=1e-2, atol=1e-2)


def test_dpo_on_fsdp(one, two):
    assert losses(two / "dpo") == pytest.approx(losses(one("dpo")), rel=1e-4)


def test_a_checkpoint_of_adapters_on_fsdp_is_pefts(start, two):  # noqa: F811
    peft = pytest.importorskip("peft")
    (saved,) = (two / "adapters" / CHECKPOINTS).iterdir()
    model = peft.PeftModel.from_pretrained(load_model(start), saved)
    adapters = {name: p for name, p in model.named_parameters() if "lora_B" in name}
    assert len(adapters) == 4
    assert all(parameter.any() for parameter in adapters.values())


@pytest.mark.vllm
def test_adapters_on_fsdp_answer_in_vllm(start, two, tmp_path, monkeypatch):  # noqa: F811
    """As a checkpoint of adapters, and merged: what transformers says of the same weights."""
    pytest.importorskip("vllm")
    peft = pytest.importorskip("peft")
    from step_ray.models.base import Sampling
    from step_ray.models.local import LocalModel
    from step_ray.models.tiny import save
    from step_ray.models.vllm import VllmModel

    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    engine = {"dtype": "float32", "enforce_eager": True, "max_model_len": 512, "max_num_seqs": 8}
    (saved,) = (two / "adapters" / CHECKPOINTS).iterdir()
    whole = peft.PeftModel.from_pretrained(load_model(start), saved).merge_and_unload()
    together = save(whole, load_tokenizer(start), tmp_path / "together")
    asked = [[{"role": "user", "content": f"Find it.\nRoom {n}."}] for n in range(8)]

    async def replies(model):
        sampling = Sampling(max_tokens=24)
        return [one.text for one in await asyncio.gather(*(model.chat(a, sampling) for a in asked))]

    def locally(folder):
        with LocalModel(folder, slots=8, max_length=512) as model:
            return asyncio.run(replies(model))

    async def served(folder, adapters):
        model = VllmModel(folder, engine={**engine, "max_lora_rank": 8}, adapters=adapters)
        try:
            return [await replies(model.with_adapter(name) if name else model) for name in names]
        finally:
            model.close()

    names = ["", "trained"]
    plain, adapted = asyncio.run(served(start, {"trained": str(saved)}))
    names = [""]
    (merged,) = asyncio.run(served(two / "lora" / "model", {}))
    for got, expected in (
        (plain, locally(start)),
        (adapted, locally(together)),
        (merged, locally(two / "lora" / "model")),
    ):
        # Other kernels round otherwise, and near-ties then fall the other way.
        assert sum(a == b for a, b in zip(got, expected, strict=True)) >= 6
    assert adapted != plain
