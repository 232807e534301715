"""Trajectories are plain data: they survive every trip and hash alike everywhere."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import trajectories

from step_ray.trajectory import (
    Provenance,
    Review,
    Trajectory,
    Turn,
    canonical_json,
    content_hash,
    from_dict,
    to_dict,
)

EXAMPLE = Trajectory(
    id="1",
    task="game",
    env="alfworld",
    split="train",
    task_type="look",
    instruction="Do it.",
    initial_observation="A room.",
    turns=(
        Turn("t0", "a0", "o0"),
        Turn("t1", "a1", verdict="error", review=Review(True, "loop"), executed=False),
        Turn("t2", "a2", "o2", "teacher", "correction", Review(True, "loop")),
        Turn("t3", "a3", "o3", verdict="error", review=Review(True, "undo")),
    ),
    reward=0.0,
    success=False,
    outcome="step_limit",
)
REQUIRED = (
    "id",
    "task",
    "env",
    "split",
    "task_type",
    "instruction",
    "initial_observation",
    "turns",
    "reward",
    "success",
    "outcome",
    "provenance",
)


@given(trajectories())
def test_a_trip_through_dictionaries_json_and_pickle(trajectory: Trajectory) -> None:
    assert from_dict(to_dict(trajectory)) == trajectory
    assert from_dict(json.loads(json.dumps(to_dict(trajectory)))) == trajectory
    assert pickle.loads(pickle.dumps(trajectory)) == trajectory


def test_what_a_later_version_added_is_ignored() -> None:
    row = to_dict(EXAMPLE)
    for part in (row, row["provenance"], row["turns"][0], row["turns"][1]["review"]):
        part["colour"] = "blue"
    assert from_dict(row) == EXAMPLE


def test_what_an_earlier_version_lacked_has_its_default() -> None:
    row: dict[str, Any] = to_dict(EXAMPLE)
    del row["detail"], row["provenance"]["dialect"], row["turns"][0]["reward"]
    assert from_dict(row) == EXAMPLE


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_field_is_named(name: str) -> None:
    row = to_dict(EXAMPLE)
    del row[name]
    with pytest.raises(KeyError, match=name):
        from_dict(row)


@pytest.mark.parametrize(("part", "name"), [("turn", "action"), ("review", "is_error")])
def test_a_missing_field_inside_is_named(part: str, name: str) -> None:
    row = to_dict(EXAMPLE)
    del (row["turns"][1] if part == "turn" else row["turns"][1]["review"])[name]
    with pytest.raises(KeyError, match=name):
        from_dict(row)


def test_counts() -> None:
    assert (EXAMPLE.errors, EXAMPLE.corrections) == (2, 1)
    assert EXAMPLE.executed_actions == ["a0", "a2", "a3"]


def test_nothing_can_be_changed() -> None:
    for thing in (EXAMPLE, EXAMPLE.turns[0], EXAMPLE.turns[1].review, Provenance()):
        field = dataclasses.fields(thing)[0].name  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, field, "x")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abcdef", min_size=1), JSON, max_size=6), st.randoms())
def test_the_order_of_keys_means_nothing(value: dict[str, Any], rng: Any) -> None:
    keys = list(value)
    rng.shuffle(keys)
    shuffled = {key: value[key] for key in keys}
    assert canonical_json(shuffled) == canonical_json(value)
    assert json.loads(canonical_json(value)) == value
    assert content_hash(shuffled) == content_hash(value)


def test_one_text_per_value() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é\n"}) == '{"a":"é\\n","b":[1,2.5,null]}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"x": float("nan")})


def test_hashes_never_change() -> None:
    value = {"b": [1, 2.5, None], "a": "é\n"}
    assert content_hash(value) == "040cd3949302af5d2f0aec58c8c5ed06"
    assert content_hash(value, 12) == content_hash(value)[:12]
    assert content_hash({**value, "c": 0}) != content_hash(value)
