"""A comparison on a real Ray at the smallest size: killed, continued, tabulated."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from step_ray import store
from step_ray.config_suite import load_suite
from step_ray.faults import VARIABLE, Fault, FaultPlan
from step_ray.files import sha256_file
from step_ray.recipes.suite_plan import stage_keys

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

SUITE = """\
output: {output}
seeds: [0, 1]
base:
  env:
    games: {{train: 8, valid_seen: 2, valid_unseen: 2}}
    task_types: [pick_and_place_simple]
    max_steps: 40
  student: {{temperature: 0, max_tokens: 40}}
  synthesis: {{max_errors: 40, abort_errors: 40, block_size: 4}}
  training: {{epochs: 1, workers: 1, save_every_steps: 0}}
  evaluation: {{max_steps: 4, judge: true}}
  ray: {{num_cpus: 4, object_store_mb: 100}}
methods:
  step: {{}}
  step_no_mask: {{training.mask: none}}
"""
SHARED = {"golden", "base", "reflected", "golden_only"}
# Of each seed of the first method two data sets are played, of the second one: the third is its
# test. The kill comes before it is published.
KILL = Fault("kill-driver", "before-publish", 3)


@dataclass
class Drill:
    """A suite and what its commands left and said."""

    suite: Path
    output: Path
    killed: dict[str, Any]
    said: str

    def compare(self, *arguments: str) -> str:
        return compare(*(arguments or (str(self.suite),)))

    def records(self) -> dict[str, Any]:
        return records(self.output)


def compare(*arguments: str, status: int = 0, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "step_ray.cli", "compare", *arguments],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def records(output: Path) -> dict[str, Any]:
    """Run and stage -> its record."""
    return {
        f"{file.parts[-4]}/{file.parts[-3]}/{file.parts[-2]}": json.loads(file.read_text())
        for file in output.glob("alfworld/*/seed*/*/stage.json")
    }


@pytest.fixture(scope="module")
def drill(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    import ray

    folder = tmp_path_factory.mktemp("compare")
    suite = folder / "suite.yaml"
    suite.write_text(SUITE.format(output=folder / "out"))
    plan = FaultPlan(str(folder / "marks"), (KILL,)).to_json()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
        compare(str(suite), status=-signal.SIGKILL, **{VARIABLE: plan})
        killed = records(folder / "out")
        said = compare(str(suite))
        yield Drill(suite, folder / "out", killed, said)


def test_a_killed_comparison_goes_on_where_it_was(drill: Drill) -> None:
    interrupted = "step_no_mask/seed0/evaluation"
    done = {name: record for name, record in drill.killed.items() if name != interrupted}
    assert {record["status"] for record in done.values()} == {"done"}
    assert not [name for name in drill.killed if "seed1" in name], "it was killed in seed 0"
    now = drill.records()
    assert {name: now[name] for name in done} == done, "what was done is not done again"
    assert now[interrupted]["attempts"] == 2
    assert len(now) == 2 * 2 * 6
    again = drill.compare()
    assert drill.records() == now
    assert again.count("done before, same fingerprint") == len(now)


def test_what_methods_have_in_common_is_made_once(drill: Drill) -> None:
    now = drill.records()
    for seed in (0, 1):
        one, other = (
            {record["name"]: record for name, record in now.items()
             if name.startswith(f"{method}/seed{seed}/")}
            for method in ("step", "step_no_mask")
        )  # fmt: skip
        same = {name for name in one if one[name]["fingerprint"] == other[name]["fingerprint"]}
        # Without an error in what was kept there is nothing to mask: then the rest is shared too.
        assert same == (SHARED if marred(drill, seed) else set(one)), seed
        assert all(one[name]["started"] == other[name]["started"] for name in same)
        models = [
            drill.output / "alfworld" / method / f"seed{seed}" / "base/model/model.safetensors"
            for method in ("step", "step_no_mask")
        ]
        assert models[0].stat().st_ino == models[1].stat().st_ino


def marred(drill: Drill, seed: int) -> bool:
    """Whether what was kept has an error."""
    folder = drill.output / "alfworld" / "step" / f"seed{seed}" / "reflected"
    kept = store.read(folder)
    return any(turn.verdict == "error" for trajectory in kept for turn in trajectory.turns)


def seed_of(stage: str) -> int:
    """Of ``method/seedN/name``."""
    return int(stage.split("/")[1].removeprefix("seed"))


def test_the_plan_foresees_what_is_shared(drill: Drill) -> None:
    _, cells = load_suite(drill.suite)
    now = drill.records()
    keys, fingerprints = [
        {
            f"{cell.method}/seed{cell.seed}/{name}": value
            for cell in cells
            for name, value in found(cell).items()
        }
        for found in (
            lambda cell: stage_keys(cell.config),
            lambda cell: {
                name.rpartition("/")[2]: record["fingerprint"]
                for name, record in now.items()
                if name.startswith(f"{cell.method}/seed{cell.seed}/")
            },
        )
    ]
    assert keys.keys() == fingerprints.keys()
    for one in keys:
        for other in keys:
            foretold, found = keys[one] == keys[other], fingerprints[one] == fingerprints[other]
            # Without an error in what was kept, what differs by its mask alone is the same too.
            if foretold or seed_of(one) != seed_of(other) or marred(drill, seed_of(one)):
                assert foretold == found, (one, other)


def test_the_table(drill: Drill) -> None:
    rows = list(csv.DictReader((drill.output / "report" / "table.csv").open()))
    names = ["step/base", "step/golden_only", "step", "step_no_mask"]
    assert [row["student"] for row in rows] == [name for name in names for _ in range(2)]
    assert {row["n"] for row in rows} == {"4"}
    assert {row["seeds"] for row in rows} == {"0 1"}
    hours = {row["student"]: float(row["hours"]) for row in rows}
    assert hours["step"] > hours["step/base"] > 0, "a student needed its base agent"
    assert hours["step_no_mask"] > hours["step/base"], "also where that was shared"
    assert "| step_no_mask | valid_seen | 4 |" in drill.said
    assert (drill.output / "report" / "index.html").stat().st_size > 5_000


def test_a_partial_table_names_what_is_missing(drill: Drill) -> None:
    results = drill.output / "alfworld" / "step_no_mask" / "seed1" / "results.json"
    before = sha256_file(results)
    aside = results.rename(results.with_name("aside.json"))
    said = drill.compare(str(drill.suite), "--table-only")
    assert "3 of 4 runs" in said
    assert "Missing: step_no_mask, alfworld, seed 1 (not finished)." in said
    assert "| step_no_mask | valid_seen | 2 |" in said
    assert not results.exists(), "nothing was run"
    aside.rename(results)
    assert sha256_file(results) == before


def test_folders_of_runs(drill: Drill, tmp_path: Path) -> None:
    runs = [str(drill.output / "alfworld" / "step" / f"seed{seed}") for seed in (0, 1)]
    said = drill.compare(*runs, "-o", str(tmp_path / "report"))
    assert "| step | valid_unseen | 4 |" in said
    assert (tmp_path / "report" / "table.csv").exists()


def test_a_run_that_fails_does_not_stop_the_others(drill: Drill) -> None:
    settings = ["--set", "methods.step_no_mask={training.mask: none, training.epochs: 2}"]
    done = subprocess.run(
        [sys.executable, "-m", "step_ray.cli", "compare", str(drill.suite), *settings],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("FAILED  step_no_mask, alfworld, seed") == 2
    assert "begun with another config" in done.stderr
    assert "| step | valid_seen | 4 |" in done.stdout
