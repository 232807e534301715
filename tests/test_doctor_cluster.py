"""The doctor on several raylets of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from step_ray.doctor.cluster import differences, shared

ROOT = Path(__file__).parents[1]

CODE = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
import os, runpy
os.environ["RAY_ADDRESS"] = cluster.address
sys.argv = ["step-ray", "doctor", *sys.argv[1:]]
try:
    runpy.run_module("step_ray.cli", run_name="__main__")
finally:
    cluster.shutdown()
"""


def test_versions_that_differ_are_told() -> None:
    same = {"a": {"ray": "2.60.0"}, "b": {"ray": "2.60.0"}}
    assert [one.status for one in differences(same)] == ["ok"]
    found = list(differences({"a": {"ray": "2.60.0"}, "b": {"ray": "2.59.0"}, "c": {}}))
    assert [one.status for one in found] == ["broken"]
    assert "2.59.0 on b" in found[0].says
    assert "absent on c" in found[0].says


def test_storage_that_is_not_shared_is_told(tmp_path: Path) -> None:
    (tmp_path / "probe").touch()
    assert [one.status for one in shared(tmp_path / "probe")] == ["ok"]
    assert [one.status for one in shared(tmp_path / "other")] == ["broken"]


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_every_node_answers_for_itself(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    games = "games: {train: 4, valid_seen: 2, valid_unseen: 2}"
    config.write_text(
        f"output: {tmp_path}/run\nenv: {{name: alfworld, {games}}}\nray: {{address: auto}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(config), "--cluster", "--json"],
        capture_output=True, text=True, check=False, timeout=800, cwd=ROOT,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads(done.stdout[done.stdout.index("{\n") :])
    assert found["sound"]
    nodes = {name: said for name, said in found["machines"].items() if name != "cluster"}
    assert len(nodes) == 2
    for said in nodes.values():
        topics = {finding["topic"] for finding in said}
        assert topics >= {"alfworld", "scienceworld", "webshop", "storage", "disk"}
    together = found["machines"]["cluster"]  # of versions, and whether the run fits
    assert {one["status"] for one in together} == {"ok"}
    assert list(tmp_path.iterdir()) == [config]  # the probe file is gone
