"""What the workers of a stage have written so far: at-least-once work, not yet a dataset.

Each file holds rows of one block, those that ended since the last one was written. It appears under
its name when all of it is on disk, so that there is no half of one whatever is killed. A row whose
column ``disturbed`` is set is of an episode that a failure ended; it runs again when the stage is
resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from step_ray import files, store
from step_ray.manifest import MANIFEST, disk_errors
from step_ray.quarantine import move_aside
from step_ray.trajectory import content_hash

RAW = "raw"
DISTURBED = pa.field("disturbed", pa.bool_())


def prepare(folder: Path, note: Callable[[str], None]) -> None:
    """Makes the folder of raw files, or clears it of what a crash left unfinished, and moves files
    that cannot be read in full to ``quarantine/``, telling ``note`` of each: their episodes run
    again. So do disturbed ones, whose rows are dropped, unless the dataset was published with them.
    """
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
    if not (folder / MANIFEST).exists() and (lost := _ids(folder, disturbed=True)):
        _drop_disturbed(folder, lost)
        note(f"{folder}: {len(lost)} episodes that a failure ended run again")


def settle(folder: Path) -> None:
    """Of an episode that several attempts have played, no disturbed row stays beside another."""
    if lost := _ids(folder, disturbed=True):
        _drop_disturbed(folder, lost & _ids(folder, disturbed=False))


def _ids(folder: Path, disturbed: bool) -> set[str]:
    found = rows(complete(folder), ["id", "disturbed"])
    return {row["id"] for row in found if bool(row.get("disturbed")) == disturbed}


def _drop_disturbed(folder: Path, ids: Set[str]) -> None:
    for path in complete(folder):
        table = store.read_parquet(path, None)
        if "disturbed" not in table.column_names:
            continue
        unwanted = pc.and_kleene(
            pc.fill_null(table["disturbed"], False),
            pc.is_in(table["id"], value_set=pa.array(sorted(ids), pa.string())),
        )
        kept = table.filter(pc.invert(unwanted))
        if kept.num_rows == table.num_rows:
            continue
        if kept.num_rows:
            _write(folder, path, kept)
        else:
            with disk_errors(folder):
                path.unlink()


def _write(folder: Path, path: Path, table: pa.Table) -> None:
    with disk_errors(folder), files.atomic(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd", write_page_checksum=True)


def complete(folder: Path) -> list[Path]:
    """The raw files that are there."""
    return sorted((folder / RAW).glob("[!.]*.parquet"))


def rows(paths: Sequence[Path], columns: list[str]) -> Iterator[dict[str, Any]]:
    """Some columns of raw files; raises StoreError for a file that cannot be read."""
    for path in paths:
        yield from store.read_parquet(path, columns).to_pylist()


class Block:
    """One block's way to disk: rows are written as they come, but only every second, and when it is
    closed, so that little is lost with a killed worker. ``done`` are the ids that an earlier
    attempt has left.

    ``written`` is called with the rows that a file has taken; ``seconds`` went into writing.
    """

    def __init__(
        self,
        folder: Path,
        ids: Sequence[str],
        schema: pa.Schema,
        written: Callable[[Sequence[dict[str, Any]]], None],
        every: float = 1.0,
    ) -> None:
        self._folder, self._schema, self._written, self._every = folder, schema, written, every
        self.seconds = 0.0
        self._name = content_hash(list(ids))
        mine = sorted((folder / RAW).glob(f"{self._name}-*.parquet"))
        self.done = {row["id"] for row in rows(mine, ["id"])}
        self._rows: list[dict[str, Any]] = []
        self._last = time.monotonic()

    def add(self, row: dict[str, Any]) -> None:
        """Takes a row; raises StoreError if the disk does not."""
        self._rows.append(row)
        if time.monotonic() - self._last >= self._every:
            self.close()

    def close(self) -> None:
        """Writes what is left; raises StoreError if the disk does not take it."""
        if not self._rows:
            return
        began = time.perf_counter()
        # By its ids, so that no other attempt at this block can replace rows by fewer.
        name = f"{self._name}-{content_hash([row['id'] for row in self._rows])}.parquet"
        path = self._folder / RAW / name
        table = pa.Table.from_pylist(self._rows, schema=self._schema)
        _write(self._folder, path, table)
        self.seconds += time.perf_counter() - began
        self._written(self._rows)
        self._rows, self._last = [], time.monotonic()
