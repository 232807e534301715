"""Records of files that others wrote: JSON, JSON lines or Parquet, perhaps compressed."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from step_ray import files
from step_ray.manifest import StoreError
from step_ray.publication import read_parquet

_OPEN: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open}  # called with a path
_KINDS = (".json", ".jsonl", ".parquet")


class ExchangeError(RuntimeError):
    """Nothing can be imported or exported; says what, where and how to fix it."""


class Rejected(Exception):  # noqa: N818 - a property of a record, not a defect
    """A record that is not imported: a short machine-readable reason, and what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Record:
    """One record and where it stands; ``problem`` says why there is none."""

    where: str
    value: Any
    problem: str = ""


def read_records(source: Path) -> Iterator[Record]:
    """The records of a file, or of all such files below a folder, in order of their names.

    A JSON file holds a list of records, one record, or an object of records by name. A file or
    line that cannot be read is one record with a ``problem``. Raises ExchangeError without files.
    """
    paths = [source] if source.is_file() else sorted(p for p in source.rglob("*") if _kind(p))
    if not paths:
        raise ExchangeError(
            f"{source}: no file to import; give a file, or a folder with files that end with "
            f"{', '.join(_KINDS)} (.json and .jsonl also with .gz or .xz)"
        )
    for path in paths:
        name = path.name if path == source else path.relative_to(source).as_posix()
        try:
            yield from _records(path, name)
        except (ValueError, EOFError, lzma.LZMAError, StoreError) as error:
            yield Record(name, None, str(error))
        except OSError as error:
            yield Record(name, None, files.explain(error, path))


def _records(path: Path, name: str) -> Iterator[Record]:
    kind = _kind(path)
    if kind == ".parquet":
        for index, row in enumerate(read_parquet(path, None).to_pylist()):
            yield Record(f"{name}[{index}]", row)
        return
    with _OPEN.get(path.suffix, Path.open)(path, "rb") as file:
        if kind == ".jsonl":
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        yield Record(f"{name}:{number}", json.loads(line))
                    except ValueError as error:
                        yield Record(f"{name}:{number}", None, str(error))
            return
        value = json.loads(file.read())
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield Record(f"{name}[{index}]", item)
    elif isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
        for key, item in value.items():
            yield Record(f"{name}[{key!r}]", item)
    else:
        yield Record(name, value)


def _kind(path: Path) -> str:
    """The suffix that says how a file reads, without that of its compression; "" if none does."""
    suffix = Path(path.stem).suffix if path.suffix in _OPEN else path.suffix
    return suffix if suffix in _KINDS and path.is_file() else ""
