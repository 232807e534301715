"""Self-reflection on a real Ray at the smallest size: the agent that acts is its own teacher. What
a model this small says of itself is nonsense, and every bit of that is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import step_ray

from step_ray import store
from step_ray.config import load_config
from step_ray.models.fingerprint import model_fingerprint
from step_ray.recipes.teachers import teacher_for
from step_ray.recipes.verify import verify
from step_ray.teacher.make import make_teacher

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

CONFIG = """\
output: {output}
env:
  games: {{train: 4, valid_seen: 1, valid_unseen: 1}}
  task_types: [pick_and_place_simple]
  max_steps: 4
student: {{max_tokens: 16}}
teacher: {{type: self, constrain: false, attempts: 2, max_tokens: 24}}
training: {{epochs: 1, workers: 1, save_every_steps: 0}}
evaluation: {{max_steps: 2}}
ray: {{num_cpus: 4, object_store_mb: 100}}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("self")
    (folder / "run.yaml").write_text(CONFIG.format(output=folder / "run"))
    done = step_ray("run", str(folder / "run.yaml"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "run"


def test_the_agent_is_asked_about_itself(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    asked = results["models"]["reflected"]["teacher"]
    made = list(store.read(finished / "reflected", kept_only=False))
    assert asked["asked"] >= len(made) == results["synthesis"]["episodes"] == 2
    assert asked["unusable replies"] <= asked["asked"]
    counted = sum(results["synthesis"]["drop_reasons"].values()) + results["synthesis"]["kept"]
    assert counted == 2
    base = finished / "base" / "model"
    config = load_config(finished.parent / "run.yaml")
    teacher = make_teacher(teacher_for(config, base, base), "alfworld", finished)
    for one in made:
        assert one.provenance.student == model_fingerprint(base)
        assert one.provenance.teacher == teacher.fingerprint, "a function of the agent's weights"
    assert {row["student"] for row in results["students"]} == {"base", "golden_only", "step"}
    assert verify(finished) == []


@pytest.mark.slow
def test_its_judgement_is_compared_with_the_experts(finished: Path) -> None:
    done = step_ray("teacher-score", str(finished), "--episodes", "1", "--json")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["episodes"] == 1
    assert found["counts"]["asked"] + found["counts"].get("from cache", 0) > 0
