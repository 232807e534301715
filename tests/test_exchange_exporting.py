"""Exports are read unchanged by the libraries they are for, and train what was meant."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_exchange_formats import EXECUTED, LAST, READERS, RIGHT, VETOED, WRONG, episode, meant
from typer.testing import CliRunner

from step_ray import store
from step_ray.cli import app
from step_ray.config import parse_config
from step_ray.exchange.exporting import TEXT, TOKENS, Export, as_text, datasets_of, export
from step_ray.exchange.formats import trl_preference
from step_ray.exchange.importing import Import, import_records
from step_ray.exchange.records import ExchangeError
from step_ray.exchange.trained import trained_by
from step_ray.exchange.writing import COLUMNS
from step_ray.lineage import SAMPLES
from step_ray.react import format_turn
from step_ray.recipes.world import open_world
from step_ray.report.card import CARD
from step_ray.run import Run, Stage
from step_ray.schema import to_row
from step_ray.synthesis.golden import golden_episode
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.training.masks import tokenize
from step_ray.training.preferences import Pair
from step_ray.trajectory import Trajectory


def named(name: str, one: Trajectory) -> Trajectory:
    return dataclasses.replace(one, id=name * 32)


DROPPED = named("d", episode(WRONG))
CHATS = [named("a", EXECUTED), named("b", episode(RIGHT, LAST, LAST))]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rows = [*map(to_row, CHATS), to_row(DROPPED, drop_reason="low_reward")]
    store.publish(tmp_path / "dataset", rows)
    return tmp_path / "dataset"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers", reason="pip install 'step-ray[torch]'")
    from chat_tokenizers import family

    from step_ray.models.tiny import make_llama, save

    folder = tmp_path_factory.mktemp("model")
    save(make_llama(family("chatml"), seed=0), family("chatml"), folder)
    return folder


def read_rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else list(map(json.loads, text.splitlines()))


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json"])
@pytest.mark.parametrize("form", READERS)
def test_kept_trajectories_are_written_with_their_masks(
    form: str, kind: str, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    exported = export(Export(dataset, form, out, kind=kind))
    rows = read_rows(out / f"train.{kind}")
    assert [READERS[form](row) for row in rows] == list(map(meant, CHATS))
    assert (exported.trajectories, exported.rows, exported.masked_messages) == (2, 2, 1)
    assert sorted(path.name for path in out.iterdir()) == [CARD, f"train.{kind}"]


def test_trajectories_that_a_format_cannot_hold_are_counted(tmp_path: Path) -> None:
    vetoed = named("c", VETOED)
    store.publish(tmp_path / "dataset", map(to_row, [*CHATS, vetoed]))
    exported = export(Export(tmp_path / "dataset", "trl", tmp_path / "trl"))
    assert exported.left_out == {"half_masked_message": 1}
    assert "1  left out: half_masked_message" in as_text(exported, tmp_path)
    whole = export(Export(tmp_path / "dataset", "axolotl", tmp_path / "axolotl"))
    assert (whole.trajectories, whole.left_out) == (3, {})


def test_flags_that_a_trainer_may_not_read_are_pointed_out(dataset: Path, tmp_path: Path) -> None:
    exported = export(Export(dataset, "agentgym", tmp_path / "out"))
    assert "1 messages have loss false" in as_text(exported, tmp_path)
    assert "whatever `loss` is" in (tmp_path / "out" / CARD).read_text(encoding="utf-8")
    none = export(Export(dataset, "agentgym", tmp_path / "none", mask="none"))
    assert none.warning == ""


@pytest.mark.parametrize("mask", ["partial", "none", "corrections_only"])
def test_tokens_and_their_masks_are_those_of_training(
    mask: Any, tokenizer: Path, tmp_path: Path
) -> None:
    from step_ray.models.load import load_tokenizer

    trajectories = [*CHATS, named("c", VETOED)]
    store.publish(tmp_path / "dataset", map(to_row, trajectories))
    rows = {}
    for form in TOKENS:
        asked = Export(tmp_path / "dataset", form, tmp_path / form, mask, tokenizer=tokenizer)
        export(asked)
        rows[form] = read_rows(tmp_path / form / "train.parquet")
    samples = [tokenize(one, load_tokenizer(tokenizer), mask) for one in trajectories]
    for sample, skyrl, trl in zip(samples, rows["skyrl"], rows["trl-tokens"], strict=True):
        assert skyrl["input_ids"] == trl["input_ids"] == sample.input_ids
        assert skyrl["loss_mask"] == [int(weight) for weight in sample.loss_weights]
        kept = zip(sample.input_ids, sample.loss_weights, strict=True)
        assert trl["labels"] == [token if weight else -100 for token, weight in kept]


def test_what_is_too_long_is_left_out_whole(dataset: Path, tokenizer: Path, tmp_path: Path) -> None:
    everything = export(Export(dataset, "skyrl", tmp_path / "all", tokenizer=tokenizer))
    assert everything.rows == 2
    lengths = [len(row["input_ids"]) for row in read_rows(tmp_path / "all" / "train.parquet")]
    some = Export(
        dataset, "skyrl", tmp_path / "some", tokenizer=tokenizer, max_length=max(lengths) - 1
    )
    assert export(some).left_out == {"too_long": 1}


def test_a_run_exports_its_stages_but_not_its_tests(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", {"env": {"name": "alfworld", "data": "/home/me/games"}}) as run:
        for name, one in zip(("golden", "reflected", "evaluation"), "abc", strict=True):
            with run.stage(name) as stage:
                store.publish(stage.path, [to_row(named(one, EXECUTED))])
                stage.finish({"data": stage.path})
    found = datasets_of(tmp_path / "run")
    assert [folder.name for folder in found] == ["golden", "reflected"]
    asked = Export(tmp_path / "run", "messages", tmp_path / "out", stages=("reflected",))
    assert export(asked).rows == 1
    card = (tmp_path / "out" / CARD).read_text(encoding="utf-8")
    assert '"name": "alfworld"' in card
    assert "/home/me" not in card
    with pytest.raises(ExchangeError, match=r"stage step .* those that do are: golden, reflected"):
        datasets_of(tmp_path / "run", ["step"])


def test_a_student_of_a_run_was_trained_on_a_part(tmp_path: Path) -> None:
    def samples(stage: Stage, *ids: str) -> None:
        pq.write_table(pa.table({"id": [one * 32 for one in ids]}), stage.path / SAMPLES)

    folder = tmp_path / "run"
    with Run.open(folder, {}) as run:
        data: dict[str, Stage] = {}
        for name, ids in (("golden", "abc"), ("reflected", "d"), ("chosen", "")):
            with run.stage(name) as stage:
                if ids:
                    rows = [to_row(named(one, EXECUTED)) for one in ids]
                    store.publish(stage.path, rows)
                stage.finish({"data": stage.path} if ids else {"number": 0})
            data[name] = stage
        with run.stage("step", {"golden": data["golden"], "reflected": data["reflected"]}) as stage:
            samples(stage, "a", "d")
            stage.finish({"number": 2})
        with run.stage("steca", {"chosen": data["chosen"]}) as stage:
            samples(stage, "b")
            stage.finish({"number": 1})
    assert trained_by(folder) == {"step": {"a" * 32, "d" * 32}}
    whole = export(Export(folder, "messages", tmp_path / "whole"))
    assert (whole.trajectories, whole.students) == (4, {"step": 2})
    assert "trained on parts: step 2 (--student NAME)" in as_text(whole, "out")
    part = export(Export(folder, "messages", tmp_path / "part", student="step"))
    assert (part.trajectories, part.students) == (2, {})
    for form, student in (("messages", "steca"), ("messages", "golden"), ("trl-dpo", "step")):
        with pytest.raises(ExchangeError, match=r"those are: step|choose a stage"):
            export(Export(folder, form, tmp_path / "none", student=student))
    assert not (tmp_path / "none").exists()


def test_the_code_of_a_card_replays_what_was_exported(tmp_path: Path) -> None:
    config = parse_config(
        {
            "output": str(tmp_path / "run"),
            "env": {
                "games": {"train": 2, "valid_seen": 0, "valid_unseen": 0},
                "task_types": ["pick_and_place_simple"],
            },
            "teacher": {
                "type": "llm",
                "model": {
                    "backend": "remote",
                    "base_url": "http://inside:8000/v1",
                    "model": "wise",
                },
            },
            "evaluation": {"splits": ["train"]},
        }
    )
    world = open_world(config)
    env = world.make()
    asked = {"asked": 3, "reply tokens": 70, "cost": 0.25}
    with Run.open(tmp_path / "run", config.resolved()) as run, run.stage("golden") as stage:
        specs = [
            EpisodeSpec(world.name, world.data, task.split, task.id, task.type, seed=0)
            for task in world.train
        ]
        played = map(golden_episode, specs, [env, env], world.train)
        store.publish(stage.path, [to_row(one) for one in played])
        stage.finish({"data": stage.path, "teacher": asked}, {"env": 1.0})
    env.close()
    export(Export(tmp_path / "run", "trl", tmp_path / "out"))
    card = (tmp_path / "out" / CARD).read_text(encoding="utf-8")
    for fact in ('"cost": 0.25', '"model": "wise"', '"env": 1.0'):
        assert fact in card, fact
    assert "inside" not in card, "an address is nobody's business"
    [code] = [part for part in re.findall(r"```python\n(.*?)```", card, re.S) if "make_env" in part]
    seen: dict[str, Any] = {"DATASET": tmp_path / "run" / "golden"}
    exec(code, seen)
    assert seen["result"].reward == 1.0


def test_mistakes_are_told_before_anything_is_written(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for wanted, message in (
        (Export(dataset, "sharegpt", out), "unknown format 'sharegpt'; known are messages"),
        (Export(dataset, "trl", out, mask="all"), "unknown mask 'all'"),
        (Export(dataset, "trl", out, kind="csv"), "unknown kind of file 'csv'"),
        (Export(dataset, "skyrl", out), "give --tokenizer"),
        (Export(tmp_path / "none", "trl", out), "give the folder of a run or dataset"),
    ):
        with pytest.raises(ExchangeError, match=message):
            export(wanted)
        assert not out.exists()
    with pytest.raises(ExchangeError, match="the folder is not empty"):
        export(Export(dataset, "trl", dataset))
    store.publish(tmp_path / "bad", [to_row(DROPPED, drop_reason="low_reward")])
    with pytest.raises(ExchangeError, match="no trajectory is kept"):
        export(Export(tmp_path / "bad", "trl", out))


def test_the_command_exports_and_what_it_wrote_can_be_imported(
    dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["export", str(dataset), "messages", str(out)])
    assert done.exit_code == 0, done.output
    assert "2  rows of 2 trajectories" in done.output
    import_records(Import("messages", out, tmp_path / "again"))
    again = {one.task: one for one in store.read(tmp_path / "again")}
    assert len(again) == 1  # both are episodes of one task
    masks = [[line[2] for line in meant(one)] for one in store.read(tmp_path / "again")]
    assert sorted(masks) == sorted([line[2] for line in meant(one)] for one in CHATS)


def test_skyrls_checks_of_pretokenized_rows(dataset: Path, tokenizer: Path, tmp_path: Path) -> None:
    export(Export(dataset, "skyrl", tmp_path / "out", tokenizer=tokenizer))
    for row in read_rows(tmp_path / "out" / "train.parquet"):
        assert set(row) == {"input_ids", "loss_mask"}
        assert len(row["loss_mask"]) == len(row["input_ids"])
        assert set(row["loss_mask"]) == {0, 1}


@pytest.mark.parametrize("form", [*TEXT, *TOKENS])
def test_datasets_loads_every_format_with_its_columns(
    form: str, dataset: Path, tokenizer: Path, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets", reason="pip install datasets")
    out = tmp_path / "out"
    exported = export(Export(dataset, form, out, tokenizer=tokenizer))
    cache = str(tmp_path / "cache")
    table = datasets.load_dataset(str(out), split="train", cache_dir=cache)
    assert table.num_rows == exported.rows
    assert table.column_names == COLUMNS[form].names
    if exported.file.endswith("parquet"):
        again = datasets.load_dataset(
            "parquet", data_files=str(out / exported.file), split="train", cache_dir=cache
        )
        assert again.to_list() == table.to_list() == read_rows(out / exported.file)


@pytest.mark.parametrize("form", ["trl", "trl-tokens"])
def test_trls_trainer_trains_exactly_what_is_meant(
    form: str, dataset: Path, tokenizer: Path, tmp_path: Path
) -> None:
    trl = pytest.importorskip("trl", reason="pip install trl==1.16.0")
    datasets = pytest.importorskip("datasets", reason="pip install datasets")
    from step_ray.models.load import load_model, load_tokenizer

    export(Export(dataset, form, tmp_path / "out", tokenizer=tokenizer))
    words = load_tokenizer(tokenizer)
    trainer = trl.SFTTrainer(
        model=load_model(tokenizer),
        args=trl.SFTConfig(
            output_dir=str(tmp_path / "model"), use_cpu=True, bf16=False, report_to="none",
            gradient_checkpointing=False, max_length=None, per_device_train_batch_size=8,
        ),
        train_dataset=datasets.load_dataset(
            str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
        ),
        processing_class=words,
    )  # fmt: skip
    trained: list[str] = []
    for batch in trainer.get_train_dataloader():
        for labels in batch["labels"].tolist():
            runs = "".join(chr(0) if one == -100 else words.decode([one]) for one in labels)
            trained += [text.strip() for text in runs.split(chr(0)) if text.strip()]
    meant_texts = [text for one in CHATS for _, text, flag in meant(one) if flag]
    assert sorted(trained) == sorted(f"{text}<|im_end|>" for text in meant_texts)


def test_trls_dpo_compares_the_two_messages_alone(tokenizer: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="pip install trl==1.16.0")
    datasets = pytest.importorskip("datasets", reason="pip install datasets")
    from step_ray.models.load import load_model, load_tokenizer

    worse = dataclasses.replace(RIGHT, action="wait", verdict="correct")
    row = trl_preference(Pair(episode(WRONG, RIGHT), episode(WRONG, worse), shared_turns=1))
    words = load_tokenizer(tokenizer)
    trainer = trl.DPOTrainer(
        model=load_model(tokenizer),
        ref_model=load_model(tokenizer),
        args=trl.DPOConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none",
            gradient_checkpointing=False,
        ),
        train_dataset=datasets.Dataset.from_list([row]),
        processing_class=words,
    )  # fmt: skip
    (prepared,) = trainer.train_dataset
    assert words.decode(prepared["chosen_ids"]).strip() == (
        "Thought: That failed.\nAction: go to shelf 1<|im_end|>"
    )
    assert words.decode(prepared["rejected_ids"]).strip() == (
        "Thought: That failed.\nAction: wait<|im_end|>"
    )


@pytest.mark.parametrize("name", ["chatml", "llama3", "phi"])
def test_axolotl_trains_exactly_what_is_meant(name: str, tmp_path: Path) -> None:
    """With the settings that the card names."""
    axolotl = pytest.importorskip(
        "axolotl.prompt_strategies.chat_template", reason="pip install axolotl"
    )
    from chat_tokenizers import family

    words = family(name)
    store.publish(tmp_path / "dataset", map(to_row, [*CHATS, named("c", VETOED)]))
    export(Export(tmp_path / "dataset", "axolotl", tmp_path / "out"))
    strategy = axolotl.ChatTemplateStrategy(
        axolotl.ChatTemplatePrompter(
            words,
            words.chat_template,
            message_field_training="train",
            message_field_training_detail="train_detail",
        ),
        words,
        train_on_inputs=False,
        sequence_len=4096,
        roles_to_train=[],
        train_on_eos="turn",
    )
    trained = []
    for row in read_rows(tmp_path / "out" / "train.parquet"):
        labels = strategy.tokenize_prompt(row)["labels"]
        runs = "".join(chr(0) if one == -100 else words.decode([one]) for one in labels)
        trained.append([text for text in runs.split(chr(0)) if text])
    end = words.eos_token
    spoken = [[text + end for _, text, flag in meant(one) if flag] for one in CHATS]
    corrections = [f"{format_turn(turn.thought, turn.action)}{end}" for turn in (RIGHT, LAST)]
    assert trained == [*spoken, corrections]
