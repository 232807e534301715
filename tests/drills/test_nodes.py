"""Several nodes: episodes keep to the nodes they are given, and survive the loss of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from step_ray import store
from step_ray.recipes.world import PACKAGED_MODEL

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
EPISODES = int(os.environ.get("STEP_RAY_DRILL_EPISODES", "64"))


def play(folder: Path, lose: str) -> dict[str, list[str]]:
    """On which kinds of nodes workers and the board of their counts were."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.drills.nodes", str(folder), str(PACKAGED_MODEL),
         str(EPISODES), lose],
        cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT),
             "OMP_NUM_THREADS": "1", "RAY_health_check_period_ms": "1000",
             "RAY_health_check_failure_threshold": "10"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert ("LOST a node" in done.stdout) == (lose == "lose")
    kinds: dict[str, list[str]] = json.loads(done.stdout.strip().splitlines()[-1])
    return kinds


def test_the_loss_of_a_node_changes_nothing_and_workers_keep_to_their_nodes(
    tmp_path: Path,
) -> None:
    places = {"MapWorker": ["cpu"], "Board": ["head"]}  # the driver's machine is the head
    assert play(tmp_path / "undisturbed", "keep") == places
    assert play(tmp_path / "lost", "lose") == places
    undisturbed, lost = (store.read_manifest(tmp_path / name) for name in ("undisturbed", "lost"))
    assert lost.rows == EPISODES
    assert lost.content_hash == undisturbed.content_hash
    assert store.verify_store(tmp_path / "lost") == []
