"""The manifest of a published dataset: which shards count, and whether they are as published."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from step_ray import files, schema
from step_ray.bucket import ObjectPath, Place, place

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
REMEDY = "; run the command that made it again: it is set aside and made anew"


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
class Quarantined:
    """A file that lay in the folder and did not belong to the dataset, or no longer."""

    name: str  # below the folder, where it is now
    problem: str


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
    quarantined: tuple[Quarantined, ...] = ()
    schema_version: int = schema.SCHEMA_VERSION
    format_version: int = FORMAT_VERSION


def read_manifest(folder: str | Place) -> Manifest:
    """The manifest of a published dataset; raises :class:`StoreError` if there is none."""
    path = place(folder) / MANIFEST
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StoreError(
            f"{path}: no dataset is published here; check the path, run the command that makes it "
            "again, or make one of other files with step-ray import"
        ) from None
    except OSError as error:
        raise StoreError(files.explain(error, Path(str(path)))) from error
    except ValueError as error:
        raise StoreError(f"{path}: not JSON ({error}); move it away and publish again") from None
    if not isinstance(value, dict) or "shards" not in value:
        raise StoreError(f"{path}: not the manifest of a dataset; check the path")
    if value.get("format_version") != FORMAT_VERSION:
        raise StoreError(
            f"{path}: format version {value.get('format_version')}, but this step-ray reads "
            f"version {FORMAT_VERSION}; read it with the step-ray that wrote it"
        )
    if value.get("schema_version") not in schema.READABLE:
        raise StoreError(
            f"{path}: schema version {value.get('schema_version')}, but this step-ray reads "
            f"versions up to {schema.SCHEMA_VERSION}; read it with the step-ray that wrote it"
        )
    try:
        shards = tuple(Shard(**shard) for shard in value.pop("shards"))
        aside = tuple(Quarantined(**file) for file in value.pop("quarantined", ()))
        return Manifest(shards=shards, quarantined=aside, **value)
    except TypeError as error:
        raise StoreError(f"{path}: damaged ({error}); move it away and publish again") from None


@contextlib.contextmanager
def open_shard(folder: Place, shard: Shard) -> Iterator[pq.ParquetFile]:
    """A listed shard, to be read; raises :class:`StoreError` for one that is not as published."""
    path = folder / shard.name
    try:
        # An object is read as a whole, once: what is checked is what is used.
        content = path.read_bytes() if isinstance(path, ObjectPath) else None
        size = path.stat().st_size if isinstance(path, Path) else len(content or b"")
        if size != shard.bytes:
            raise StoreError(f"{path}: {size} bytes, but {shard.bytes} were published{REMEDY}")
        found = files.sha256_file(path) if isinstance(path, Path) else _sha256(content or b"")
        if found != shard.sha256:
            raise StoreError(f"{path}: its content is not what was published{REMEDY}")
        with pq.ParquetFile(path if content is None else pa.BufferReader(content)) as file:
            schema.check_version(file.schema_arrow, str(path))
            if file.metadata.num_rows != shard.rows:
                raise StoreError(f"{path}: {file.metadata.num_rows} rows, not {shard.rows}{REMEDY}")
            yield file
    except FileNotFoundError:
        raise StoreError(
            f"{path}: listed in the manifest but missing; run the command that made it again"
        ) from None
    except schema.SchemaError as error:
        raise StoreError(f"{error}{REMEDY}") from error
    except pa.ArrowException as error:
        raise StoreError(f"{path}: not readable as Parquet ({error}){REMEDY}") from error
    except OSError as error:
        raise StoreError(files.explain(error, Path(str(path)))) from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def shard_problem(folder: Place, shard: Shard) -> str:
    """What is wrong with a listed shard, "" if nothing is."""
    try:
        with open_shard(folder, shard):
            return ""
    except StoreError as error:
        return str(error)


def shard_problems(folder: Place, manifest: Manifest) -> list[str]:
    found = (shard_problem(folder, shard) for shard in manifest.shards)
    return [problem for problem in found if problem]


class Digest:
    """The order-independent content hash of rows in one schema version; refuses an id twice."""

    def __init__(self, version: int = schema.SCHEMA_VERSION) -> None:
        self._version = version
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
        total = hashlib.sha256(f"{self._version}\n".encode())
        for key, value in sorted(self._hashes.items()):
            total.update(f"{key} {value}\n".encode())
        return total.hexdigest()


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(files.explain(error, folder)) from error
