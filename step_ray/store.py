"""A published dataset: a folder of Parquet shards and a manifest that says which of them count.

Publication is exactly-once: shards are written under temporary names, synced and renamed, and the
manifest, which alone makes them part of the dataset, comes last. A crash at any moment leaves the
dataset as it was before, plus files that the next publication clears away. A reader trusts the
manifest only: what it does not list is not there, what it lists must be exactly as listed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from step_ray import files, schema
from step_ray._version import __version__
from step_ray.trajectory import Trajectory

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
QUARANTINE = "quarantine"
LOCK = ".publish.lock"

# A shard's name ends with the beginning of its own checksum, so an orphan of a crash can be told
# from a file that somebody put there.
_SHARD = re.compile(r"part-\d{5}-([0-9a-f]{12})\.parquet")
_ROW_GROUP = 256


class StoreError(RuntimeError):
    """A dataset cannot be read or written; names the file and says what to do."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One published Parquet file."""

    name: str
    rows: int
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a published dataset is.

    ``content_hash`` does not depend on the order of rows, on how they are cut into shards, or on
    wall times: equal hashes mean the same dataset. ``extra`` is lineage, free-form.
    """

    shards: tuple[Shard, ...]
    rows: int
    kept: int
    drop_reasons: dict[str, int]
    content_hash: str
    code_version: str
    created: str
    extra: dict[str, Any] = field(default_factory=dict)
    schema_version: int = schema.SCHEMA_VERSION
    format_version: int = FORMAT_VERSION


def publish(
    folder: str | Path,
    rows: Iterable[Mapping[str, Any] | pa.Table],
    *,
    extra: Mapping[str, Any] | None = None,
    rows_per_shard: int = 2000,
    replace: bool = False,
) -> Manifest:
    """Makes rows (or tables of them) the content of a dataset folder, all or nothing.

    Publishing the same content again is harmless and mends a damaged folder; other content over
    a published dataset is refused unless ``replace``. Ids must be unique.
    """
    if rows_per_shard < 1:
        raise ValueError(f"rows_per_shard must be at least 1, not {rows_per_shard}")
    folder = Path(folder)
    with _disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with files.locked(folder / LOCK):
                return _publish(folder, rows, dict(extra or {}), rows_per_shard, replace)
        except files.LockHeld as error:
            raise StoreError(f"{error}; another process publishes here, wait for it") from None


def _publish(
    folder: Path,
    rows: Iterable[Mapping[str, Any] | pa.Table],
    extra: dict[str, Any],
    rows_per_shard: int,
    replace: bool,
) -> Manifest:
    _clear_unfinished(folder)
    old = read_manifest(folder) if (folder / MANIFEST).exists() else None
    unfinished: list[tuple[Path, Shard]] = []
    digest, reasons = _Digest(), Counter[str]()
    try:
        for index, table in enumerate(_cut(rows, rows_per_shard)):
            for row in table.drop_columns("messages").to_pylist():
                if not digest.add(row):
                    raise StoreError(f"{folder}: two rows have id {row['id']}; nothing published")
                reasons[row["drop_reason"]] += 1
            unfinished.append(_write_shard(folder, index, table))
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
        )
        if old is not None and old.content_hash == manifest.content_hash:
            if not _shard_problems(folder, old):
                manifest = dataclasses.replace(old, extra=extra)
                unfinished, abandoned = [], unfinished
                _remove(path for path, _ in abandoned)
        elif old is not None and not replace:
            raise StoreError(
                f"{folder / MANIFEST}: another dataset is published here "
                f"({old.rows} rows, {old.content_hash[:12]}; new: {manifest.rows} rows, "
                f"{manifest.content_hash[:12]}); choose another folder or replace it explicitly"
            )
        for path, shard in unfinished:
            path.replace(folder / shard.name)
        files.sync(folder)
        if manifest != old:
            files.write_json_atomic(folder / MANIFEST, dataclasses.asdict(manifest))
    except BaseException:
        _remove(path for path, _ in unfinished)
        raise
    _clear_orphans(folder, manifest)
    return manifest


def read(folder: str | Path, kept_only: bool = True) -> Iterator[Trajectory]:
    """Trajectories of a published dataset, in its order, with everything checked on the way."""
    columns = [*schema.TRAJECTORY_COLUMNS, "keep"]
    for table in read_tables(folder, columns=columns, kept_only=kept_only):
        for row in table.to_pylist():
            yield schema.from_row(row)


def read_rows(
    folder: str | Path, columns: Sequence[str] | None = None, kept_only: bool = False
) -> Iterator[dict[str, Any]]:
    """Rows as dictionaries, all columns or some; dropped rows too unless ``kept_only``."""
    for table in read_tables(folder, columns=columns, kept_only=kept_only):
        yield from table.to_pylist()


def read_tables(
    folder: str | Path, columns: Sequence[str] | None = None, kept_only: bool = False
) -> Iterator[pa.Table]:
    """Arrow tables, one per row group. Raises :class:`StoreError` for anything not as listed."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    ids: set[str] = set()
    wanted = list(columns) if columns is not None else schema.SCHEMA.names
    needed = list(dict.fromkeys([*wanted, "id", "keep"]))
    for shard in manifest.shards:
        problem = _shard_problem(folder, shard)
        if problem:
            raise StoreError(problem)
        with pq.ParquetFile(folder / shard.name) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=needed)
                for key in table.column("id").to_pylist():
                    if key in ids:
                        raise StoreError(f"{folder / shard.name}: id {key} occurs twice{_REMEDY}")
                    ids.add(key)
                if kept_only:
                    table = table.filter(table.column("keep"))
                yield table.select(wanted)


