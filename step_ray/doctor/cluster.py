"""The same questions on every node of the running cluster, and what only a comparison shows."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from step_ray._version import __version__
from step_ray.config import RayConfig, RunConfig
from step_ray.doctor.checkup import Said, machine_checks
from step_ray.doctor.finding import Finding, broken, note, ok
from step_ray.doctor.versions import installed
from step_ray.files import TEMPORARY
from step_ray.recipes.resources import Node, misfits, needs

DEADLINE = 900.0  # seconds for all nodes together; they work side by side
_COMPARED = (
    "ray",
    "pyarrow",
    "transformers",
    "step-ray",
)  # torch may be built for CPU here and GPU there


def every_node(config: RunConfig | None, deadline: float = DEADLINE) -> Said:
    """Findings of each living node of the running cluster, and of all of them together.

    One task a node, bound to it, of no CPU: a busy cluster answers too. Raises ConnectionError if
    no cluster is running.
    """
    from step_ray.recipes.cluster import cluster

    with cluster(RayConfig(address="auto")):
        alive = [node for node in ray.nodes() if node["Alive"]]
        probe = _probe(config)
        asked = {_ask(node, config, probe): _name(node) for node in alive}
        done, late = ray.wait(list(asked), num_returns=len(asked), timeout=deadline)
        found: Said = {}
        versions: dict[str, dict[str, str]] = {}
        for answer in done:
            name = asked[answer]
            try:
                said = ray.get(answer)
            except ray.exceptions.RayError as error:
                found[name] = [_failed(error)]
            else:
                found[name], versions[name] = said
        for answer in late:
            ray.cancel(answer, force=True)
            remedy = "look at the node's logs; `ray list nodes` says whether it still lives"
            found[asked[answer]] = [broken("node", f"no answer within {deadline:.0f} s", remedy)]
        if probe:
            probe.unlink(missing_ok=True)
        found["cluster"] = list(differences(versions))
        if config is not None:
            found["cluster"] += fits(config, [_offer(node) for node in alive])
    return found


def differences(versions: dict[str, dict[str, str]]) -> Iterator[Finding]:
    """Packages whose version is not the same on all nodes (node -> package -> version)."""
    unequal = False
    for package in _COMPARED:
        by_version: dict[str, list[str]] = {}
        for node, have in versions.items():
            by_version.setdefault(have.get(package, "absent"), []).append(node)
        if len(by_version) > 1:
            unequal = True
            each = "; ".join(f"{version} on {', '.join(on)}" for version, on in by_version.items())
            yield broken("versions", f"{package}: {each}", "use the same image on every node")
    if not unequal:
        yield ok("versions", f"the same on {len(versions)} nodes")


def fits(config: RunConfig, nodes: Sequence[Node]) -> Iterator[Finding]:
    """Whether each phase of a run finds its place on the nodes that are there."""
    wrong = list(misfits(list(needs(config)), nodes))
    for what in wrong:
        remedy = "lower it in the config, or add nodes; an autoscaler may bring them"
        yield note("resources", what, remedy)
    if not wrong:
        yield ok("resources", f"every phase fits the {len(nodes)} nodes")


def _offer(node: dict[str, Any]) -> Node:
    there = node["Resources"]
    memory = there.get("memory")
    gib = None if memory is None else memory / 2**30
    labels = node.get("Labels", {})
    return Node(_name(node), there.get("CPU", 0.0), there.get("GPU", 0.0), gib, labels)


def _ask(node: dict[str, Any], config: RunConfig | None, probe: Path | None) -> Any:
    bound = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task = ray.remote(_look).options(num_cpus=0, scheduling_strategy=bound, max_retries=0)
    return task.remote(config, _offer(node), probe)


def _look(
    config: RunConfig | None, offer: Node, probe: Path | None
) -> tuple[list[Finding], dict[str, str]]:  # runs on a node
    found = [finding for check in machine_checks(config, offer) for finding in check()]
    if probe is not None:
        found += shared(probe)
    have = installed()
    versions = {name: have.get(name, "absent") for name in _COMPARED}
    return found, {**versions, "step-ray": __version__}  # the code, not what is installed


def shared(probe: Path) -> Iterator[Finding]:
    """Whether a file that the driver wrote next to the run is seen here."""
    if probe.is_file():
        yield ok("storage", f"{probe.parent} is the driver's folder")
    else:
        yield broken(
            "storage",
            f"{probe.parent} is not the folder that the driver sees under that name",
            "mount the same storage on every node (a volume that many can write), and put "
            "`output` there",
        )


def _probe(config: RunConfig | None) -> Path | None:
    """A file next to the run that every node should see."""
    if config is None:
        return None
    place = config.output.expanduser().absolute()
    while not place.is_dir():
        place = place.parent
    probe = place / f"{TEMPORARY}doctor-{secrets.token_hex(6)}"
    probe.touch()
    return probe


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} {node['NodeID'][:8]}"


def _failed(error: Exception) -> Finding:
    text = str(error).strip().splitlines()[-1][:500]
    remedy = (
        "install step-ray on the node: use one image for all, or submit with --working-dir ."
        if "No module named" in str(error)
        else "look at the node's logs"
    )
    return broken("node", text, remedy)
