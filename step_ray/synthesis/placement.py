"""Room for a pool of workers on the cluster: found, waited for, or missed in seconds, not for ever.

Workers wait for models most of the time, so their CPU requests are fractions that always fit, where
there are several machines even when the largest of them is lost: Ray waits for ever for the room
that the actors of a lost machine had.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

MOST, LEAST = 0.9, 0.01  # CPUs that one worker asks for
_LITTLE = 0.1  # CPUs for each, where nothing is known of the machines to come
NO_LABELS: Mapping[str, str] = MappingProxyType({})
_SAY_EVERY = 5.0  # seconds


class PipelineError(RuntimeError):
    """The episodes of a stage could not all be made; says which and what to do."""


def fraction(workers: int, nodes: Sequence[float], free: float) -> float | None:
    """CPUs that each of ``workers`` may ask for, so that all fit the ``nodes`` (CPUs of each) and,
    together, the ``free`` CPUs; None if no CPU is left."""
    each = min(MOST, math.floor(100 * free / workers) / 100)
    while each >= LEAST:
        if sum(math.floor(cpus / each + 1e-9) for cpus in nodes) >= workers:
            return each
        each = math.floor(95 * each) / 100
    return None


def spared(workers: int, nodes: Sequence[float], free: float) -> float | None:
    """The same, and such that all still fit once the largest node is lost, unless that leaves each
    less than half: nodes of very unequal sizes would then get workers in equal numbers."""
    whole = fraction(workers, nodes, free)
    *rest, lost = sorted(nodes) or [0.0]
    less = fraction(workers, rest, free - lost)
    return less if whole is not None and less is not None and less >= whole / 2 - LEAST else whole


def cpus_for(
    workers: int,
    wait: float,
    say: Callable[[str], None],
    labels: Mapping[str, str] = NO_LABELS,
) -> float:
    """CPUs that each worker may ask for, once the nodes with these labels have room for all.

    Waits for at most ``wait`` seconds, for others to end or for an autoscaler; ``say`` is told why.
    Raises PipelineError then.
    """
    until, said, most = time.monotonic() + wait, -math.inf, MOST
    if not _nodes(labels) and _grown(workers, labels, time.monotonic() + wait / 2, say):
        return MOST
    while True:
        nodes = _nodes(labels)
        there = sum(nodes)
        free = min(there, ray.available_resources().get("CPU", 0.0))
        each = spared(workers, nodes, free)
        if each is None and not nodes:
            each = _LITTLE  # an autoscaler brings machines only for what is asked
        if each is not None:
            each = max(min(each, most), LEAST)
            left = until - time.monotonic()
            if _reserved(workers, each, labels, min(max(left, 1.0), _SAY_EVERY)):
                return each
            lacking = f"{each:g} CPUs each are not free"
            if not nodes:
                lacking = _no_machine(labels)
            else:  # what is free may be in pieces, or on nodes without the labels
                most = each / 2
        elif fraction(workers, nodes, there) is None:
            lacking = f"its machines have {', '.join(f'{cpus:g}' for cpus in nodes)} CPUs"
        else:
            lacking = "others use all of its CPUs"
        if time.monotonic() >= until:
            raise PipelineError(
                f"{workers} workers found no room on the cluster in {wait:g} s: {lacking}; lower "
                "synthesis.workers (or evaluation.workers), stop what else runs there, or raise "
                "ray.wait_seconds"
            )
        if time.monotonic() - said >= _SAY_EVERY:
            said = time.monotonic()
            say(f"waiting for room on the cluster for {workers} workers: {lacking}")
        time.sleep(0.2)


def _grown(
    workers: int,
    labels: Mapping[str, str],
    until: float,
    say: Callable[[str], None],
) -> bool:
    """Whether a cluster that begins with no such machine has grown to full room for all workers.

    The request stands all the time: withdrawn when the first machine comes, it would leave the
    others unasked for, and all workers on that one.
    """
    with _requested(workers, MOST, labels) as group:
        while (left := until - time.monotonic()) > 0:
            if group.wait(min(left, _SAY_EVERY)):
                return True
            say(f"waiting for machines for {workers} workers: {_no_machine(labels)} yet")
        return False


def _no_machine(labels: Mapping[str, str]) -> str:
    named = ", ".join(f"{name}={value}" for name, value in labels.items())
    return f"no machine has the labels {named}" if labels else "no machine has CPUs"


def _reserved(workers: int, cpus: float, labels: Mapping[str, str], seconds: float) -> bool:
    """Whether Ray can place them all now. An autoscaler sees the request."""
    with _requested(workers, cpus, labels) as group:
        return bool(group.wait(seconds))


@contextlib.contextmanager
def _requested(workers: int, cpus: float, labels: Mapping[str, str]) -> Iterator[PlacementGroup]:
    where = [dict(labels)] * workers if labels else None
    group = placement_group([{"CPU": cpus}] * workers, strategy="PACK", bundle_label_selector=where)
    try:
        yield group
    finally:
        remove_placement_group(group)


def _nodes(labels: Mapping[str, str]) -> list[float]:
    """CPUs of each machine that has the labels, and CPUs: a head of a cluster often offers none."""
    found = [
        node["Resources"].get("CPU", 0.0)
        for node in ray.nodes()
        if node["Alive"] and labels.items() <= node.get("Labels", {}).items()
    ]
    return [cpus for cpus in found if cpus]
