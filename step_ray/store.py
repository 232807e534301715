"""A published dataset: a folder of Parquet shards and a manifest that says which of them count.

A reader trusts the manifest only: what it does not list is not there, what it lists must be
exactly as listed. Writing is :func:`publish`; it is all or nothing. The folder may be one in an
object store (``s3://bucket/folder``), see :mod:`step_ray.mirror`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from step_ray import files, schema
from step_ray.bucket import ObjectPath, Place, place
from step_ray.manifest import (
    MANIFEST,
    REMEDY,
    Digest,
    open_shard,
    shard_problems,
)
from step_ray.manifest import Manifest as Manifest
from step_ray.manifest import Shard as Shard
from step_ray.manifest import StoreError as StoreError
from step_ray.manifest import read_manifest as read_manifest
from step_ray.publication import publish as publish
from step_ray.publication import read_parquet as read_parquet
from step_ray.quarantine import quarantine as quarantine
from step_ray.sorting import raw_tables as raw_tables
from step_ray.trajectory import Trajectory


def read(folder: str | Place, kept_only: bool = True) -> Iterator[Trajectory]:
    """Trajectories of a published dataset, in its order, with everything checked on the way."""
    columns = [*schema.TRAJECTORY_COLUMNS, "keep"]
    for table in read_tables(folder, columns=columns, kept_only=kept_only):
        for row in table.to_pylist():
            yield schema.from_row(row)


def read_once(folders: Iterable[str | Place]) -> Iterator[Trajectory]:
    """The kept trajectories of several datasets; an id that more than one has comes once."""
    seen: set[str] = set()
    for folder in folders:
        for trajectory in read(folder):
            if trajectory.id not in seen:
                seen.add(trajectory.id)
                yield trajectory


def read_rows(
    folder: str | Place, columns: Sequence[str] | None = None, kept_only: bool = False
) -> Iterator[dict[str, Any]]:
    """Rows as dictionaries, all columns or some; dropped rows too unless ``kept_only``."""
    for table in read_tables(folder, columns=columns, kept_only=kept_only):
        yield from table.to_pylist()


def read_tables(
    folder: str | Place, columns: Sequence[str] | None = None, kept_only: bool = False
) -> Iterator[pa.Table]:
    """Arrow tables, one per row group. Raises :class:`StoreError` for anything not as listed."""
    folder = place(folder)
    manifest = read_manifest(folder)
    ids: set[str] = set()
    wanted = list(columns) if columns is not None else schema.SCHEMA.names
    needed = list(dict.fromkeys([*wanted, "id", "keep"]))
    for shard in manifest.shards:
        with open_shard(folder, shard) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=needed)
                for key in table.column("id").to_pylist():
                    if key in ids:
                        raise StoreError(f"{folder / shard.name}: id {key} occurs twice{REMEDY}")
                    ids.add(key)
                if kept_only:
                    table = table.filter(table.column("keep"))
                yield table.select(wanted)


def verify_store(folder: str | Place) -> list[str]:
    """Everything that is wrong with a dataset folder, as sentences; empty when it is sound."""
    folder = place(folder)
    try:
        manifest = read_manifest(folder)
    except StoreError as error:
        return [str(error)]
    problems = shard_problems(folder, manifest)
    listed = {shard.name for shard in manifest.shards}
    if isinstance(folder, ObjectPath):
        found_here = sorted(folder.children())
    else:
        found_here = sorted(path.name for path in folder.iterdir())
    for name in found_here:
        stranger = name.endswith(".parquet") and not name.startswith(files.TEMPORARY)
        if stranger and name not in listed:
            problems.append(f"{folder / name}: not in the manifest, so nobody reads it")
    if any(name.startswith(files.TEMPORARY) for name in found_here):
        problems.append(f"{folder}: unfinished files of a crash; publishing again removes them")
    if problems:
        return problems
    digest, reasons = Digest(manifest.schema_version), Counter[str]()
    columns = [name for name in schema.SCHEMA.names if name != "messages"]
    for row in read_rows(folder, columns):
        if not digest.add(row):
            problems.append(f"{folder}: id {row['id']} occurs twice{REMEDY}")
        if row["keep"] == bool(row["drop_reason"]):
            problems.append(f"{folder}: row {row['id']}: keep and drop_reason disagree")
        reasons[row["drop_reason"]] += 1
    kept = reasons.pop("", 0)
    found = (digest.rows, kept, dict(reasons), digest.result())
    stated = (manifest.rows, manifest.kept, manifest.drop_reasons, manifest.content_hash)
    names = ("rows", "kept", "drop_reasons", "content_hash")
    for name, have, want in zip(names, found, stated, strict=True):
        if have != want:
            problems.append(f"{folder / MANIFEST}: {name} is {want}, but the shards hold {have}")
    return problems
