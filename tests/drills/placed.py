"""Labelled nodes: a teacher's model goes to the GPU, workers keep off it, and pools without room
are refused.

python -m tests.drills.placed FOLDER

The head takes no work; ``cpu-1`` and ``cpu-2`` are labelled for environments, ``gpu`` has the only
GPU (by Ray's count alone). All are there before anything is placed. The last line is JSON: on which
nodes the replicas of models and the workers were, and for each pool that is refused the seconds
until then and what it was told.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray._private.state import actors
from ray.cluster_utils import Cluster
from synthesis_sides import Recording, pipeline, specs

from step_ray.models.base import Reply, Sampling
from step_ray.models.served import deploy
from step_ray.synthesis.pipeline import Pool
from step_ray.synthesis.placement import PipelineError
from tests.drills.nodes import KIND, NAME, add

CPU, GPU = {KIND: "cpu"}, {KIND: "gpu"}
PLAYED = Pool(4, block_size=4, labels=CPU, wait=2.0)
REFUSED = {
    "labels that no machine has": replace(PLAYED, labels={KIND: "tpu"}),
    "GPUs on machines without": replace(PLAYED, gpus=1.0),
    "more GPUs than there are": replace(PLAYED, gpus=1.0, labels={}),
    "the GPU of a model": replace(PLAYED, workers=1, gpus=1.0, labels=GPU),
}


class Word:
    """A model that knows one."""

    fingerprint = "word"

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        return Reply("yes", "stop", 1, 1)


def main(folder: Path, temporary: str) -> dict[str, Any]:
    saved = folder / "recording.json"
    recording = Recording.load(saved)
    head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": temporary}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=cluster.address, log_to_driver=False)
    add(cluster, "cpu-1", num_cpus=2)
    add(cluster, "gpu", num_cpus=2, num_gpus=1)
    add(cluster, "cpu-2", num_cpus=2)
    cluster.wait_for_nodes()

    # Without CPUs, as a teacher's model is deployed: only the labels, or only the GPUs, keep it.
    deploy("labelled", Word, replicas=2, cpus=0, nodes=GPU)
    deploy("by-gpu", Word, replicas=2, cpus=0, gpus=0.5)
    workers: set[str] = set()
    planned = specs(recording, 64, monitored=True)
    pipeline(recording, saved, planned, PLAYED, watch=lambda done: workers.update(on("MapWorker")))
    refused = {}
    for why, pool in REFUSED.items():
        began = time.monotonic()
        try:
            pipeline(recording, saved, planned, pool)
        except PipelineError as error:
            refused[why] = [time.monotonic() - began, str(error)]
    said = {
        "labelled": on(":labelled:"),
        "by-gpu": on(":by-gpu:"),
        "workers": sorted(workers),
        "refused": refused,
    }
    ray.shutdown()
    cluster.shutdown()
    return said


def on(actor: str) -> list[str]:
    """The nodes of the living actors that have this in their class's name, one for each."""
    names = {node["NodeID"]: node["Labels"].get(NAME, "head") for node in ray.nodes()}
    return [
        names[each["Address"]["NodeID"]]
        for each in actors().values()
        if each["State"] == "ALIVE" and actor in each["ActorClassName"]
    ]


if __name__ == "__main__":
    # Sockets live below it, and their paths have a length limit.
    with tempfile.TemporaryDirectory(prefix="ray-placed-", ignore_cleanup_errors=True) as scratch:
        print(json.dumps(main(Path(sys.argv[1]), scratch)), flush=True)
