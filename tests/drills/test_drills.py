"""Every drill of ``step-ray drill``, as the command that a person types, at a small size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from step_ray.config import ConfigError
from step_ray.drills.settings import STUCK, drill_config

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]


def step_ray(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "step_ray.cli", "drill", *arguments],
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
        cwd=ROOT,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1", **environ},
    )


def verdicts(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {row["drill"]: row for row in rows}


def passes(names: str, temporary: Path, **environ: str) -> dict[str, dict[str, Any]]:
    done = step_ray(names, "--episodes", "4", "--json", TMPDIR=str(temporary), **environ)
    found = verdicts(done)
    assert list(found) == names.split(","), done.stdout[-3000:] + done.stderr[-3000:]
    assert {row["verdict"] for row in found.values()} == {"pass"}, found
    assert done.returncode == 0
    assert not list(temporary.glob("step-ray-drill-*"))  # nothing to look at is left
    return found


def test_workers_environments_and_the_disk(ray_cluster: None, tmp_path: Path) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    found = passes("kill-workers,crash-env,full-disk,two-drivers", tmp_path, RAY_ADDRESS=address)
    assert "4 published, 0 lost, 0 twice" in found["kill-workers"]["seen"]
    assert "one env_error" in found["crash-env"]["seen"]


@pytest.mark.slow
def test_all_the_others(tmp_path: Path) -> None:
    passes("kill-driver,hang-env,slow-teacher,garbage-teacher,corrupt-shard", tmp_path)


@pytest.mark.slow
def test_a_machine_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "object_store_memory": 100_000_000},
    )
    try:
        cluster.add_node(num_cpus=2, object_store_memory=100_000_000)
        cluster.wait_for_nodes()
        found = passes("kill-node", tmp_path, RAY_ADDRESS=cluster.address)
        assert "died; 4 published, 0 lost" in found["kill-node"]["seen"]
    finally:
        cluster.shutdown()


def test_a_machine_is_needed_to_kill_one(ray_cluster: None, tmp_path: Path) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    done = step_ray("kill-node", "--json", TMPDIR=str(tmp_path), RAY_ADDRESS=address)
    row = verdicts(done)["kill-node"]
    assert (done.returncode, row["verdict"]) == (1, "refused"), done.stderr[-2000:]
    assert "ray.address: auto" in row["seen"]


def test_an_unknown_drill_is_refused() -> None:
    done = step_ray("kill-everybody")
    assert done.returncode == 2
    assert "known are kill-workers, kill-driver" in done.stderr


def test_a_drill_takes_the_users_world_and_makes_it_short(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        f"output: {tmp_path}/runs/x\nenv: {{name: webshop, max_steps: 40}}\n"
        "synthesis: {workers: 1, deadlines: {step: 3}}\n"
    )
    config = drill_config(tmp_path / "run.yaml", ["env.products=50"])
    assert (config.env.name, config.env.max_steps) == ("webshop", 10)
    assert config.synthesis.workers == 1
    assert config.synthesis.deadlines.step == 3
    assert config.synthesis.deadlines.review == STUCK
    with pytest.raises(ConfigError, match="seeds"):
        drill_config(None, ["seeds=1"])
