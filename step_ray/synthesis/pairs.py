"""Pairs as one Parquet file: both trajectories of each, whole, so that nothing else is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from step_ray import files
from step_ray.publication import read_parquet
from step_ray.schema import COMPRESSION, SCHEMA, TRAJECTORY_COLUMNS, VERSION_KEY, from_row, to_row
from step_ray.training.preferences import Pair
from step_ray.trajectory import Trajectory

PAIRS = "pairs.parquet"

_SIDE = pa.struct([SCHEMA.field(name) for name in TRAJECTORY_COLUMNS])
_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("task", pa.string()),
        pa.field("shared_turns", pa.int32()),
        pa.field("chosen", _SIDE),
        pa.field("rejected", _SIDE),
    ],
    metadata={VERSION_KEY: SCHEMA.metadata[VERSION_KEY]},
)


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Writes the file, all or nothing; the same pairs give the same bytes."""
    rows = [
        {
            "id": pair.id,
            "task": pair.chosen.task,
            "shared_turns": pair.shared_turns,
            "chosen": _side(pair.chosen),
            "rejected": _side(pair.rejected),
        }
        for pair in pairs
    ]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    with files.atomic(path) as temporary:
        pq.write_table(table, temporary, compression=COMPRESSION)


def read_pairs(path: Path) -> Iterator[Pair]:
    """The pairs of a file. Raises StoreError for one that is not readable."""
    for row in read_parquet(path, None).to_pylist():
        yield Pair(from_row(row["chosen"]), from_row(row["rejected"]), row["shared_turns"])


def _side(trajectory: Trajectory) -> dict[str, object]:
    row = to_row(trajectory)
    return {name: row[name] for name in TRAJECTORY_COLUMNS}
