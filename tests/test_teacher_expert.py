"""The expert teacher words the environment's judgement, and corrections read as they should."""

from __future__ import annotations

import asyncio
import pickle
import random
import re
from dataclasses import replace

import pytest
from alfworld_games import generated

from step_ray.envs.alfworld.belief import Belief
from step_ray.envs.alfworld.env import first_text
from step_ray.envs.alfworld.expert import next_turn
from step_ray.envs.alfworld.judge import judge
from step_ray.envs.base import Judgement
from step_ray.teacher.base import (
    Hint,
    ReviewRequest,
    TeacherError,
    clause,
    correction_thought,
    sentence,
)
from step_ray.teacher.expert import ExpertTeacher
from step_ray.teacher.schemas import KINDS
from step_ray.trajectory import Review, Turn

EVERY = (*KINDS, "something else")
FACTS = (
    ("cause", "not_there"),
    ("why", "I am not at fridge 1"),
    ("do", "open fridge 1"),
    ("did", "opened fridge 1"),
)
FIX = ("I go to fridge 1 first.", "go to fridge 1")


def request(judgement: Judgement, key: str = "e:0", action: str = "open fridge 1") -> ReviewRequest:
    hint = Hint(judgement, *FIX)
    return ReviewRequest("Do it.", "A room.", (Turn("t", "look", "o"),), "x", action, hint, key)


def review(asked: ReviewRequest, executed: bool = True) -> Review:
    return asyncio.run(ExpertTeacher().review(replace(asked, executed=executed)))


def test_no_error_no_words() -> None:
    assert review(request(Judgement(False))) == Review(is_error=False)


def test_without_a_hint_it_refuses() -> None:
    asked = replace(request(Judgement(False)), hint=None)
    with pytest.raises(TeacherError, match="judgement"):
        review(asked)


def test_without_an_experts_turn_it_cannot_correct() -> None:
    asked = replace(request(Judgement(True, "loop")), hint=Hint(Judgement(True, "loop"), "", ""))
    with pytest.raises(TeacherError, match="e:0"):
        review(asked)


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("executed", [True, False])
def test_a_review_has_all_its_parts(kind: str, executed: bool) -> None:
    found = review(request(Judgement(True, kind, FACTS)), executed)
    assert found.is_error
    assert found.kind == kind
    assert "open" in found.error
    assert found.reason == "I am not at fridge 1."
    assert "go to fridge 1" in found.reflection
    assert (found.thought, found.action) == FIX
    for text in (found.error, found.reason, found.reflection):
        assert text.endswith(".")
        assert "\n" not in text
        assert "{" not in text


@pytest.mark.parametrize("kind", EVERY)
def test_the_wording_varies_with_the_key_and_is_reproducible(kind: str) -> None:
    judgement = Judgement(True, kind, FACTS)
    found = [review(request(judgement, f"e:{n}")) for n in range(40)]
    assert found == [review(request(judgement, f"e:{n}")) for n in range(40)]
    assert len({one.error for one in found}) > 1
    assert len({one.reflection for one in found}) > 1
    for executed in (True, False):
        thoughts = {
            correction_thought(one, executed=executed, key=f"e:{n}") for n, one in enumerate(found)
        }
        assert len(thoughts) > 1


def test_an_action_without_words_for_it_is_quoted_and_cut() -> None:
    facts = (("cause", "no_command"), ("why", "that is no command"), ("do", ""), ("did", ""))
    for number in range(10):
        action = f"go\n  {number} " + "{x}" * 500
        found = review(request(Judgement(True, "invalid", facts), f"e:{number}", action))
        assert f'"go {number} ' in found.error
        assert len(found.error) < 200


@pytest.mark.parametrize("kind", EVERY)
def test_past_tense_is_for_what_was_executed(kind: str) -> None:
    def errors(executed: bool) -> set[str]:
        judgement = Judgement(True, kind, FACTS)
        return {review(request(judgement, f"{n}"), executed).error for n in range(20)}

    assert any(re.search("opened|tried|was|brought|put it", text) for text in errors(True))
    assert not any(re.search("opened|tried|was|brought|put it", text) for text in errors(False))
    assert not request(Judgement(True, kind)).executed, "a proposal, unless it is said otherwise"


