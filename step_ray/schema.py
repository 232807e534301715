"""The Parquet form of a trajectory: an explicit Arrow schema with a version.

Next to the trajectory itself a row has what readers outside this package want: the chat as
``messages`` (the loss flags are those of the partial mask) and simple counts to filter by.
Everything that can be derived is derived from the trajectory here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from step_ray.react import to_messages
from step_ray.trajectory import Trajectory, canonical_json, content_hash, from_dict, to_dict

SCHEMA_VERSION = 2
READABLE = (1, 2)  # rows of version 1 have no review.raw
VERSION_KEY = b"step_ray.schema_version"
COMPRESSION = "zstd"

_REVIEW = pa.struct(
    [
        pa.field("is_error", pa.bool_()),
        *(
            pa.field(name, pa.string())
            for name in ("kind", "error", "reason", "reflection", "thought", "action", "raw")
        ),
    ]
)
_TURN = pa.struct(
    [
        pa.field("thought", pa.string()),
        pa.field("action", pa.string()),
        pa.field("observation", pa.string()),
        pa.field("author", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("review", _REVIEW),
        pa.field("executed", pa.bool_()),
        pa.field("valid", pa.bool_()),
        pa.field("reward", pa.float64()),
        pa.field("seconds", pa.float64()),
    ]
)
_PROVENANCE = pa.struct(
    [
        pa.field("env_build", pa.string()),
        pa.field("data_hash", pa.string()),
        pa.field("dialect", pa.string()),
        pa.field("student", pa.string()),
        pa.field("teacher", pa.string()),
        pa.field("prompt_version", pa.string()),
        pa.field("sampling", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("code_version", pa.string()),
    ]
)
_MESSAGE = pa.struct(
    [
        pa.field("role", pa.string()),
        pa.field("content", pa.string()),
        pa.field("loss", pa.bool_()),
    ]
)


def _list_of(kind: pa.DataType) -> pa.DataType:
    # Parquet calls what a list holds "element"; by that name a table read equals the one written.
    return pa.list_(pa.field("element", kind))


SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("task", pa.string()),
        pa.field("env", pa.string()),
        pa.field("split", pa.string()),
        pa.field("task_type", pa.string()),
        pa.field("instruction", pa.string()),
        pa.field("initial_observation", pa.string()),
        pa.field("turns", _list_of(_TURN)),
        pa.field("reward", pa.float64()),
        pa.field("success", pa.bool_()),
        pa.field("outcome", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("provenance", _PROVENANCE),
        pa.field("messages", _list_of(_MESSAGE)),
        pa.field("keep", pa.bool_()),
        pa.field("drop_reason", pa.string()),
        pa.field("spec", pa.string()),
        pa.field("errors", pa.int32()),
        pa.field("corrections", pa.int32()),
        pa.field("n_turns", pa.int32()),
    ],
    metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()},
)

# What a trajectory is rebuilt from; reading these alone saves a third of the bytes.
TRAJECTORY_COLUMNS = tuple(SCHEMA.names[: SCHEMA.get_field_index("messages")])


class SchemaError(ValueError):
    """A table or row is not in a form this version reads or writes; says what to do."""


def to_row(
    trajectory: Trajectory, spec: Mapping[str, Any] | None = None, drop_reason: str = ""
) -> dict[str, Any]:
    """One row. ``spec`` is the JSON-like episode spec; an empty ``drop_reason`` means kept.

    Lone surrogates, which no UTF-8 file can hold, become U+FFFD. Raises :class:`SchemaError` for
    a reward or a time that is not a finite number.
    """
    row: dict[str, Any] = _clean(to_dict(trajectory))
    numbers = [trajectory.reward]
    for turn in trajectory.turns:
        numbers += [turn.reward, turn.seconds]
    if not all(math.isfinite(number) for number in numbers):
        raise SchemaError(f"trajectory {trajectory.id}: a reward or time is not a finite number")
    row["messages"] = _clean(_messages(trajectory))
    row["keep"] = not drop_reason
    row["drop_reason"] = drop_reason
    row["spec"] = _clean(canonical_json(dict(spec))) if spec is not None else ""
    row["errors"] = trajectory.errors
    row["corrections"] = trajectory.corrections
    row["n_turns"] = len(trajectory.turns)
    return row


def to_rows(trajectories: Iterable[Trajectory]) -> list[dict[str, Any]]:
    """Rows of trajectories that are all kept."""
    return [to_row(trajectory) for trajectory in trajectories]


def to_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """An Arrow table of rows in the schema; raises :class:`SchemaError` for a row that misfits."""
    listed = [dict(row) for row in rows]
    for row in listed:
        if row.keys() != set(SCHEMA.names):
            raise SchemaError(
                f"row {row.get('id', '?')}: {_names_differ(row.keys())}; make rows with to_row"
            )
    try:
        return pa.Table.from_pylist(listed, schema=SCHEMA)
    except (pa.ArrowException, TypeError, UnicodeError) as error:
        raise SchemaError(
            f"a row does not fit the schema: {error}; make rows with to_row"
        ) from error


def from_row(row: Mapping[str, Any]) -> Trajectory:
    """The trajectory of a row; raises :class:`SchemaError` if the row does not hold one."""
    missing = [name for name in TRAJECTORY_COLUMNS if row.get(name) is None]
    if missing:
        raise SchemaError(f"row {row.get('id', '?')}: no value for {', '.join(missing)}")
    try:
        return from_dict(row)
    except (KeyError, TypeError, AttributeError) as error:
        raise SchemaError(f"row {row['id']}: not a trajectory ({error})") from error


def check_version(schema: pa.Schema, where: str) -> None:
    """Refuses a schema without our version, or with one that this code does not know."""
    found = (schema.metadata or {}).get(VERSION_KEY)
    if found is None:
        raise SchemaError(f"{where}: no step_ray.schema_version; this package did not write it")
    if found not in [str(version).encode() for version in READABLE]:
        version = found.decode("utf-8", "replace")
        raise SchemaError(
            f"{where}: schema version {version}, but this step-ray reads versions up to "
            f"{SCHEMA_VERSION}; read it with the step-ray that wrote it, or make it again"
        )


def conform(table: pa.Table, where: str) -> pa.Table:
    """The same rows in exactly our schema; for tables that went through another library.

    Such a trip may lose the metadata, reorder columns or type an all-null column as null, which
    is put right; a different set of columns or a different version is refused.
    """
    if (table.schema.metadata or {}).get(VERSION_KEY) is not None:
        check_version(table.schema, where)
    if set(table.schema.names) != set(SCHEMA.names):
        raise SchemaError(f"{where}: {_names_differ(table.schema.names)}")
    if table.schema.equals(SCHEMA):
        return table.cast(SCHEMA)
    try:
        return to_table(table.to_pylist())
    except SchemaError as error:
        raise SchemaError(f"{where}: {error}") from error


def row_hash(row: Mapping[str, Any]) -> str:
    """Content hash of a row without what differs between two runs of the same episode.

    Left out are wall times, the free text of a failure (which may hold a time or an address), the
    code version, and the columns that are derived from others.
    """
    content = {name: row[name] for name in (*TRAJECTORY_COLUMNS, "drop_reason", "spec")}
    del content["detail"]
    content["turns"] = [{**turn, "seconds": 0.0} for turn in row["turns"]]
    content["provenance"] = {**row["provenance"], "code_version": ""}
    return content_hash(content)


def _messages(trajectory: Trajectory) -> list[dict[str, Any]]:
    messages = []
    for message in to_messages(trajectory):
        # A message with a vetoed error and its correction has one flag for both: an error is never
        # trained, so that correction is not either by who reads the flags. Our own masks are finer.
        turns = [span.turn for span in message.spans]
        loss = message.role == "assistant" and all(
            turn is not None and trajectory.turns[turn].verdict != "error" for turn in turns
        )
        messages.append({**message.as_dict(), "loss": loss})
    return messages


def _names_differ(names: Iterable[str]) -> str:
    found, wanted = set(names), set(SCHEMA.names)
    parts = []
    if wanted - found:
        parts.append(f"columns missing: {', '.join(sorted(wanted - found))}")
    if found - wanted:
        parts.append(f"unknown columns: {', '.join(sorted(found - wanted))}")
    return "; ".join(parts)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
