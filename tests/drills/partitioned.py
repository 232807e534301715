"""A driver on a host of a cluster: python -m tests.drills.partitioned FOLDER EPISODES ADDRESS HOST

Starts the teacher on whatever nodes there are, says ``teacher`` and where it is, waits for nodes
for episodes and plays; the last line says where the teacher is in the end.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import ray
from ray._private.state import actors

from step_ray.models.serving import start_teacher
from tests.drills.played import play

LABELS = {"step-ray/kind": "cpu"}


def where() -> str:
    """Addresses of the hosts with a living teacher."""
    found = {
        actor["Address"]["IPAddress"]
        for actor in actors().values()
        if actor["State"] == "ALIVE" and "TeacherDeployment" in actor["ActorClassName"]
    }
    return " ".join(sorted(found))


def main(folder: Path, episodes: int, address: str, host: str) -> None:
    ray.init(address=address, _node_ip_address=host, log_to_driver=False)
    teacher = start_teacher(1)
    print(f"teacher {where()}", flush=True)
    while not any(LABELS.items() <= node["Labels"].items() for node in ray.nodes()):
        time.sleep(0.2)  # a poll
    play(folder, episodes, 2, teacher, LABELS)
    print(f"teacher {where()}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