REVIEW = Review(
    is_error=True,
    kind="invalid",
    error="I tried to open fridge 1.",
    reason="I am not at fridge 1. It is far away.",
    reflection="I have to go there",
    thought="I go to fridge 1 first.",
    action="go to fridge 1",
)


def test_correction_styles() -> None:
    assert correction_thought(REVIEW, style="bare") == "I go to fridge 1 first."
    assert correction_thought(REVIEW, style="full") == (
        "I tried to open fridge 1. I am not at fridge 1. It is far away. I have to go there. "
        "I go to fridge 1 first."
    )
    brief = correction_thought(REVIEW)
    assert brief.endswith("I am not at fridge 1. I go to fridge 1 first.")
    assert len(brief.split()) < 25


def test_brief_corrections_tell_whether_the_error_was_executed() -> None:
    def all_of(executed: bool) -> set[str]:
        return {correction_thought(REVIEW, executed=executed, key=f"{n}") for n in range(50)}

    assert "Nothing happened, because I am not at fridge 1. I go to fridge 1 first." in all_of(True)
    assert not all_of(True) & all_of(False)


def test_a_reason_that_opens_the_thought_is_said_once() -> None:
    twice = replace(REVIEW, thought="I am not at fridge 1. I go there.")
    assert correction_thought(twice).count("I am not at fridge 1") == 1
    alone = replace(REVIEW, thought="I am not at fridge 1.")
    assert correction_thought(alone).endswith("I am not at fridge 1.")


def test_a_correction_without_reasons_is_the_thought() -> None:
    bare = Review(is_error=True, thought="I go\nthere.", action="go")
    for style in ("full", "brief", "bare"):
        expected = "I go there."
        assert correction_thought(bare, style=style) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mug 2 is not clean yet.", "mug 2 is not clean yet"),
        ("I am not there.", "I am not there"),
        ("I'm not there!", "I'm not there"),
        ("LLMs err. Often.", "LLMs err"),
        ("  two\nlines ", "two lines"),
        ("", ""),
    ],
)
def test_clauses(text: str, expected: str) -> None:
    assert clause(text) == expected


def test_sentences() -> None:
    assert sentence(" mug 2\n is here ") == "Mug 2 is here."
    assert sentence("Why?") == "Why?"
    assert sentence(" ") == ""


def test_requests_travel_between_processes() -> None:
    asked = request(Judgement(True, "loop", FACTS))
    assert pickle.loads(pickle.dumps(asked)) == asked


def test_every_error_of_a_random_player_is_worded() -> None:
    """Real judgements: each is corrected in a sentence or three that name what is to be done."""
    kinds = set()
    for number, game in enumerate(generated(5, seed=3)):
        rng = random.Random(number)
        state = game.initial()
        belief = Belief.from_reset(first_text(game), game.dialect)
        for turn in range(30):
            admissible = state.admissible()
            thought, fix = next_turn(belief, game.goal, admissible, state.can_contain)
            action = rng.choice([*admissible, fix, "open fridge 1", "take mug 1 from shelf 1"])
            judgement = judge(belief, game.goal, action, admissible, state.can_contain)
            hint = Hint(judgement, thought, fix)
            key = f"{number}:{turn}"
            found = review(ReviewRequest("", "", (), "", action, hint, key))
            if judgement.is_error:
                kinds.add(judgement.kind)
                assert found.action == fix
                assert found.reason
                brief = correction_thought(found, key=key)
                assert 8 <= len(brief.split()) <= 60, brief
                assert "\n" not in brief
                assert ".." not in brief
            text, _ = state.step(action)
            belief.update(action, text)
            if state.won():
                break
    assert kinds >= {"invalid", "loop", "wrong_object", "detour"}
