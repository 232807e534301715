"""Workers on a cluster that begins with no machine for them: Ray's autoscaler brings machines."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.util import get_node_ip_address

from tests.drills.family import Family
from tests.drills.test_job import BIN, ENV, ROOT, free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

HEAD = "f" * 51 + "00000"  # as Ray's provider of machines for tests calls it
PROVIDER = {  # by its class: the defaults of its own type are not in Ray's wheel
    "type": "external",
    "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
    "head_node_id": HEAD,
    "launch_multiple": True,
    "disable_node_updaters": True,
    "disable_launch_config_check": True,
}
# As in deploy/kubernetes: nothing on the head, a labelled group that begins at none.
SCALED = {
    "cluster_name": "drill",
    "max_workers": 4,
    "auth": {"ssh_user": "nobody"},
    "available_node_types": {
        "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
        "cpu": {
            "resources": {"CPU": 2, "object_store_memory": 100_000_000},
            "labels": {"step-ray/kind": "cpu"},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 3,
        },
    },
    "head_node_type": "ray.head.default",
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 5,
    "docker": {},
    "initialization_commands": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
}
CODE = """
import json, sys, ray
from step_ray.synthesis.placement import cpus_for
ray.init(address=sys.argv[1], log_to_driver=False)
assert not [node for node in ray.nodes() if node["Resources"].get("CPU")]
said = []
each = cpus_for(int(sys.argv[2]), 240.0, said.append, {"step-ray/kind": "cpu"})
cpus = [node["Resources"]["CPU"] for node in ray.nodes() if node["Resources"].get("CPU")]
print(json.dumps([each, cpus, said]))
"""


@pytest.fixture
def head(tmp_path: Path, family: Family) -> Iterator[str]:
    port, agent, client = (free_port() for _ in range(3))
    address = f"{get_node_ip_address()}:{port}"
    scaled = {**SCALED, "provider": {**PROVIDER, "gcs_address": address}}
    (tmp_path / "scaled.json").write_text(json.dumps(scaled))
    temporary = Path("/tmp") / f"ray-scaled-{port}"  # paths of sockets have a length limit
    process = subprocess.Popen(
        [
            str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=0", f"--port={port}",
            "--include-dashboard=false", f"--dashboard-agent-listen-port={agent}",
            f"--ray-client-server-port={client}", f"--temp-dir={temporary}",
            "--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000",
            f"--autoscaling-config={tmp_path / 'scaled.json'}", "--disable-usage-stats",
        ],
        env={
            **ENV, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_enable_autoscaler_v2": "1", "RAY_CLOUD_INSTANCE_ID": HEAD,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD, **family.env,
        },
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        status = [str(BIN / "ray"), "health-check", "--address", address]
        deadline = time.monotonic() + 120
        while subprocess.run(status, env=ENV, capture_output=True, check=False).returncode:
            assert process.poll() is None, "ray start ended"
            assert time.monotonic() < deadline, "the head did not come up"
        yield address
    finally:
        family.kill()
        process.wait(60)
        shutil.rmtree(temporary, ignore_errors=True)


def test_machines_come_for_what_workers_ask(head: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, head, "4"],
        cwd=ROOT, env=ENV, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    each, cpus, said = json.loads(done.stdout.splitlines()[-1])
    assert each == 0.9
    assert cpus == [2.0, 2.0], "two machines of two CPUs, not all on the first that came"
    assert all("no machine has the labels step-ray/kind=cpu yet" in text for text in said)
