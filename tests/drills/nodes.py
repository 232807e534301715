"""A cluster of several raylets on this machine that plays monitored episodes, and may lose a node.

python tests/drills/nodes.py FOLDER MODEL EPISODES LOSE

The head takes no work; two nodes are labelled for environments, and one has a GPU by its own
account. With LOSE the first of the two is killed when two blocks are written. The last line is
JSON: on which kinds of nodes workers ran, and where the board with their counts was.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray._private.state import actors
from ray.cluster_utils import Cluster

from step_ray.synthesis import raw
from tests.drills.monitored import synthesize

KIND = "step-ray/kind"


def watch(
    cluster: Cluster, victim: Any, folder: Path, lose: bool, found: dict[str, set[str]]
) -> None:
    """Notes where actors are, and kills ``victim`` in the middle."""
    kinds = {node["NodeID"]: node["Labels"].get(KIND, "head") for node in ray.nodes()}
    while True:
        for actor in actors().values():
            for name, where in found.items():
                if name in actor["ActorClassName"] and actor["State"] == "ALIVE":
                    where.add(kinds[actor["Address"]["NodeID"]])
        if lose and len(raw.complete(folder)) >= 2:
            cluster.remove_node(victim, allow_graceful=False)
            lose = False
            print("LOST a node", flush=True)
        time.sleep(0.2)  # a poll


def main(folder: Path, model: Path, episodes: int, lose: bool) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    victim = cluster.add_node(num_cpus=2, labels={KIND: "cpu"})
    cluster.add_node(num_cpus=2, labels={KIND: "cpu"})
    cluster.add_node(num_cpus=8, num_gpus=1, labels={KIND: "gpu"})
    ray.init(address=cluster.address, log_to_driver=False)
    cluster.wait_for_nodes()
    found: dict[str, set[str]] = {"MapWorker": set(), "Board": set()}
    arguments = (cluster, victim, folder, lose, found)
    threading.Thread(target=watch, args=arguments, daemon=True).start()
    synthesize(folder, model, 2, episodes, "execute", {KIND: "cpu"})
    print(json.dumps({name: sorted(where) for name, where in found.items()}), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "lose")
