"""Labelled nodes: a teacher's model on the GPU, workers beside it, and pools that cannot fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "tests" / "benchmarks"
sys.path.append(str(BENCHMARKS))

from synthesis_sides import record  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.slow]

GAMES = {"train": 16, "valid_seen": 0, "valid_unseen": 0}
LACKING = {
    "labels that no machine has": "no machine has the labels step-ray/kind=tpu",
    "GPUs on machines without": "its machines have 2 CPUs and 0 GPUs, 2 CPUs and 0 GPUs;",
    "more GPUs than there are": "2 CPUs and 1 GPUs",
    "the GPU of a model": "CPUs and 1 GPUs each are not free",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("placed")
    record("alfworld", {"games": GAMES, "seed": 3}, 8).save(folder / "recording.json")
    done = subprocess.run(
        [sys.executable, "-m", "tests.drills.placed", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1",
             "PYTHONPATH": os.pathsep.join([str(ROOT), str(BENCHMARKS)])},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def test_models_go_to_the_gpu_and_workers_do_not(said: dict[str, Any]) -> None:
    assert said["labelled"] == ["gpu", "gpu"]
    assert said["by-gpu"] == ["gpu", "gpu"]
    assert said["workers"] == ["cpu-1", "cpu-2"]


@pytest.mark.parametrize("pool", LACKING)
def test_a_pool_that_cannot_fit_says_in_seconds_what_is_lacking(
    pool: str, said: dict[str, Any]
) -> None:
    seconds, message = said["refused"][pool]
    assert "found no room on the cluster in 2 s" in message
    assert LACKING[pool] in message
    assert seconds < 30
