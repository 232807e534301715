"""What the workers of a stage have written so far: at-least-once work, not yet a dataset.

Each file holds the rows of one block. It appears under its name when all of it is on disk, so that
there is no half of one whatever is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from step_ray import files, store
from step_ray.manifest import disk_errors
from step_ray.quarantine import move_aside
from step_ray.trajectory import content_hash

RAW = "raw"


def prepare(folder: Path, note: Callable[[str], None]) -> None:
    """Makes the folder of raw files, or clears it of what a crash left unfinished, and moves files
    that cannot be read in full to ``quarantine/``, telling ``note`` of each: their episodes run
    again."""
    with disk_errors(folder):
        (folder / RAW).mkdir(parents=True, exist_ok=True)
        for unfinished in (folder / RAW).glob(f"{files.TEMPORARY}*"):
            unfinished.unlink(missing_ok=True)
    for path in complete(folder):
        try:
            store.read_parquet(path, None)
        except store.StoreError as error:
            move_aside(folder, f"{RAW}/{path.name}", str(error))
            note(f"{path}: quarantined, its episodes run again: {error}")


def complete(folder: Path) -> list[Path]:
    """The raw files that are there."""
    return sorted((folder / RAW).glob("[!.]*.parquet"))


def rows(paths: Sequence[Path], columns: list[str]) -> Iterator[dict[str, Any]]:
    """Some columns of raw files; raises StoreError for a file that cannot be read."""
    for path in paths:
        yield from store.read_parquet(path, columns).to_pylist()


def write(table: pa.Table, folder: Path) -> Path:
    """A file whose name follows from its ids: a block that is run again replaces its own."""
    path = folder / RAW / f"{content_hash(table.column('id').to_pylist())}.parquet"
    with disk_errors(folder), files.atomic(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd", write_page_checksum=True)
    return path
