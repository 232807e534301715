"""Publishing a dataset: all or nothing, exactly once.

Shards are written under temporary names, synced and renamed, and the manifest, which alone makes
them part of the dataset, comes last. A crash at any moment leaves the dataset as it was before,
plus files that the next publication clears away. What is damaged, or was put there by others, is
moved to ``quarantine/`` and named in the manifest: nobody reads it, and nobody has lost it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from step_ray import faults, files, lock, schema
from step_ray._version import __version__
from step_ray.manifest import (
    MANIFEST,
    Digest,
    Manifest,
    Shard,
    StoreError,
    disk_errors,
    read_manifest,
    shard_problem,
)
from step_ray.quarantine import move_aside

LOCK = ".publish.lock"

# A shard's name ends with the beginning of its own checksum, so an orphan of a crash can be told
# from a file that somebody put there.
_SHARD = re.compile(r"part-\d{5}-([0-9a-f]{12})\.parquet")
_ROW_GROUP = 256
ROWS_PER_SHARD = 2000
BYTES_PER_SHARD = 128 * 2**20  # in memory; some tenth of that as a file
_TORN = "not readable as Parquet; move it away and run the same command again"


def publish(
    folder: str | Path,
    rows: Iterable[Mapping[str, Any] | pa.Table],
    *,
    extra: Mapping[str, Any] | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    bytes_per_shard: int = BYTES_PER_SHARD,
    replace: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Manifest:
    """Makes rows (or tables of them) the content of a dataset folder, all or nothing.

    Publishing the same content again is harmless and mends a damaged folder; other content over
    a published dataset is refused unless ``replace``. Ids must be unique. ``note`` is told of each
    file that is quarantined.
    """
    if min(rows_per_shard, bytes_per_shard) < 1:
        raise ValueError(f"a shard of {rows_per_shard} rows and {bytes_per_shard} bytes is none")
    folder = Path(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with lock.locked(folder / LOCK):
                tables = _cut(rows, rows_per_shard, bytes_per_shard)
                return _publish(folder, tables, dict(extra or {}), replace, note)
        except lock.LockHeld as error:
            raise StoreError(f"{error}; another process publishes here, wait for it") from None


def _publish(
    folder: Path,
    tables: Iterable[pa.Table],
    extra: dict[str, Any],
    replace: bool,
    note: Callable[[str], None],
) -> Manifest:
    _clear_unfinished(folder)
    old = read_manifest(folder) if (folder / MANIFEST).exists() else None
    unfinished: list[tuple[Path, Shard]] = []
    digest, reasons = Digest(), Counter[str]()
    try:
        for index, table in enumerate(tables):
            for row in table.drop_columns("messages").to_pylist():
                if not digest.add(row):
                    raise StoreError(f"{folder}: two rows have id {row['id']}; nothing published")
                reasons[row["drop_reason"]] += 1
            unfinished.append(_write_shard(folder, index, table))
            faults.point("shard-written")
        kept = reasons.pop("", 0)
        manifest = Manifest(
            shards=tuple(shard for _, shard in unfinished),
            rows=digest.rows,
            kept=kept,
            drop_reasons=dict(sorted(reasons.items())),
            content_hash=digest.result(),
            code_version=__version__,
            created=files.now(),
            extra=extra,
            quarantined=old.quarantined if old else (),
        )
        damaged, strangers = _damaged(folder, old), _strangers(folder, old)
        if old is not None and old.content_hash == manifest.content_hash:
            if not damaged:
                manifest = dataclasses.replace(old, extra=extra)
                unfinished, abandoned = [], unfinished
                _remove(path for path, _ in abandoned)
        elif old is not None and not replace:
            raise StoreError(
                f"{folder / MANIFEST}: another dataset is published here "
                f"({old.rows} rows, {old.content_hash[:12]}; new: {manifest.rows} rows, "
                f"{manifest.content_hash[:12]}); choose another folder or replace it explicitly"
            )
        aside = tuple(
            move_aside(folder, name, problem)
            for name, problem in {**damaged, **strangers}.items()
            if (folder / name).is_file()
        )
        for file in aside:
            note(f"{folder / file.name}: quarantined: {file.problem}")
        manifest = dataclasses.replace(manifest, quarantined=(*manifest.quarantined, *aside))
        for path, shard in unfinished:
            path.replace(folder / shard.name)
            faults.point("shard-renamed")
        files.sync(folder)
        if manifest != old:
            files.write_json_atomic(folder / MANIFEST, dataclasses.asdict(manifest))
            faults.point("manifest-written")
    except BaseException:
        _remove(path for path, _ in unfinished)
        raise
    _clear_orphans(folder, manifest)
    return manifest


def _cut(
    rows: Iterable[Mapping[str, Any] | pa.Table], rows_per_shard: int, bytes_per_shard: int
) -> Iterator[pa.Table]:
    """Tables of ``rows_per_shard`` rows, fewer where rows are large, in the order given."""
    pending: list[pa.Table] = []
    count = size = 0
    for table in _tables(rows, rows_per_shard):
        pending.append(table)
        count, size = count + table.num_rows, size + table.nbytes
        while count >= rows_per_shard or (size >= bytes_per_shard and count > 1):
            whole = pa.concat_tables(pending)
            fit = min(rows_per_shard, max(1, count * bytes_per_shard // max(size, 1)))
            yield whole.slice(0, fit)
            pending = [whole.slice(fit)]
            count, size = pending[0].num_rows, pending[0].nbytes
    if count:
        yield pa.concat_tables(pending)


def _tables(rows: Iterable[Mapping[str, Any] | pa.Table], rows_at_once: int) -> Iterator[pa.Table]:
    loose: list[Mapping[str, Any]] = []
    for item in rows:
        if isinstance(item, Mapping):
            loose.append(item)
        else:
            if loose:
                yield schema.to_table(loose)
                loose = []
            yield schema.conform(item, "a published table")
        if len(loose) >= rows_at_once:
            yield schema.to_table(loose)
            loose = []
    if loose:
        yield schema.to_table(loose)


def _write_shard(folder: Path, index: int, table: pa.Table) -> tuple[Path, Shard]:
    path = files.temporary_name(folder / f"part-{index:05d}.parquet")
    try:
        pq.write_table(table, path, compression=schema.COMPRESSION, row_group_size=_ROW_GROUP)
        files.sync(path)
        checksum = files.sha256_file(path)
    except BaseException:
        _remove([path])
        raise
    name = f"part-{index:05d}-{checksum[:12]}.parquet"
    return path, Shard(name, table.num_rows, checksum, path.stat().st_size)


def read_parquet(path: Path, columns: list[str] | None) -> pa.Table:
    """One file, only ``columns`` of it if given. Raises StoreError for what is not readable."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns=columns)
    except pa.ArrowException as error:
        raise StoreError(f"{path}: {_TORN} ({error})") from None
    except OSError as error:
        if error.errno is None:  # Arrow's way to say that the bytes make no sense
            raise StoreError(f"{path}: {_TORN} ({error})") from None
        raise StoreError(files.explain(error, path)) from error


