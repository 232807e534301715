"""Where an actor is placed that only the driver has a use for."""

from __future__ import annotations

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


def beside_driver() -> NodeAffinitySchedulingStrategy:
    """On the driver's own machine: an actor without CPUs is placed anywhere else, and a stage
    would end with a machine that it does not need."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
