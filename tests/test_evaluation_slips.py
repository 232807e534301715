"""Errors at test time: what counts as one, against slow readings of the definitions."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from step_ray.evaluation.slips import Recovery, loops, recoveries, slips
from step_ray.trajectory import Review, Trajectory, Turn

LOOK = Turn("t", "look", "a room")
DANCE = Turn("t", "dance", "Nothing happens.", valid=False)
TAKE = Turn("t", "take", "taken", verdict="error", review=Review(True, "wrong_object"))


def episode(*turns: Turn, success: bool = False) -> Trajectory:
    return Trajectory(
        "1", "t", "e", "test", "", "", "", turns, float(success), success,
        "success" if success else "step_limit",
    )  # fmt: skip


def is_loop(turns: list[Turn], last: int) -> bool:
    """The definition, read word by word: thoughts do not count, answers do."""
    said = [(turn.action, turn.observation) for turn in turns[: last + 1]]
    return any(
        said[-length:] == said[-2 * length : -length] for length in range(1, len(said) // 2 + 1)
    )


@given(st.lists(st.sampled_from("abc"), max_size=14), st.data())
def test_loops_are_those_of_a_slow_reading(actions: list[str], data: st.DataObject) -> None:
    answers = [data.draw(st.sampled_from("xy")) if action == "a" else "x" for action in actions]
    turns = [
        Turn(f"thought {n}", action, answer)
        for n, (action, answer) in enumerate(zip(actions, answers, strict=True))
    ]
    assert loops(turns) == [is_loop(turns, last) for last in range(len(turns))]


def test_to_and_fro_is_a_loop_from_the_second_time_on() -> None:
    out, back = Turn("", "go out", "rain"), Turn("", "go in", "a room")
    assert loops([out, back, out, back, out]) == [False, False, False, True, True]
    assert loops([out, back, replace(out, observation="sun"), back]) == [False] * 4


def test_what_counts_as_an_error() -> None:
    assert slips(episode(LOOK, LOOK, DANCE, DANCE, TAKE)) == [
        *("loop", "invalid", "invalid", "wrong_object")
    ]
    unnamed = replace(TAKE, review=None)
    assert slips(episode(unnamed, replace(DANCE, executed=False))) == ["other"]
    assert slips(episode(LOOK)) == []


def test_recovery_is_counted_by_error() -> None:
    lost, won = episode(DANCE, DANCE, LOOK, TAKE), episode(LOOK, DANCE, LOOK, success=True)
    assert recoveries([lost, won, episode(LOOK, success=True)]) == {
        "invalid": Recovery(3, 1),
        "wrong_object": Recovery(1, 0),
    }
    assert recoveries([episode(LOOK)]) == {}
    assert Recovery(0, 0).rate is None
    assert Recovery(4, 1).rate == 0.25
