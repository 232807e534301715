"""Rows of a format as one file: Parquet with explicit columns, JSON lines, or a JSON list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from step_ray.schema import COMPRESSION

FileKind = Literal["jsonl", "json", "parquet"]
Row = dict[str, Any]
_AT_ONCE = 256  # rows that are held in memory


def _messages(**more: pa.DataType) -> pa.DataType:
    fields = {"role": pa.string(), "content": pa.string(), **more}
    return pa.list_(pa.struct(list(fields.items())))


_NAMES = {
    "id": pa.string(),
    "env": pa.string(),
    "task": pa.string(),
    "split": pa.string(),
    "task_type": pa.string(),
    "reward": pa.float64(),
}
_DETAIL = pa.struct(
    [("begin_offset", pa.int64()), ("end_offset", pa.int64()), ("train", pa.bool_())]
)
_TURN = pa.struct([("from", pa.string()), ("value", pa.string()), ("loss", pa.bool_())])
_PART = pa.struct([("type", pa.string()), ("value", pa.string())])
COLUMNS: dict[str, pa.Schema] = {
    name: pa.schema(list(columns.items()))
    for name, columns in {
        "messages": {**_NAMES, "messages": _messages(loss=pa.bool_())},
        "agentgym": {"item_id": pa.string(), **_NAMES, "conversations": pa.list_(_TURN)},
        "axolotl": {
            **_NAMES,
            "messages": _messages(train=pa.bool_(), train_detail=pa.list_(_DETAIL)),
        },
        "llamafactory": {"messages": _messages(content=pa.list_(_PART), loss_weight=pa.float64())},
        "trl": {"prompt": _messages(), "completion": _messages()},
        "trl-dpo": {"prompt": _messages(), "chosen": _messages(), "rejected": _messages()},
        "trl-tokens": {"input_ids": pa.list_(pa.int32()), "labels": pa.list_(pa.int32())},
        "skyrl": {"input_ids": pa.list_(pa.int32()), "loss_mask": pa.list_(pa.int8())},
    }.items()
}
"""Format -> the columns of its Parquet files."""


def write(rows: Iterator[Row], form: str, kind: FileKind, path: Path) -> None:
    """Writes all rows of a format, a few at a time."""
    writer: _Writer = (
        _Parquet(path, COLUMNS[form]) if kind == "parquet" else _Json(path, kind == "json")
    )
    with closing(writer):
        while some := list(islice(rows, _AT_ONCE)):
            writer.write(some)


class _Writer(Protocol):
    def write(self, rows: list[Row]) -> None: ...

    def close(self) -> None: ...


class _Parquet:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = pq.ParquetWriter(path, schema, compression=COMPRESSION)

    def write(self, rows: list[Row]) -> None:
        self._file.write_table(pa.Table.from_pylist(rows, schema=self._file.schema))

    def close(self) -> None:
        self._file.close()


class _Json:
    def __init__(self, path: Path, listed: bool) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._listed = listed
        self._between = "[\n" if listed else ""

    def write(self, rows: list[Row]) -> None:
        for row in rows:
            self._file.write(self._between + json.dumps(row, ensure_ascii=False))
            self._between = ",\n" if self._listed else "\n"

    def close(self) -> None:
        self._file.write("\n]\n" if self._listed else "\n")
        self._file.close()
