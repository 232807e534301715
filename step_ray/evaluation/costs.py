"""What a student cost: its training data, and the hours of every stage that it was made of.

A stage that several runs share is counted in full for each student that needs it: its cost is what
the student would have cost alone. :func:`spent` says what all of them cost together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from step_ray.config_transfer import EVALUATION
from step_ray.lineage import CONFIG, read_json, stage_records
from step_ray.models.fingerprint import model_fingerprint

Record = Mapping[str, Any]
CALIBRATED = "calibrated"
"""STeCa's stage in which a teacher and the expert go on: no student is asked anything."""


@dataclass(frozen=True, slots=True)
class Cost:
    """``tokens``: of the student's own training data, once. ``trained``: over all passes of all
    trainings that led to it. ``hours`` of wall time; CPU and GPU hours are those times what each
    stage had reserved of them."""

    tokens: float = 0.0
    trained: float = 0.0
    hours: float = 0.0
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0


def costs(run: Path) -> dict[str, Cost]:
    """The cost of every trained student of a run.

    Raises RunError or ModelError if records or models of the run cannot be read.
    """
    records = {record["name"]: record for record in stage_records(run)}
    config = read_json(run / CONFIG)
    makers = _makers(run, records)
    found = {}
    for student in records:
        if not _trained(records[student]):
            continue
        needed = [records[name] for name in ancestry(student, records, makers)]
        tokens = {record["name"]: record["outputs"]["tokens"]["value"] for record in needed
                  if _trained(record)}  # fmt: skip
        hours = [(record["seconds"] / 3600, *reserved(record, config)) for record in needed]
        found[student] = Cost(
            tokens=tokens[student],
            trained=sum(
                tokens[record["name"]] * record["identity"]["config"]["epochs"]
                for record in needed
                if record["name"] in tokens
            ),
            hours=sum(wall for wall, _, _ in hours),
            cpu_hours=sum(wall * cpus for wall, cpus, _ in hours),
            gpu_hours=sum(wall * gpus for wall, _, gpus in hours),
        )
    return found


def ancestry(stage: str, records: Mapping[str, Record], makers: Mapping[str, str]) -> Iterator[str]:
    """A stage and all that it was made of: stages among its inputs, and those that made the models
    which its inputs name by their fingerprints (``makers``: fingerprint -> stage)."""
    seen: set[str] = set()
    waiting = [stage]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in records:
            continue
        seen.add(name)
        yield name
        for value in records[name]["identity"]["inputs"].values():
            if isinstance(value, dict) and "stage" in value:
                waiting.append(value["stage"])
            elif isinstance(value, str) and value in makers:
                waiting.append(makers[value])


def reserved(record: Record, config: Mapping[str, Any]) -> tuple[float, float]:
    """CPUs and GPUs that a stage held, by the run's config: those of training processes, or those
    of workers and engines; one CPU where only the driver works."""
    outputs = record["outputs"]
    if _trained(record):
        training = config["training"]
        processes = training["workers"]
        return processes * training["threads_per_worker"], processes * training["use_gpu"]
    if "environments" not in outputs:
        return 1.0, 0.0
    section = EVALUATION if record["name"].startswith(EVALUATION) else "synthesis"
    cpus, gpus = float(config[section]["workers"]), 0.0
    for engine in _engines(record, config):
        replicas, own = engine.get("replicas", 0), engine.get("gpus_per_replica", 0.0)
        cpus, gpus = cpus + replicas, gpus + replicas * own
    return cpus, gpus


def _engines(record: Record, config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The settings of what answers in a stage beside its workers: the student's engines on vLLM,
    and its teacher's. A teacher that is the student itself shares the student's where it can."""
    student, teacher = config["student"], config["teacher"]
    served = student.get("backend") == "vllm" and record["name"] != CALIBRATED
    engines = [student] if served else []
    if "teacher" not in record["outputs"]:
        return engines
    if teacher.get("type") != "self":
        return [*engines, teacher.get("model") or {}]
    shared = teacher.get("weights") == "acting" or student.get("share_engine", False)
    return engines if served and shared else [*engines, student]


def spent(runs: Iterable[Path]) -> float:
    """Hours of wall time of all stages of the runs, tests included, shared ones once."""
    once = {
        (record["name"], record["fingerprint"]): record["seconds"] / 3600
        for run in runs
        for record in stage_records(run)
    }
    return math.fsum(once.values())


def _trained(record: Record) -> bool:
    return "model" in record["outputs"] and "tokens" in record["outputs"]


def _makers(run: Path, records: Mapping[str, Record]) -> dict[str, str]:
    """Fingerprint of a model -> the stage that made it. Those of students that were evaluated are
    known; only the others are read."""
    tested = records.get(EVALUATION, {}).get("identity", {}).get("inputs", {}).get("students", {})
    makers: dict[str, str] = {}
    for name, record in records.items():
        if "path" in record["outputs"].get("model", {}):
            known = tested.get(name) or model_fingerprint(run / record["outputs"]["model"]["path"])
            makers.setdefault(known, name)
    return makers
