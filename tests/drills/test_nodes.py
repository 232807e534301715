"""Several nodes: episodes keep to the nodes they are given, and survive the loss of any of them.

``STEP_RAY_DRILL_EPISODES=1000 pytest tests/drills/test_nodes.py -m slow -s`` prints what
docs/reliability.md says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from step_ray import store

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "tests" / "benchmarks"
sys.path.append(str(BENCHMARKS))

from synthesis_sides import record  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(3000)]

EPISODES = int(os.environ.get("STEP_RAY_DRILL_EPISODES", "64"))
GAMES = {"train": 64, "valid_seen": 0, "valid_unseen": 0}
CPU_NODES, GPU_NODE = ["cpu-1", "cpu-2"], ["gpu"]


def play(folder: Path, lose: str) -> dict[str, Any]:
    """What the drill says, once its dataset is proved to be whole."""
    folder.mkdir()
    record("alfworld", {"games": GAMES, "seed": 3}, 32).save(folder / "recording.json")
    done = subprocess.run(
        [sys.executable, "-m", "tests.drills.nodes", str(folder), str(EPISODES), lose],
        cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1",
             "PYTHONPATH": os.pathsep.join([str(ROOT), str(BENCHMARKS)])},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["lost"] == lose
    assert said["boards"] == ["head"], "it must not be lost with another node"
    rows = [row["id"] for row in store.read_rows(folder / "data", ["id"])]
    assert len(rows) == len(set(rows)) == EPISODES
    assert store.verify_store(folder / "data") == []
    return said


def test_the_loss_of_any_worker_node_changes_nothing(tmp_path: Path) -> None:
    undisturbed = play(tmp_path / "nothing", "nothing")
    assert undisturbed["workers"] == CPU_NODES
    assert undisturbed["teachers"] == GPU_NODE
    whole = store.read_manifest(tmp_path / "nothing" / "data").content_hash
    said = [f"undisturbed {undisturbed['seconds']} s"]
    for lose in (*CPU_NODES, *GPU_NODE):
        found = play(tmp_path / lose, lose)
        assert store.read_manifest(tmp_path / lose / "data").content_hash == whole, lose
        assert found["workers"] == CPU_NODES, "episodes keep to their nodes"
        assert (found["teachers"] != GPU_NODE) == (lose == "gpu"), "a lost teacher comes up again"
        said.append(f"without {lose} {found['seconds']} s")
    print(f"\n{EPISODES} episodes: {', '.join(said)}")