def raw_tables(
    paths: Iterable[Path], wanted: Collection[str] | None = None, rows_at_once: int = 20_000
) -> Iterator[pa.Table]:
    """Rows of Parquet files, once per id, in order of id; only the ``wanted`` ids if given.

    For the files of at-least-once work, which may hold a row twice: the first file wins. The order
    makes what is published independent of which worker finished when. Columns that are not in the
    schema are left out. Memory is bounded by ``rows_at_once``, at the price of reading the files
    once per that many rows.
    """
    paths = list(paths)
    where: dict[str, tuple[int, int]] = {}  # id -> (file, position in it)
    for index, path in enumerate(paths):
        table = _parquet(path, ["id"])
        if "id" not in table.column_names:
            raise StoreError(f"{path}: no column id, so not a file of trajectories; move it away")
        for position, key in enumerate(table.column("id").to_pylist()):
            if wanted is None or key in wanted:
                where.setdefault(key, (index, position))
    ids = sorted(where)
    for start in range(0, len(ids), rows_at_once):
        positions: dict[int, list[int]] = {}
        for key in ids[start : start + rows_at_once]:
            index, position = where[key]
            positions.setdefault(index, []).append(position)
        try:
            parts = [
                schema.conform(
                    _parquet(paths[index], schema.SCHEMA.names).take(chosen), str(paths[index])
                )
                for index, chosen in sorted(positions.items())
            ]
        except schema.SchemaError as error:
            raise StoreError(f"{error}; move the file away and run the stage again") from error
        yield pa.concat_tables(parts).sort_by("id")


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of a published dataset; raises :class:`StoreError` if there is none."""
    path = Path(folder) / MANIFEST
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path}: no dataset is published here; run the stage again") from None
    except OSError as error:
        raise StoreError(files.explain(error, path)) from error
    except ValueError as error:
        raise StoreError(f"{path}: not JSON ({error}); move it away and publish again") from None
    if not isinstance(value, dict) or "shards" not in value:
        raise StoreError(f"{path}: not the manifest of a dataset; check the path")
    if value.get("format_version") != FORMAT_VERSION:
        raise StoreError(
            f"{path}: format version {value.get('format_version')}, but this step-ray reads "
            f"version {FORMAT_VERSION}; read it with the step-ray that wrote it"
        )
    if value.get("schema_version") != schema.SCHEMA_VERSION:
        raise StoreError(
            f"{path}: schema version {value.get('schema_version')}, but this step-ray reads "
            f"version {schema.SCHEMA_VERSION}; read it with the step-ray that wrote it"
        )
    try:
        shards = tuple(Shard(**shard) for shard in value.pop("shards"))
        return Manifest(shards=shards, **value)
    except TypeError as error:
        raise StoreError(f"{path}: damaged ({error}); move it away and publish again") from None


def verify_store(folder: str | Path) -> list[str]:
    """Everything that is wrong with a dataset folder, as sentences; empty when it is sound."""
    folder = Path(folder)
    try:
        manifest = read_manifest(folder)
    except StoreError as error:
        return [str(error)]
    problems = _shard_problems(folder, manifest)
    listed = {shard.name for shard in manifest.shards}
    for path in sorted(folder.glob("*.parquet")):
        if path.name not in listed:
            problems.append(f"{path}: not in the manifest, so nobody reads it; quarantine it")
    if any(path for path in folder.glob(f"{files.TEMPORARY}*")):
        problems.append(f"{folder}: unfinished files of a crash; publishing again removes them")
    if problems:
        return problems
    digest, reasons = _Digest(), Counter[str]()
    columns = [name for name in schema.SCHEMA.names if name != "messages"]
    for row in read_rows(folder, columns):
        if not digest.add(row):
            problems.append(f"{folder}: id {row['id']} occurs twice{_REMEDY}")
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


def quarantine(folder: str | Path, name: str) -> Path:
    """Moves a file of a dataset folder to its ``quarantine/``; returns where it is now.

    If the manifest lists the file, the manifest goes with it: a dataset with a hole is no dataset,
    and the stage that made it will publish it anew.
    """
    folder = Path(folder)
    source = folder / name
    if source.parent != folder or not source.is_file():
        raise StoreError(f"{source}: no such file directly in {folder}; check the name")
    with _disk(folder):
        target = folder / QUARANTINE / name
        target.parent.mkdir(exist_ok=True)
        manifest = folder / MANIFEST
        if manifest.exists() and f'"{name}"' in manifest.read_text(encoding="utf-8"):
            manifest.replace(target.parent / f"{name}.{MANIFEST}")
        source.replace(target)
        files.sync(target.parent)
        files.sync(folder)
    return target


_REMEDY = "; quarantine the file and run the stage again"
_TORN = "not readable as Parquet; move it away and run the stage again"


def _shard_problem(folder: Path, shard: Shard) -> str:
    """What is wrong with a listed shard, "" if nothing is."""
    path = folder / shard.name
    try:
        if not path.is_file():
            return f"{path}: listed in the manifest but missing; run the stage again"
        size = path.stat().st_size
        if size != shard.bytes:
            return f"{path}: {size} bytes, but {shard.bytes} were published{_REMEDY}"
        if files.sha256_file(path) != shard.sha256:
            return f"{path}: its content is not what was published{_REMEDY}"
        with pq.ParquetFile(path) as file:
            schema.check_version(file.schema_arrow, str(path))
            if file.metadata.num_rows != shard.rows:
                return f"{path}: {file.metadata.num_rows} rows, not {shard.rows}{_REMEDY}"
    except schema.SchemaError as error:
        return f"{error}{_REMEDY}"
    except pa.ArrowException as error:
        return f"{path}: not readable as Parquet ({error}){_REMEDY}"
    except OSError as error:
        return files.explain(error, path)
    return ""


def _shard_problems(folder: Path, manifest: Manifest) -> list[str]:
    found = (_shard_problem(folder, shard) for shard in manifest.shards)
    return [problem for problem in found if problem]


def _cut(rows: Iterable[Mapping[str, Any] | pa.Table], rows_per_shard: int) -> Iterator[pa.Table]:
    """Tables of exactly ``rows_per_shard`` rows, the last one shorter, in the order given."""
    pending: list[pa.Table] = []
    count = 0
    for table in _tables(rows, rows_per_shard):
        pending.append(table)
        count += table.num_rows
        while count >= rows_per_shard:
            whole = pa.concat_tables(pending)
            yield whole.slice(0, rows_per_shard)
            count -= rows_per_shard
            pending = [whole.slice(rows_per_shard)]
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


def _parquet(path: Path, columns: list[str] | None) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns=columns)
    except pa.ArrowException as error:
        raise StoreError(f"{path}: {_TORN} ({error})") from None
    except OSError as error:
        if error.errno is None:  # Arrow's way to say that the bytes make no sense
            raise StoreError(f"{path}: {_TORN} ({error})") from None
        raise StoreError(files.explain(error, path)) from error


class _Digest:
    """The order-independent content hash; refuses an id it has seen."""

    def __init__(self) -> None:
        self._hashes: dict[str, str] = {}

    def add(self, row: Mapping[str, Any]) -> bool:
        if row["id"] in self._hashes:
            return False
        self._hashes[row["id"]] = schema.row_hash(row)
        return True

    @property
    def rows(self) -> int:
        return len(self._hashes)

    def result(self) -> str:
        total = hashlib.sha256(f"{schema.SCHEMA_VERSION}\n".encode())
        for key, value in sorted(self._hashes.items()):
            total.update(f"{key} {value}\n".encode())
        return total.hexdigest()


def _clear_unfinished(folder: Path) -> None:
    # Under the lock nobody else writes here, so every unfinished file is a crash's.
    _remove(folder.glob(f"{files.TEMPORARY}*"))


def _clear_orphans(folder: Path, manifest: Manifest) -> None:
    listed = {shard.name for shard in manifest.shards}
    for path in folder.glob("part-*.parquet"):
        match = _SHARD.fullmatch(path.name)
        if path.name in listed or match is None:
            continue
        if files.sha256_file(path).startswith(match.group(1)):
            path.unlink()


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(files.explain(error, folder)) from error
