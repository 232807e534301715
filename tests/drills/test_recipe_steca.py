"""STeCa on a real Ray at the smallest size: explore, value, calibrate, train by weight."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import step_ray

from step_ray import store
from step_ray.recipes.verify import verify
from step_ray.synthesis.calibrate import ndtw
from step_ray.synthesis.chosen import CHOSEN, read_chosen

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

CONFIG = """\
recipe: steca
output: {output}
env:
  games: {{train: 4, valid_seen: 1, valid_unseen: 1}}
  task_types: [pick_and_place_simple]
  max_steps: 14
student: {{max_tokens: 40}}
golden: {{max_steps: 14}}
steca: {{tasks: 2, samples: 2, rate: 0.5, explored_within: 1, samples_per_batch: 4}}
synthesis: {{workers: 1, block_size: 8}}
training: {{epochs: 1, workers: 1, save_every_steps: 0}}
evaluation: {{workers: 1, max_steps: 4}}
ray: {{num_cpus: 4, object_store_mb: 100}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steca")
    (folder / "run.yaml").write_text(CONFIG.format(output=folder / "run"))
    done = step_ray("run", str(folder / "run.yaml"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "run"


def test_a_run_leaves_everything_it_promises(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    assert {row["student"] for row in results["students"]} == {"golden_only", "steca"}
    facts = results["calibration"]
    golden = {one.task: one for one in store.read(finished / "golden")}
    explored = list(store.read(finished / "explored", kept_only=False))
    turns = [len(golden[task].turns) for task in {one.task for one in explored}]
    assert len(explored) == sum(turns), "one episode from every state on the expert's way"
    assert facts["continuations"] == len(list(store.read_rows(finished / "valued", ["id"])))
    assert facts["deviations"] > 0
    assert facts["pasted"]["trajectories"] == facts["deviations"]
    assert 0 <= facts["pasted"]["not_executable"] <= facts["deviations"]
    for one in store.read(finished / "calibrated"):
        error = next(n for n, turn in enumerate(one.turns) if turn.verdict == "error")
        assert [turn.author for turn in one.turns[error:]] == [
            "student", "teacher", *["expert"] * (len(one.turns) - error - 2),
        ]  # fmt: skip
        assert one.success


def test_weights_follow_the_distance(finished: Path) -> None:
    golden = {one.task: one for one in store.read(finished / "golden")}
    calibrated = {one.id: one for one in store.read(finished / "calibrated")}
    explored = list(store.read(finished / "explored", kept_only=False))
    chosen = read_chosen(finished / "chosen" / CHOSEN)
    assert sum(one.kind == "calibration" for one in chosen) == len(calibrated)
    for one in chosen:
        if one.kind != "calibration":
            continue
        made = calibrated[one.id]
        begun = [turn.action for turn in made.turns[: one.start]]
        (probe,) = [
            other
            for other in explored
            if other.task == made.task
            and [turn.action for turn in other.turns[: one.start]] == begun
            and [turn.author for turn in other.turns[: one.start]].count("student") == 1
        ]
        own = [turn.action for turn in probe.turns[one.start :]]
        theirs = [turn.action for turn in golden[made.task].turns[one.start - 1 :]]
        assert one.weight == pytest.approx(1 + 0.01 * ndtw(own, theirs))


def test_verification_passes(finished: Path) -> None:
    counted: dict[str, int] = {}
    assert verify(finished, counted.__setitem__) == []
    assert counted["steca: samples decoded"] > 0
    assert counted["valued: trajectories replayed in the engine"] > 0


def test_the_same_command_again_only_skips(finished: Path) -> None:
    done = step_ray("run", str(finished.parent / "run.yaml"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("done before") == 8
