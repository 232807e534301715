"""Trains with two workers on a cluster of two nodes, one of which is lost on the way.

python tests/drills/elastic.py MODEL OUTPUT
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

os.environ |= {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4"}

import ray
from ray.cluster_utils import Cluster
from test_training_loop import EPISODES, config

from step_ray.training.checkpoint import read_metrics
from step_ray.training.loop import train

LOST_AFTER = 6  # steps


def main() -> None:
    model, output = sys.argv[1], Path(sys.argv[2])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    other = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    over = threading.Event()

    def lose() -> None:
        while not over.wait(0.05):
            lines = read_metrics(output / "metrics.jsonl")
            if lines and lines[-1]["step"] >= LOST_AFTER:
                cluster.remove_node(other, allow_graceful=False)
                return

    watcher = threading.Thread(target=lose)
    watcher.start()
    try:
        settings = {"workers": 2, "min_workers": 1, "save_every_steps": 2, "epochs": 6}
        train(model, EPISODES, output, config(**settings))
    finally:
        over.set()
        watcher.join()
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
