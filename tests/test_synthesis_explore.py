"""ETO's pairs, against a reading of its rules by hand: messages are counted as its code does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ray.react import to_messages
from step_ray.synthesis.explore import contrast
from step_ray.synthesis.pairs import read_pairs, write_pairs
from step_ray.trajectory import Outcome, Trajectory, Turn


def episode(
    name: str, task: str, turns: int, reward: float, outcome: Outcome = "step_limit"
) -> Trajectory:
    made = tuple(
        Turn(f"{name} thinks {n}", f"{name} does {n}", f"answer {n}") for n in range(turns)
    )
    if reward == 1.0:
        outcome = "success"
    return Trajectory(
        name, task, "webshop", "train", "", "Shop.", f"Task {task}.", made, reward, reward == 1.0,
        outcome,
    )  # fmt: skip


GOLDEN = [
    episode("g1", "lost", 3, 1.0),
    episode("g2", "tied", 4, 1.0),
    episode("g3", "beaten", 2, 0.5),
    episode("g4", "short", 6, 1.0),
]
EXPLORED = [
    episode("e1", "lost", 20, 0.25),
    episode("e2", "tied", 9, 1.0),
    episode("e3", "beaten", 12, 0.75),
    episode("e4", "short", 2, 0.0),
    episode("e5", "unknown", 2, 0.0),
    episode("e6", "lost", 0, 0.0),
    replace(episode("e7", "lost", 4, 0.0), outcome="env_timeout"),
]


def chats(one: Trajectory) -> list[str]:
    return [message.content for message in to_messages(one)]


def test_pairs_are_those_of_a_reading_by_hand() -> None:
    """Counted in messages after the first, as ``construct_preference.py`` does: the expert's 3
    turns are a task and 5 messages, and of the failure (6 + 10) - 1 = 15 messages stay."""
    pairs, counts = contrast(GOLDEN, EXPLORED, extra_turns=5)
    assert [(pair.chosen.id, pair.rejected.id) for pair in pairs] == [
        ("g1", "e1"),
        ("e3", "g3"),
        ("g4", "e4"),
    ]
    assert chats(pairs[0].rejected) == chats(EXPLORED[0])[: 1 + 15]
    assert chats(pairs[0].rejected)[-1].endswith("e1 does 7"), "the agent's own message is the last"
    assert chats(pairs[0].chosen) == chats(GOLDEN[0])
    assert pairs[1].chosen == EXPLORED[2], "a success is never cut"
    assert pairs[1].rejected == GOLDEN[2]
    assert pairs[2].rejected == EXPLORED[3]
    assert counts == {
        "lose": 2, "win": 1, "tie": 1, "no_golden": 1, "no_turn": 1, "unfinished": 1,
    }  # fmt: skip


def test_alfworlds_failures_stay_whole() -> None:
    pairs, _ = contrast(GOLDEN, EXPLORED, extra_turns=None)
    assert pairs[0].rejected == EXPLORED[0]


@given(
    expert=st.integers(1, 12),
    own=st.integers(1, 60),
    extra=st.integers(0, 8),
)
def test_the_cut_is_that_of_the_message_counts(expert: int, own: int, extra: int) -> None:
    golden, failed = episode("g", "t", expert, 1.0), episode("e", "t", own, 0.0)
    (pair,), _ = contrast([golden], [failed], extra)
    # messages[: len(golden) + 2 * extra], the task among the messages of both
    assert chats(pair.rejected) == chats(failed)[: len(chats(golden)) + 2 * extra]


def test_a_file_of_pairs_holds_all_of_them(tmp_path: Path) -> None:
    pairs, _ = contrast(GOLDEN, EXPLORED, extra_turns=5)
    write_pairs(tmp_path / "one.parquet", pairs)
    write_pairs(tmp_path / "two.parquet", pairs)
    assert list(read_pairs(tmp_path / "one.parquet")) == pairs
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    write_pairs(tmp_path / "none.parquet", [])
    assert list(read_pairs(tmp_path / "none.parquet")) == []


@pytest.mark.parametrize("extra", [None, 5])
def test_both_sides_begin_with_the_same_prompt(extra: int | None) -> None:
    for pair in contrast(GOLDEN, EXPLORED, extra)[0]:
        assert chats(pair.chosen)[0] == chats(pair.rejected)[0]
