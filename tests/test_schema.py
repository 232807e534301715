from __future__ import annotations

import dataclasses
import io
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from strategies import episodes, many, trajectories

from step_ray import schema
from step_ray.react import to_messages
from step_ray.trajectory import Provenance, Review, Trajectory, Turn

REVIEW = Review(True, "loop", "I looped", "nothing new", "look elsewhere", "so", "open drawer 1")
EXAMPLE = Trajectory(
    id="0" * 32,
    task="game-1",
    env="alfworld",
    split="train",
    task_type="look",
    instruction="Do it.",
    initial_observation="You are here.",
    turns=(
        Turn("t0", "look", "a room", seconds=0.5),
        Turn("t1", "look", "a room", verdict="error", review=REVIEW),
        Turn("t2", "open drawer 1", "it opens", "teacher", "correction", REVIEW),
        Turn("t3", "smash", verdict="error", review=REVIEW, executed=False),
        Turn("t4", "take pen 1", "you have it", "teacher", "correction", REVIEW),
    ),
    reward=1.0,
    success=True,
    outcome="success",
)


def through_parquet(table: pa.Table) -> pa.Table:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=schema.COMPRESSION)
    return pq.read_table(io.BytesIO(buffer.getvalue()))


@given(many(trajectories()))
def test_trajectories_survive_parquet(given_ones: list[Trajectory]) -> None:
    table = through_parquet(schema.to_table(schema.to_rows(given_ones)))
    schema.check_version(table.schema, "here")
    assert table.schema.equals(schema.SCHEMA, check_metadata=True)
    assert [schema.from_row(row) for row in table.to_pylist()] == given_ones


@given(episodes())
def test_messages_are_the_chat_with_the_partial_mask(trajectory: Trajectory) -> None:
    messages = schema.to_row(trajectory)["messages"]
    assert [m["content"] for m in messages] == [m.content for m in to_messages(trajectory)]
    for flagged, message in zip(messages, to_messages(trajectory), strict=True):
        turns = [trajectory.turns[span.turn] for span in message.spans if span.turn is not None]
        trained = message.role == "assistant" and not any(t.verdict == "error" for t in turns)
        assert flagged["loss"] == trained


def test_a_row_in_full() -> None:
    row = schema.to_row(EXAMPLE, {"b": 1, "a": "é"}, "too_long")
    assert row.keys() == set(schema.SCHEMA.names)
    loss = [m["loss"] for m in row["messages"] if m["role"] == "assistant"]
    assert loss == [True, False, True, False]  # the last holds a vetoed error as well
    assert (row["keep"], row["drop_reason"]) == (False, "too_long")
    assert row["spec"] == '{"a":"é","b":1}'
    assert (row["errors"], row["corrections"], row["n_turns"]) == (2, 2, 5)
    kept = schema.to_row(EXAMPLE)
    assert (kept["keep"], kept["drop_reason"], kept["spec"]) == (True, "", "")


def test_lone_surrogates_become_replacement_characters() -> None:
    broken = dataclasses.replace(EXAMPLE, detail="a\ud800b", instruction="\udfff🙂")
    row = schema.to_row(broken, {"x": "\ud83d"})
    assert (row["detail"], row["instruction"]) == ("a\ufffdb", "\ufffd🙂")
    schema.to_table([row])


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_only_finite_numbers(number: float) -> None:
    turn = dataclasses.replace(EXAMPLE.turns[0], seconds=number)
    for broken in (
        dataclasses.replace(EXAMPLE, reward=number),
        dataclasses.replace(EXAMPLE, turns=(turn,)),
    ):
        with pytest.raises(schema.SchemaError, match=EXAMPLE.id):
            schema.to_row(broken)


def test_unknown_versions_are_refused() -> None:
    table = schema.to_table([schema.to_row(EXAMPLE)])
    newer = table.replace_schema_metadata({schema.VERSION_KEY: b"99"})
    for call in (schema.check_version, lambda s, w: schema.conform(newer, w)):
        with pytest.raises(schema.SchemaError, match=r"f\.parquet: schema version 99.*reads ver"):
            call(newer.schema, "f.parquet")
    with pytest.raises(schema.SchemaError, match="did not write it"):
        schema.check_version(table.replace_schema_metadata(None).schema, "f.parquet")


def test_conform_mends_what_other_libraries_do() -> None:
    golden = dataclasses.replace(EXAMPLE, turns=EXAMPLE.turns[:1])
    table = schema.to_table(schema.to_rows([golden]))
    stripped = table.replace_schema_metadata(None)
    assert schema.conform(stripped, "here").schema.equals(schema.SCHEMA, check_metadata=True)
    # Inferred anew: the review is null everywhere, the columns are in another order.
    inferred = pa.Table.from_pylist(table.select(schema.SCHEMA.names[::-1]).to_pylist())
    assert not inferred.schema.equals(schema.SCHEMA)
    assert schema.conform(inferred, "here").equals(table)


def test_conform_refuses_another_table() -> None:
    table = schema.to_table([schema.to_row(EXAMPLE)])
    with pytest.raises(schema.SchemaError, match=r"here: columns missing: keep"):
        schema.conform(table.drop_columns("keep"), "here")
    with pytest.raises(schema.SchemaError, match="unknown columns: more"):
        schema.conform(table.append_column("more", [[1]]), "here")
    with pytest.raises(schema.SchemaError, match="does not fit"):
        schema.conform(table.set_column(0, "id", [[1]]), "here")


def test_a_row_that_is_no_trajectory() -> None:
    row = schema.to_row(EXAMPLE)
    with pytest.raises(schema.SchemaError, match="no value for task, success"):
        schema.from_row({**row, "success": None, "task": None})
    with pytest.raises(schema.SchemaError, match="not a trajectory"):
        schema.from_row({**row, "turns": [{"surprise": 1}]})
    with pytest.raises(schema.SchemaError, match="unknown columns: more"):
        schema.to_table([{**row, "more": 1}])


@given(trajectories())
def test_the_row_hash_ignores_time_and_code(trajectory: Trajectory) -> None:
    again = dataclasses.replace(
        trajectory,
        turns=tuple(dataclasses.replace(t, seconds=t.seconds + 1) for t in trajectory.turns),
        provenance=dataclasses.replace(trajectory.provenance, code_version="other"),
        detail="other",
    )
    first = schema.row_hash(schema.to_row(trajectory))
    assert schema.row_hash(schema.to_row(again)) == first
    assert schema.row_hash(schema.to_row(trajectory, {"a": 1})) != first
    assert schema.row_hash(schema.to_row(trajectory, None, "dull")) != first
    assert schema.row_hash(schema.to_row(dataclasses.replace(trajectory, task="?!"))) != first


def test_every_field_has_a_column() -> None:
    assert tuple(f.name for f in dataclasses.fields(Trajectory)) == schema.TRAJECTORY_COLUMNS
    for cls, name in ((Turn, "turns"), (Provenance, "provenance")):
        kind = schema.SCHEMA.field(name).type
        struct = kind.value_type if pa.types.is_list(kind) else kind
        assert [struct.field(i).name for i in range(struct.num_fields)] == [
            f.name for f in dataclasses.fields(cls)
        ]
    review = schema.SCHEMA.field("turns").type.value_type.field("review").type
    assert [review.field(i).name for i in range(review.num_fields)] == [
        f.name for f in dataclasses.fields(Review)
    ]
