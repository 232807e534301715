"""The STeP recipe with its students on vLLM, at the smallest size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from step_ray.recipes.verify import verify

pytestmark = [pytest.mark.vllm, pytest.mark.ray, pytest.mark.timeout(1200)]

CONFIG = Path(__file__).parents[2] / "jobs" / "configs" / "quickstart_vllm.yaml"
SMALL = (
    "env.games={train: 12, valid_seen: 2, valid_unseen: 2}",
    "env.max_steps=8",
    "training.epochs=1",
    "evaluation.tasks=2",
    "evaluation.max_steps=4",
)


def run(folder: Path, *arguments: str) -> None:
    settings = [f"--set={one}" for one in (*SMALL, f"output={folder}")]
    done = subprocess.run(
        [sys.executable, "-m", "step_ray.cli", "run", str(CONFIG), *settings, *arguments],
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert verify(folder) == []


def test_the_agents_own_engine_answers_for_its_teacher(tmp_path: Path) -> None:
    teacher = "teacher={type: self, attempts: 1, max_tokens: 32, cache: false}"
    run(tmp_path / "run", f"--set={teacher}", "--until=synthesis")
    record = json.loads((tmp_path / "run" / "reflected" / "stage.json").read_text())
    asked = {role: record["outputs"][role]["value"] for role in ("student", "teacher")}
    assert asked["student"]["asked"] >= 6
    assert asked["teacher"]["asked"] >= 6
    assert asked["teacher"]["of them cached"] > 0


def test_the_recipe_with_students_on_vllm(tmp_path: Path) -> None:
    run(tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {row["student"] for row in results["students"]} == {"base", "golden_only", "step"}
    assert all(row["n"] == 2 for row in results["students"])
    assert results["synthesis"]["episodes"] == 6
    for stage in ("reflected", "evaluation"):
        asked = results["models"][stage]["student"]
        assert asked["reply tokens"] > 0
        assert asked["prefix_cache_hit_rate"] > 0.2, "turns share their beginning"
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "What the models were asked" in page
