"""The machines of the cluster, and the drill on one of them."""

from __future__ import annotations

import os
import signal
import time

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from step_ray.drills.lab import TIMEOUT, DrillFailed, DrillRefused, Lab, wait
from step_ray.synthesis.raw import complete


def address() -> str:
    """Where other processes find the cluster that this one is connected to."""
    return str(ray.get_runtime_context().gcs_address)


def _kill_raylet() -> None:
    """Ends Ray on the machine where it runs: a worker's parent is its node's raylet."""
    os.kill(os.getppid(), signal.SIGKILL)


def kill_node(lab: Lab) -> str:
    """Kills a machine's raylet once the first block is written. Raises DrillRefused on a cluster
    of one machine."""
    here = ray.get_runtime_context().get_node_id()
    others = [
        node
        for node in ray.nodes()
        if node["Alive"]
        and node["NodeID"] != here
        and "node:__internal_head__" not in node["Resources"]
    ]
    if not others:
        raise DrillRefused(
            "kill-node needs a cluster with a machine besides the head's and this one; start one "
            "(ray start --address=... on another machine, or deploy/) and set ray.address: auto"
        )
    victim = max(others, key=lambda node: (node["Resources"].get("CPU", 0), node["NodeID"]))
    run = lab.scratch("kill-node")
    with run.driver() as process:
        until = time.monotonic() + TIMEOUT
        while not complete(run.data):
            if process.poll() is not None or time.monotonic() > until:
                raise DrillFailed(f"no block was written: {wait(process).output}")
            time.sleep(0.05)  # a poll
        there = NodeAffinitySchedulingStrategy(victim["NodeID"], soft=False)
        kill = ray.remote(num_cpus=0, max_retries=0)(_kill_raylet)
        kill.options(scheduling_strategy=there).remote()
        ended = wait(process)
    if ended.status != 0:
        raise DrillFailed(f"the driver ended with status {ended.status}: {ended.output}")
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    if victim["NodeID"] in alive:
        raise DrillFailed(f"node {victim['NodeID'][:8]} is still alive")
    return f"node {victim['NodeID'][:8]} died; {run.same_as_quiet()}"
