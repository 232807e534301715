"""Which trajectories a training is of, from which turn on and with which weights, as a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from step_ray import files
from step_ray.lineage import read_json
from step_ray.synthesis.calibrate import Chosen

CHOSEN = "chosen.json"


def write_chosen(path: Path, chosen: Sequence[Chosen]) -> None:
    """Writes what is trained with which weights."""
    rows = [
        {"id": one.id, "kind": one.kind, "start": one.start, "weight": one.weight} for one in chosen
    ]
    files.write_json_atomic(path, {"chosen": rows})


def read_chosen(path: Path) -> list[Chosen]:
    """What :func:`write_chosen` wrote. Raises RunError for anything else."""
    return [Chosen(**row) for row in read_json(path)["chosen"]]