def _clear_unfinished(folder: Path) -> None:
    # Under the lock nobody else writes here, so every unfinished file is a crash's.
    _remove(folder.glob(f"{files.TEMPORARY}*"))


def _damaged(folder: Path, manifest: Manifest | None) -> dict[str, str]:
    """Listed shards that are not as published -> what is wrong with them."""
    listed = manifest.shards if manifest else ()
    found = {shard.name: shard_problem(folder, shard) for shard in listed}
    return {name: problem for name, problem in found.items() if problem}


def _strangers(folder: Path, manifest: Manifest | None) -> dict[str, str]:
    """Files that neither the manifest lists nor a crash of ours left -> what is said of them."""
    listed = {shard.name for shard in manifest.shards} if manifest else set()
    names = {path.name for path in folder.glob("[!.]*.parquet")} - listed
    why = "not in the manifest, and not written by a publication"
    return {name: why for name in sorted(names) if not _orphan(folder / name)}


def _orphan(path: Path) -> bool:
    match = _SHARD.fullmatch(path.name)
    return match is not None and files.sha256_file(path).startswith(match.group(1))


def _clear_orphans(folder: Path, manifest: Manifest) -> None:
    listed = {shard.name for shard in manifest.shards}
    _remove(p for p in folder.glob("part-*.parquet") if p.name not in listed and _orphan(p))


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
