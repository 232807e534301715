"""The whole recipe in the other environments, at the smallest size, and its verification."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from step_ray import store

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

CONFIG = """\
output: {output}
env: {env}
student: {{temperature: 0, max_tokens: 16}}
synthesis:
  {{max_errors: 4, abort_errors: 4, workers: 1, block_size: 4, keep_clean: true}}
training: {{epochs: 1, workers: 1, save_every_steps: 0}}
evaluation: {{workers: 1, max_steps: 2, tasks: 2}}
ray: {{num_cpus: 4, object_store_mb: 100}}
"""
ENVIRONMENTS = {
    "scienceworld": "{name: scienceworld, train_tasks: 8, max_steps: 12, task_types: "
    "[lifespan-longest-lived]}",
    "webshop": "{name: webshop, products: 200, train_tasks: 8, max_steps: 12}",
}


@pytest.mark.parametrize("name", ["scienceworld", pytest.param("webshop", marks=pytest.mark.slow)])
def test_a_run(name: str, tmp_path: Path) -> None:
    pytest.importorskip("scienceworld" if name == "scienceworld" else "rapidfuzz")
    config, run = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(CONFIG.format(output=run, env=ENVIRONMENTS[name]))
    for command in (["run", str(config)], ["verify", str(run)]):
        done = subprocess.run(
            [sys.executable, "-m", "step_ray.cli", *command],
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
            env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = json.loads((run / "results.json").read_text())
    held_out = {"test"} if name == "webshop" else {"valid_seen", "valid_unseen"}
    assert {row["split"] for row in results["students"]} == held_out
    golden = list(store.read(run / "golden"))
    assert len(golden) == 8
    assert all(one.reward == 1 for one in golden)
    # A model that has hardly been trained says nothing sensible: every turn of its own is an error.
    reflected = list(store.read(run / "reflected", kept_only=False))
    assert len(reflected) == 4
    assert {one.outcome for one in reflected} <= {"success", "error_limit", "failure", "step_limit"}
    assert sum(one.errors for one in reflected) >= 4
    assert sum(one.corrections for one in reflected) >= 4
