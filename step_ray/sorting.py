"""The rows of many files in one order, each file read once, in bounded memory.

An id is a hash, so neighbours in the order come from everywhere. To fetch them from their files one
shard after the other would open nearly every file for every shard. Instead the rows go into parts
of the order first, on disk, as they come, and each part is sorted when its turn is there.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from step_ray import files, schema
from step_ray.manifest import StoreError
from step_ray.publication import read_parquet

_BUFFER = 128 * 2**20  # bytes of rows that are held until they go into their parts


def raw_tables(
    paths: Iterable[Path],
    wanted: Collection[str] | None = None,
    rows_at_once: int = 20_000,
    buffer: int = _BUFFER,
) -> Iterator[pa.Table]:
    """Rows of Parquet files, once per id, in order of id; only the ``wanted`` ids if given.

    For the files of at-least-once work, which may hold a row twice: the first file wins. The order
    makes what is published independent of which worker finished when. Columns that are not in the
    schema are left out. Memory is bounded by ``rows_at_once`` and ``buffer`` (bytes); what does not
    fit waits next to the files, under temporary names.
    """
    paths = list(paths)
    chosen, ids = _first_of_each(paths, wanted)
    parts = _Parts(paths[0].parent if paths else Path(), sorted(ids)[rows_at_once::rows_at_once])
    with contextlib.closing(parts):
        held: list[pa.Table] = []
        size = 0
        for path, positions in zip(paths, chosen, strict=True):
            if positions:
                held.append(_rows(path, positions))
                size += held[-1].nbytes
            if size >= buffer:
                parts.add(held)
                held, size = [], 0
        if not parts.files and len(ids) <= rows_at_once:
            if held:
                yield pa.concat_tables(held).sort_by("id")
            return
        parts.add(held)
        yield from parts.in_order()


def _first_of_each(
    paths: Sequence[Path], wanted: Collection[str] | None
) -> tuple[list[list[int]], set[str]]:
    """For each file the positions of its rows that are taken, and all their ids."""
    chosen: list[list[int]] = []
    seen: set[str] = set()
    for path in paths:
        table = read_parquet(path, ["id"])
        if "id" not in table.column_names:
            raise StoreError(f"{path}: no column id, so not a file of trajectories; move it away")
        chosen.append([])
        for position, key in enumerate(table.column("id").to_pylist()):
            if key not in seen and (wanted is None or key in wanted):
                seen.add(key)
                chosen[-1].append(position)
    return chosen, seen


def _rows(path: Path, positions: list[int]) -> pa.Table:
    try:
        return schema.conform(read_parquet(path, schema.SCHEMA.names).take(positions), str(path))
    except schema.SchemaError as error:
        raise StoreError(f"{error}; move the file away and run the same command again") from error


class _Parts:
    """Rows on disk by parts of the order; ``bounds``: the first id of each part but the first."""

    def __init__(self, folder: Path, bounds: Sequence[str]) -> None:
        self._folder, self._bounds = folder, bounds
        self.files: dict[int, Path] = {}

    def add(self, tables: list[pa.Table]) -> None:
        """Puts rows where they belong: a stream of Arrow behind those that are there."""
        if not tables:
            return
        table = pa.concat_tables(tables).sort_by("id")
        part_of = [bisect.bisect_right(self._bounds, key) for key in table.column("id").to_pylist()]
        start = 0
        for part, rows in groupby(part_of):
            count = len(list(rows))
            self._append(part, table.slice(start, count))
            start += count

    def _append(self, part: int, table: pa.Table) -> None:
        path = self.files.get(part)
        if path is None:
            path = files.temporary_name(self._folder / f"part-{part:05d}.arrow")
            self.files[part] = path
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with path.open("ab") as file, pa.ipc.new_stream(file, table.schema, options=options) as out:
            out.write_table(table)

    def in_order(self) -> Iterator[pa.Table]:
        for _, path in sorted(self.files.items()):
            tables = []
            with path.open("rb") as file:
                size = path.stat().st_size
                while file.tell() < size:
                    tables.append(pa.ipc.open_stream(file).read_all())
            path.unlink()
            yield pa.concat_tables(tables).sort_by("id")

    def close(self) -> None:
        for path in self.files.values():
            path.unlink(missing_ok=True)
