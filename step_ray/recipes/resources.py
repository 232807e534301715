"""What a run asks of its cluster at once, in each phase, and what of it will not fit.

Ray waits for ever for what it cannot place. So it is worked out before: which processes each phase
starts, how many CPUs and GPUs each holds, and how much memory its weights take at least.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from step_ray.config import RunConfig
from step_ray.config_teacher import ExpertTeacherConfig, SelfTeacherConfig
from step_ray.machine import gpus, memory_gib, usable_cpus
from step_ray.recipes.world import original_model

_GIB = 2**30
_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2}
_TRAINED = 4  # numbers a trained parameter: weight, gradient and AdamW's two moments
_WORKER_CPUS = 0.9  # synthesis.placement.MOST
_DIGITS = 4  # Ray counts CPUs and GPUs in 1/10,000


@dataclass(frozen=True, slots=True)
class Need:
    """``count`` processes of a phase, side by side; CPUs, GPUs and GiB of memory (at least, for
    weights; of the GPU where it has one) of each, and the ``labels`` of the nodes they keep to."""

    phase: str
    what: str
    count: int
    cpus: float
    gpus: float = 0.0
    gib: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Node:
    """What a machine offers to Ray; ``gib`` is its memory, None if unknown."""

    name: str
    cpus: float
    gpus: float
    gib: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def has(self, labels: Mapping[str, str]) -> bool:
        return labels.items() <= self.labels.items()


def needs(config: RunConfig) -> Iterator[Need]:
    """Everything that runs at the same time in each phase, the largest things first."""
    student, training = config.student, config.training
    size = parameters(original_model(config))
    half = training.lora is not None or training.precision == "bf16_weights"
    whole = (2 if half else 4) * size  # each process loads all weights, before they are shared out
    trained = whole if training.lora else _TRAINED * whole
    each = max(whole, trained / (training.workers if training.parallel == "fsdp" else 1))
    yield Need(
        "training",
        "training process",
        training.workers,
        training.threads_per_worker,
        float(training.use_gpu),
        each / _GIB,
    )
    weights = _BYTES[student.dtype] * size / _GIB
    for phase in ("synthesis", "evaluation"):
        if phase == "synthesis":
            yield from _teacher(config)
        several = phase == "evaluation" and not student.share_engine
        if student.backend == "vllm":
            models = _students(config) + config.evaluation.original if several else 1
            engines, gpus_each = student.replicas * models, student.gpus_per_replica
            where = student.nodes
            yield Need(phase, "student's engine", engines, 1, gpus_each, weights, where)
        workers = getattr(config, phase).workers
        inside = weights if student.backend == "local" else 0.0
        where = config.ray.env_nodes
        yield Need(phase, "worker of episodes", workers, _WORKER_CPUS, 0, inside, where)
        yield Need(phase, "reader or writer of data", 1, 1)


def _students(config: RunConfig) -> int:
    """How many trained models a recipe evaluates."""
    if config.recipe == "step":
        return 3 if config.step is None else 2 + config.step.golden_same + config.step.rounds
    return 1 + config.eto.iterations if config.eto else 2


def _teacher(config: RunConfig) -> Iterator[Need]:
    teacher, student = config.teacher, config.student
    if isinstance(teacher, ExpertTeacherConfig):
        return
    yield Need("synthesis", "teacher", teacher.replicas, 0.1)
    if isinstance(teacher, SelfTeacherConfig):
        size = parameters(original_model(config))
        gib = _BYTES[student.dtype] * size / _GIB
        shared = teacher.weights == "acting" or student.share_engine
        if student.backend == "local" or not shared:
            gpus = student.gpus_per_replica
            yield Need("synthesis", "teacher's engine", student.replicas, 1, gpus, gib)
        return
    model = teacher.model
    if model.backend != "remote":
        size = parameters(Path(model.model))
        dtype = str(getattr(model, "dtype", "bfloat16"))
        own = getattr(model, "gpus_per_replica", 0.0)
        gib = _BYTES.get(dtype, 2) * size / _GIB
        yield Need("synthesis", "teacher's engine", model.replicas, 1, own, gib, model.nodes)


def parameters(folder: Path | None) -> int:
    """Number of parameters by the headers of the weight files; 0 if there are none yet."""
    if folder is None:
        return 0
    return sum(map(_elements, sorted(folder.expanduser().glob("*.safetensors"))))


def _elements(path: Path) -> int:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def here(config: RunConfig) -> list[Node]:
    """This machine as the Ray that a run starts on it."""
    cpus = config.ray.num_cpus or usable_cpus()
    return [Node("this machine", cpus, len(gpus()), memory_gib())]


def misfits(wanted: Sequence[Need], nodes: Sequence[Node]) -> Iterator[str]:
    """What finds no place, and why: each phase on empty nodes, those with GPUs first, then those
    that are bound to some nodes, each the largest first."""
    for phase in dict.fromkeys(need.phase for need in wanted):
        free = {node.name: [node.cpus, node.gpus, node.gib] for node in nodes}
        parts = [need for need in wanted if need.phase == phase]
        for need in sorted(parts, key=lambda need: (-need.gpus, not need.labels, -need.cpus)):
            its = {node.name: free[node.name] for node in nodes if node.has(need.labels)}
            placed = sum(_place(need, its) for _ in range(need.count))
            if placed < need.count:
                yield (
                    f"{phase}: {need.count - placed} of {need.count} x {need.what} "
                    f"({_size(need)}) do not fit: "
                    f"{_why(need, [node for node in nodes if node.has(need.labels)])}"
                )


def _place(need: Need, free: dict[str, list[float | None]]) -> bool:
    for node in free.values():
        cpus, there, gib = node
        assert cpus is not None
        assert there is not None
        inside = 0.0 if need.gpus else need.gib
        if cpus >= need.cpus and there >= need.gpus and (gib is None or gib >= inside):
            left = round(cpus - need.cpus, _DIGITS), round(there - need.gpus, _DIGITS)
            node[:] = [*left, None if gib is None else gib - inside]
            return True
    return False


def _why(need: Need, nodes: Sequence[Node]) -> str:
    """The first of its demands that no node meets even when it is empty."""
    if not nodes:
        return f"there is no node{_where(need)}"
    most_cpus, most_gpus = max(node.cpus for node in nodes), max(node.gpus for node in nodes)
    if need.gpus > most_gpus:
        return f"the node with most GPUs has {most_gpus:g}"
    if need.cpus > most_cpus:
        return f"the node with most CPUs has {most_cpus:g}"
    known = [node.gib for node in nodes if node.gib is not None]
    if not need.gpus and known and need.gib > max(known):
        return f"the node with most memory has {max(known):.1f} GiB"
    return (
        f"all nodes{_where(need)} together have {sum(node.cpus for node in nodes):g} CPUs and "
        f"{sum(node.gpus for node in nodes):g} GPUs, which others hold too"
    )


def as_text(wanted: Sequence[Need], nodes: Sequence[Node] | None) -> str:
    """The needs of each phase; with ``nodes``, what does not fit them."""
    lines = []
    for phase in dict.fromkeys(need.phase for need in wanted):
        parts = [need for need in wanted if need.phase == phase]
        cpus = sum(need.count * need.cpus for need in parts)
        cards = sum(need.count * need.gpus for need in parts)
        each = ", ".join(f"{need.count} x {need.what} ({_size(need)})" for need in parts)
        lines.append(f"{phase:12} {cpus:g} CPUs, {cards:g} GPUs at once: {each}")
    if nodes is None:
        lines.append("fits?        step-ray doctor CONFIG --cluster asks the running cluster")
        return "\n".join(lines)
    wrong = list(misfits(wanted, nodes))
    offer = ", ".join(
        f"{node.name}: {node.cpus:g} CPUs, {node.gpus:g} GPUs"
        + (f", {node.gib:.1f} GiB" if node.gib is not None else "")
        for node in nodes
    )
    lines += [f"DOES NOT FIT {what}" for what in wrong] or [f"fits         {offer}"]
    return "\n".join(lines)


def _where(need: Need) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in need.labels.items())
    return f" with the labels {labels}" if labels else ""


def _size(need: Need) -> str:
    said = [f"{need.cpus:g} CPU"]
    if need.gpus:
        said.append(f"{need.gpus:g} GPU")
    if need.gib:
        memory = f"{need.gib:.1f} GiB" if need.gib >= 1 else f"{1024 * need.gib:.0f} MiB"
        said.append(f"{memory} or more of memory")
    if need.labels:
        said.append(f"on nodes{_where(need)}")
    return ", ".join(said)
