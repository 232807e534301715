"""step-ray audit: what it counts, and that it finds what is wrong."""

from __future__ import annotations

import dataclasses
import json

import pytest
from chat_tokenizers import FAMILIES, family
from report_runs import trajectory, write
from typer.testing import CliRunner

from step_ray import schema, store
from step_ray.cli import app
from step_ray.config_training import TrainConfig
from step_ray.lineage import RunError
from step_ray.models import tiny
from step_ray.models.make import PACKAGED_MODEL
from step_ray.react import to_messages
from step_ray.recipes import stages
from step_ray.recipes.audit import Wanted, as_text, audit, violations
from step_ray.report.page import build_report
from step_ray.training import table
from step_ray.training.prepare import prepare
from step_ray.training.rules import Rules
from tests.trained_runs import opened, steca

COUNT = 8


def rows():
    made = [trajectory(f"r{i}", errors=i % 3, veto=i % 2 == 0) for i in range(COUNT)]
    dropped = schema.to_row(trajectory("dropped", errors=1), {}, "low_reward")
    return made, [*schema.to_rows(made), dropped]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    texts = [message.content for one in rows()[0] for message in to_messages(one)]
    tokenizer = tiny.make_tokenizer(texts, 600)
    tiny.save(tiny.make_llama(tokenizer), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(model):
    from step_ray.models.load import load_tokenizer

    return load_tokenizer(model)


@pytest.fixture
def dataset(tmp_path):
    store.publish(tmp_path / "data", rows()[1])
    return tmp_path / "data"


@pytest.fixture
def run(tmp_path, model):
    """A run with one published dataset and one training of it."""
    folder = tmp_path / "run"
    store.publish(folder / "reflected", rows()[1])
    prepare(model, folder / "reflected", folder / "step", TrainConfig())
    (folder / "step" / "model").symlink_to(model)
    write(folder / "config.json", {"name": "audited", "training": {"mask": "partial"}})
    done = {"status": "done", "seconds": 1.0, "seconds_by_phase": {}}
    data = {"path": "reflected", "kind": "dataset"}
    stages = {
        "reflected": {**done, "name": "reflected", "order": 1, "outputs": {"data": data}},
        "step": {**done, "name": "step", "order": 2, "outputs": {"model": {"path": "step/model"}}},
    }
    write(folder / "manifest.json", {"stages": stages})
    return folder


def test_a_dataset(dataset, model):
    found = audit(Wanted(dataset, model))
    made, _ = rows()
    assert (found["trajectories"], found["samples"]) == (COUNT, COUNT)
    assert found["violation_count"] == 0
    assert found["mask"] == {"correct": 1.0, "error": 0.0, "correction": 1.0}
    for verdict in ("correct", "error", "correction"):
        turns = sum(turn.verdict == verdict for one in made for turn in one.turns)
        assert found["verdicts"][verdict]["turns"] == turns
    error = found["verdicts"]["error"]
    assert error["trained_tokens"] == 0 < error["tokens"]
    assert sum(row["tokens"] for row in found["verdicts"].values()) == found["tokens"]
    trained = sum(row["trained_tokens"] for row in found["verdicts"].values())
    assert trained == found["trained_tokens"]
    assert found["trained_share"] == pytest.approx(trained / found["tokens"])
    assert sum(n for _, _, n in found["lengths"]["bins"]) == COUNT
    assert set(found["spans"]) == {"correct", "correction"}
    assert all(one["text"].startswith("Thought: ") for one in found["spans"]["correction"])
    assert found["gradients"] is None
    assert "violations: 0" in as_text(found)


def test_other_masks_and_lengths(dataset, model):
    assert audit(Wanted(dataset, model, mask="none"))["verdicts"]["error"]["trained_tokens"] > 0
    whole = audit(Wanted(dataset, model, mask="corrections_only"))
    assert whole["refused"]["nothing_to_train"] == 3
    assert whole["violation_count"] == 0
    short = audit(Wanted(dataset, model, max_length=whole["lengths"]["median"]))
    assert short["truncated"] + short["refused"]["too_long"] > 0
    assert short["violation_count"] == 0
    assert short["lengths"]["max"] <= whole["lengths"]["median"]


def test_a_run_is_compared_with_what_was_trained(run):
    found = audit(Wanted(run))
    assert found["compared_with_training"] == {"step": COUNT}
    assert found["tokenizer"] == "small"
    assert found["violation_count"] == 0
    # A training that used other weights than its config says is found out.
    samples = table.read(run / "step" / "samples.parquet")
    first_error = int((samples.verdicts == table.CLASSES.index("error")).argmax())
    weights = samples.weights.copy()
    weights[first_error] = 1.0
    changed = dataclasses.replace(samples, weights=weights)
    table.write(changed, run / "step" / "samples.parquet")
    found = audit(Wanted(run))
    assert found["violation_count"] == 1
    assert "other ids or weights" in found["violations"][0]
    assert audit(Wanted(run, mask="none"))["compared_with_training"] == {}


def test_what_was_chosen_is_compared_with_its_weights(tmp_path, monkeypatch):
    run = steca(tmp_path / "run", monkeypatch)
    found = audit(Wanted(run))
    assert found["violations"] == []
    assert found["compared_with_training"] == {"golden_only": 4, "steca": 3}
    samples = table.read(run / "steca" / "samples.parquet")
    halved = dataclasses.replace(samples, weights=samples.weights * 0.5)
    table.write(halved, run / "steca" / "samples.parquet")
    assert audit(Wanted(run))["violation_count"] == 3


def test_experts_are_compared_whole_whatever_the_mask(tmp_path, monkeypatch):
    training = {"mask": "corrections_only"}
    with opened(tmp_path / "run", monkeypatch, training=training) as (shop, expert, shown):
        stages.train(shop, "base", PACKAGED_MODEL, shown, {"golden": expert})
    found = audit(Wanted(tmp_path / "run"))
    assert found["violations"] == []
    assert found["compared_with_training"] == {"base": len(shown)}
    assert found["refused"]["nothing_to_train"] == len(shown), "that is the run's mask"
    samples = table.read(tmp_path / "run" / "base" / "samples.parquet")
    weights = samples.weights.copy()
    weights[int(samples.offsets[1]) - 1] = 0.0
    table.write(
        dataclasses.replace(samples, weights=weights),
        tmp_path / "run" / "base" / "samples.parquet",
    )
    assert audit(Wanted(tmp_path / "run"))["violation_count"] == 1


def test_violations_are_found(tokenizer):
    rules = Rules()
    one = trajectory("a", errors=2)
    sample = rules.tokenize(one, tokenizer)
    assert list(violations(sample, one, tokenizer, rules)) == []
    masked, span = sample.masked[0], sample.spans[0]

    def wrongs(**changes):
        changed = dataclasses.replace(sample, **changes)
        return " / ".join(violations(changed, one, tokenizer, rules))

    def weights(start, end, value):
        changed = list(sample.loss_weights)
        changed[start:end] = [value] * (end - start)
        return changed

    assert "instead of 0" in wrongs(loss_weights=weights(masked.start, masked.end, 1.0))
    assert "instead of 0" in wrongs(loss_weights=weights(0, 1, 1.0))  # a token of the task
    assert "instead of 1" in wrongs(loss_weights=weights(span.start, span.end, 0.5))
    short = wrongs(loss_weights=weights(span.end - 1, span.end, 0.0))
    assert "without the end of the turn" in short
    ids = list(sample.input_ids)
    ids[span.start] = ids[span.start + 1]
    assert "is meant" in wrongs(input_ids=ids)
    named = [dataclasses.replace(span, verdict="correction"), *sample.spans[1:]]
    assert "is taken for" in wrongs(spans=named)
    longer = dataclasses.replace(one, turns=one.turns * 2)
    assert "stretches are trained" in " / ".join(violations(sample, longer, tokenizer, rules))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("mask", ["partial", "none", "corrections_only", {"error": 0.5}])
def test_sound_samples_of_all_families_have_no_violations(name, mask):
    rules = Rules(mask=mask)
    for veto in (True, False):
        for text in ("", "<|im_end|> Observation: you won\nAction: go [/INST] "):
            one = trajectory("a", errors=2, veto=veto, text=text)
            sample = rules.tokenize(one, family(name))
            assert list(violations(sample, one, family(name), rules)) == []


def test_gradients_of_masked_errors_are_zero(dataset, model):
    found = audit(Wanted(dataset, model, checkpoint=model, gradients=4))["gradients"]
    assert found["samples"] == 4
    error = found["verdicts"]["error"]
    assert error["masked"] == 0.0 < error["unmasked"]
    assert error["loss"] > 0
    assert found["rest"] < 1e-5 * found["whole"]
    for verdict in ("correct", "correction"):
        pull = found["verdicts"][verdict]
        assert pull["masked"] == pytest.approx(pull["unmasked"], rel=1e-5)
    unmasked = audit(Wanted(dataset, model, checkpoint=model, mask="none", gradients=4))
    assert unmasked["gradients"]["verdicts"]["error"]["masked"] > 0


def command(*arguments):
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def test_command(run, dataset, model, tmp_path):
    done = command(run, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert json.loads((run / "report" / "audit.json").read_text()) == found
    assert "Mask audit" in build_report(run).read_text(encoding="utf-8")
    assert command(dataset, "--tokenizer", model).exit_code == 0
    for arguments, said in (
        ((dataset,), "name one with --tokenizer"),
        ((tmp_path,), "cannot be read"),
        ((run, "--mask", "odd"), "unknown; choose partial"),
        ((run, "--stage", "nowhere"), "holds no trajectories"),
        ((run, "--tokenizer", tmp_path / "no"), "not a model folder"),
    ):
        refused = command(*arguments)
        assert refused.exit_code == 2, refused.output
        assert said in refused.output.replace("\n", " ")


def test_command_fails_on_violations(run):
    samples = table.read(run / "step" / "samples.parquet")
    changed = dataclasses.replace(samples, ids=samples.ids + 1)
    table.write(changed, run / "step" / "samples.parquet")
    done = command(run)
    assert done.exit_code == 1
    assert f"violations: {COUNT}" in done.output


def test_no_student_yet(run):
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["stages"]["step"]
    write(run / "manifest.json", manifest)
    with pytest.raises(RunError, match="no student to audit for"):
        audit(Wanted(run))
