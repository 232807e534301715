"""A cluster of several raylets on this machine that plays monitored episodes, and may lose a node.

python -m tests.drills.nodes FOLDER EPISODES LOSE

The head takes no work; there are three worker nodes: ``cpu-1`` and ``cpu-2`` are labelled for
environments, ``gpu`` holds the teacher. LOSE is the one that is killed when a quarter of the
episodes is written, or ``nothing``. The last line is JSON: seconds, on which nodes workers, teacher
and the board with the workers' counts were, and the node that was lost.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

os.environ |= {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "5"}

import ray
from ray._private.state import actors
from ray.cluster_utils import Cluster

from step_ray.models.applications import withdraw
from step_ray.models.serving import TEACHER, start_teacher
from step_ray.synthesis import raw
from tests.drills.played import BLOCK, DATA, play

NAME, KIND = "step-ray/name", "step-ray/kind"
WORKERS = 4  # as many as two nodes have CPUs, so that the other has to take those of a lost one


class Watch:
    """Notes where workers and teachers are, and kills a node in the middle."""

    def __init__(self, look: Path, blocks: int, kill: Any) -> None:
        """``kill`` is called once, when there are so many ``blocks`` in the folder ``look``."""
        self.workers: set[str] = set()
        self.teachers: set[str] = set()
        self.boards: set[str] = set()
        self.killed = False
        self._folder, self._blocks, self._kill = look, blocks, kill
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        names = {node["NodeID"]: node["Labels"].get(NAME, "head") for node in ray.nodes()}
        while not self._over.wait(0.2):  # a poll
            for actor in actors().values():
                if actor["State"] == "ALIVE":
                    where = names[actor["Address"]["NodeID"]]
                    if "MapWorker" in actor["ActorClassName"]:
                        self.workers.add(where)
                    if "TeacherDeployment" in actor["ActorClassName"]:
                        self.teachers.add(where)
                    if "Board" in actor["ActorClassName"]:
                        self.boards.add(where)
            if not self.killed and len(raw.complete(self._folder)) >= self._blocks:
                self._kill()
                self.killed = True


def main(folder: Path, episodes: int, lose: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    ray.init(address=cluster.address, log_to_driver=False)
    nodes = {"gpu": add(cluster, "gpu", num_cpus=2, num_gpus=1)}
    cluster.wait_for_nodes()
    teacher = start_teacher(1)  # there is no other node yet
    nodes |= {name: add(cluster, name, num_cpus=2) for name in ("cpu-1", "cpu-2")}
    cluster.wait_for_nodes()

    def kill() -> None:
        if lose in nodes:
            cluster.remove_node(nodes[lose], allow_graceful=False)
            print(f"LOST {lose}", flush=True)

    began = time.monotonic()
    with Watch(folder / DATA, max(1, episodes // BLOCK // 4), kill) as seen:
        play(folder, episodes, WORKERS, teacher, {KIND: "cpu"})
    said = {
        "seconds": round(time.monotonic() - began, 1),
        "workers": sorted(seen.workers),
        "teachers": sorted(seen.teachers),
        "boards": sorted(seen.boards),
        "lost": lose if seen.killed and lose in nodes else "nothing",
    }
    withdraw(TEACHER)
    ray.shutdown()
    cluster.shutdown()
    print(json.dumps(said), flush=True)


def add(cluster: Cluster, name: str, **resources: float) -> Any:
    labels = {NAME: name, KIND: name.partition("-")[0]}
    return cluster.add_node(labels=labels, object_store_memory=100_000_000, **resources)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
