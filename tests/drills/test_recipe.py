"""The whole recipe on a real Ray at the smallest size, then what verification finds in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import step_ray

from step_ray import store
from step_ray.evaluation.table import Ran, rows_of
from step_ray.files import sha256_file, write_json_atomic
from step_ray.models.fingerprint import model_fingerprint
from step_ray.publication import publish
from step_ray.recipes.verify import verify
from step_ray.training import table
from step_ray.training.prepare import SAMPLES

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

CONFIG = """\
output: {output}
env:
  games: {{train: 12, valid_seen: 2, valid_unseen: 2}}
  task_types: [pick_and_place_simple]
  max_steps: 12
student: {{temperature: 0, max_tokens: 48}}
synthesis: {{max_errors: 12, abort_errors: 12, workers: 1, block_size: 6, keep_clean: true}}
training: {{epochs: 1, workers: 2, save_every_steps: 0}}
evaluation: {{workers: 1, max_steps: 4}}
ray: {{num_cpus: 4, object_store_mb: 100}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "run.yaml").write_text(CONFIG.format(output=folder / "run"))
    done = step_ray("run", str(folder / "run.yaml"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Students" in done.stdout
    return folder / "run"


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_run_leaves_everything_it_promises(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    phases = {"total", "env", "student", "teacher", "queue", "write"}
    assert set(results["seconds"]["reflected"]) == phases, "all of the time budget"
    assert {(row["student"], row["split"]) for row in results["students"]} == {
        (student, split)
        for student in ("base", "golden_only", "step")
        for split in ("valid_seen", "valid_unseen")
    }
    assert results["synthesis"]["episodes"] == 6
    assert results["synthesis"]["errors"] > 0
    assert (finished / "report" / "index.html").stat().st_size > 10_000
    assert len(list(store.read(finished / "golden"))) == 12
    assert len(list(store.read(finished / "reflected", kept_only=False))) == 6


def test_the_same_command_again_only_skips(finished: Path) -> None:
    before = sha256_file(finished / "reflected" / "manifest.json")
    done = step_ray("run", str(finished.parent / "run.yaml"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("done before") == 6
    assert sha256_file(finished / "reflected" / "manifest.json") == before


def test_verification_passes(finished: Path) -> None:
    counted: dict[str, int] = {}
    assert verify(finished, counted.__setitem__) == []
    assert counted["golden: trajectories replayed in the engine"] == 12
    assert counted["reflected: trajectories replayed in the engine"] == 6
    assert counted["base: samples decoded"] == 6


@pytest.mark.slow
def test_rounds_and_other_worlds_are_added_to_what_is_done(copy: Path, finished: Path) -> None:
    changes = (
        "step={rounds: 2, revisit: all}",
        "transfer={shop: {env: {name: webshop, products: 60}, tasks: 2, max_steps: 3}}",
        "evaluation.tasks=1",
        f"output={copy}",
    )
    settings = [f"--set={one}" for one in changes]
    done = step_ray("run", str(finished.parent / "run.yaml"), "--fresh", *settings)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for stage in ("golden", "base", "reflected", "step", "golden_only"):
        again, before = (folder / stage / "stage.json" for folder in (copy, finished))
        assert again.read_text() == before.read_text(), "the first round is the papers'"
    agents = [
        {one.provenance.student for one in store.read(copy / name, kept_only=False)}
        for name in ("reflected", "reflected_2")
    ]
    # Nothing is kept at this size: the second agent is the first again, and there is no third.
    assert agents[1] == {model_fingerprint(copy / "step" / "model")}
    results = json.loads((copy / "results.json").read_text())
    assert [(one["episodes"], one["kept"]) for one in results["rounds"]] == [(6, 0), (6, 0)]
    rows = {(row["student"], row["split"]): row for row in results["students"]}
    assert set(rows) == {
        (student, split)
        for student in ("base", "golden_only", "step")
        for split in ("valid_seen", "valid_unseen", "shop/test")
    }
    assert rows["step", "shop/test"]["n"] == 2
    played = list(store.read(copy / "evaluation_shop", kept_only=False))
    assert {one.env for one in played} == {"webshop"}
    assert max(len(one.turns) for one in played) <= 3
    assert verify(copy) == []
    assert "shop/test" in (copy / "report" / "index.html").read_text()
    compared = {(row.student, row.split): row for row in rows_of([Ran("env", "two", 0, copy)])}
    assert compared["two/golden_only", "shop/test"].n == 2


def republish(stage: Path, change: str) -> None:
    """Publishes a stage with one observation changed, so that every checksum is right."""
    rows = list(store.read_rows(stage))
    rows[0]["turns"][0]["observation"] += change
    publish(stage, rows, replace=True)
    record = json.loads((stage / "stage.json").read_text())
    record["outputs"]["data"]["hash"] = store.read_manifest(stage).content_hash
    write_json_atomic(stage / "stage.json", record)
    manifest = json.loads((stage.parent / "manifest.json").read_text())
    manifest["stages"][stage.name] = record
    write_json_atomic(stage.parent / "manifest.json", manifest)


def test_verification_names_a_trajectory_that_was_changed(copy: Path) -> None:
    culprit = next(iter(store.read_rows(copy / "evaluation", ["id"])))["id"]
    republish(copy / "evaluation", " And a pony.")
    problems = verify(copy)
    assert any(culprit in problem or "evaluation" in problem for problem in problems), problems


def test_verification_names_a_mask_that_was_changed(copy: Path) -> None:
    samples = table.read(copy / "step" / SAMPLES)
    weights = samples.weights.copy()
    weights[int(samples.offsets[0]) + 3] = 1.0  # a word of the prompt
    changed = table.TokenTable(
        samples.names, samples.offsets, samples.ids, weights, samples.verdicts
    )
    table.write(changed, copy / "step" / SAMPLES)
    problems = verify(copy)
    assert any("step" in problem and samples.names[0] in problem for problem in problems), problems


def test_verification_names_a_shard_that_was_changed(copy: Path) -> None:
    shard = next((copy / "reflected").glob("part-*.parquet"))
    rows = pq.read_table(shard)
    pq.write_table(pa.concat_tables([rows.slice(1), rows.slice(0, 1)]), shard)
    problems = verify(copy)
    assert any(shard.name in problem for problem in problems), problems
