"""Which trajectories the students of a run were trained on: by the samples that training left."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from step_ray.exchange.records import ExchangeError
from step_ray.lineage import SAMPLES, read_run


def trained_by(run: Path) -> dict[str, frozenset[str]]:
    """Student (training stage) -> ids of the trajectories that it was trained on, for those that
    were trained on whole trajectories: not on pairs, nor from a turn on.

    Raises RunError for a folder that is no run.
    """
    found = {}
    for name, record in read_run(run).get("stages", {}).items():
        path = run / name / SAMPLES
        if record["status"] != "done" or not path.exists():
            continue
        if not {"pairs", "chosen"} & record["identity"]["inputs"].keys():
            ids = pq.read_table(path, columns=["id"]).column("id").to_pylist()
            found[name] = frozenset(map(str, ids))
    return found


def ids_of(run: Path, student: str) -> frozenset[str]:
    """What one student was trained on. Raises ExchangeError for one that is not among
    :func:`trained_by`."""
    known = trained_by(run)
    if student not in known:
        raise ExchangeError(
            f"{run}: {student} is no student that was trained on whole trajectories; those are: "
            f"{', '.join(known) or 'none yet'} (pairs: the format trl-dpo)"
        )
    return known[student]
