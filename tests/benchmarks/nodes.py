"""``make bench-nodes``: what more workers on several nodes bring.

Prints one JSON object as its last line and writes it to ``docs/benchmarks/nodes.json``. The cluster
is a head that takes no work and two nodes for monitored episodes, all on this machine: however many
nodes it plays, its own cores are all there is. One, two and four workers play episodes of ALFWorld
with a scripted student and the expert teacher, in two settings:

- ``cpu_bound``: both answer at once. Workers wait for nothing but cores, so that no number of them
  is faster than those of this machine.
- ``waiting_bound``: the student thinks for a quarter of a second about each turn, as a language
  model does, and workers wait for it most of the time, as they do beside GPUs.

Rates are those of the middle half of a run, when all workers have come and none has run dry; what
the run took beyond its episodes at that rate stands apart as ``startup_seconds``
(``cluster_seconds``, the start of Ray and its nodes, comes on top). ``efficiency`` is the rate over
that of as many workers, each as fast as one alone. ``nodes``: how many the workers were on. Below
five minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from heading import committed, heading, publish
from measure import growth, rounded
from ray._private.state import actors
from ray.cluster_utils import Cluster
from synthesis_sides import Recording, pipeline, record, specs

from step_ray.machine import usable_cpus
from step_ray.synthesis.pipeline import Pool

_GAMES = {"train": 64, "valid_seen": 0, "valid_unseen": 0}
_WORKERS = (1, 2, 4)
_NODES, _CPUS = 2, 2  # for episodes, and the CPUs that Ray counts on each
_ENVS = 8  # episodes that a worker plays at a time
_BLOCK = 8  # episodes; three blocks are in flight in a worker
_LABELS = {"step-ray/kind": "cpu"}


@dataclass(frozen=True)
class Setting:
    """``thinks``: seconds of the student for each turn; ``episodes`` for each worker."""

    thinks: float
    episodes: int


_SETTINGS = {"cpu_bound": Setting(0.0, 1_800), "waiting_bound": Setting(0.25, 144)}
_SMALL = {"cpu_bound": Setting(0.0, 600), "waiting_bound": Setting(0.25, 32)}


def measured(
    workers: int, episodes: int, seconds: float, steps: float, looks: Sequence[tuple[int, float]]
) -> dict[str, Any]:
    """The rate of a run of ``episodes``, of so many ``steps`` each, by ``looks`` at the number that
    was done and the moment."""
    middle = [look for look in looks if 1 <= 4 * look[0] / episodes <= 3]
    each = growth(middle)
    if not each:
        raise SystemExit("too few looks at the run: give it more episodes")
    return {
        "workers": workers,
        "episodes_per_second": rounded(1 / each),
        "steps_per_second": rounded(steps / each),
        "startup_seconds": rounded(seconds - episodes * each),
        "episodes": episodes,
        "seconds": rounded(seconds),
    }


def compared(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same points with their ``efficiency``; the first one has one worker."""
    alone = points[0]["episodes_per_second"]
    return [
        {**point, "efficiency": rounded(point["episodes_per_second"] / point["workers"] / alone)}
        for point in points
    ]


def main() -> None:
    arguments = _arguments()
    result: dict[str, Any] = {
        **heading("nodes"),
        "cores": usable_cpus(),
        "nodes_for_episodes": _NODES,
        "envs_per_worker": _ENVS,
    }
    recording = record("alfworld", {"games": _GAMES}, 64)
    result["steps_per_episode"] = rounded(recording.steps_per_episode)
    with tempfile.TemporaryDirectory(prefix="srb-") as scratch:  # sockets: a path has a limit
        saved = recording.save(Path(scratch) / "recording.json")
        begun = time.perf_counter()
        with _cluster(Path(scratch) / "ray"):
            result["cluster_seconds"] = rounded(time.perf_counter() - begun)
            _run(recording, saved, _WORKERS[-1], 64, 0.0)  # what only the first run pays
            for name, setting in (_SMALL if arguments.small else _SETTINGS).items():
                points = []
                for workers in _WORKERS:
                    print(f"measuring {name}, {workers} workers ...", file=sys.stderr, flush=True)
                    episodes = workers * setting.episodes
                    points.append(_play(recording, saved, workers, episodes, setting.thinks))
                result[name] = {"thinks_seconds": setting.thinks, "points": compared(points)}
    publish(result, None if arguments.small else committed("nodes"))


@contextlib.contextmanager
def _cluster(temporary: Path) -> Iterator[None]:
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": str(temporary)}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.WARNING)
        for _ in range(_NODES):
            cluster.add_node(num_cpus=_CPUS, labels=_LABELS, object_store_memory=100_000_000)
        cluster.wait_for_nodes()
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def _play(
    recording: Recording, saved: Path, workers: int, episodes: int, thinks: float
) -> dict[str, Any]:
    seconds, looks, nodes = _run(recording, saved, workers, episodes, thinks)
    return {
        "nodes": nodes,
        **measured(workers, episodes, seconds, recording.steps_per_episode, looks),
    }


def _run(
    recording: Recording, saved: Path, workers: int, episodes: int, thinks: float
) -> tuple[float, list[tuple[int, float]], int]:
    """Seconds from the plan to the dataset, looks at the episodes done, and the number of nodes
    that had workers."""
    looks: list[tuple[int, float]] = []
    nodes: set[str] = set()

    def look(done: int) -> None:
        if not looks or done > looks[-1][0]:
            looks.append((done, time.perf_counter()))
        if len(nodes) < min(workers, _NODES):
            nodes.update(_of_workers())

    planned = specs(recording, episodes, monitored=True)
    pool = Pool(workers, block_size=_BLOCK, labels=_LABELS)
    seconds = pipeline(recording, saved, planned, pool, thinks=thinks, envs=_ENVS, watch=look)
    return seconds, looks, len(nodes)


def _of_workers() -> set[str]:
    """The nodes that workers are on now."""
    return {
        actor["Address"]["NodeID"]
        for actor in actors().values()
        if actor["State"] == "ALIVE" and "MapWorker" in actor["ActorClassName"]
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="only see that it works")
    return parser.parse_args()


if __name__ == "__main__":
    main()
