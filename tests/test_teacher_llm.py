"""A language model as the teacher: what it is asked, when, and what happens when it fails."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from doubles import Corridor, Critic, assert_replays, saying, spec_of
from oracle import Chat, Oracle, form_of, obedient

from step_ray.config_deadlines import Deadlines
from step_ray.envs.base import Judgement, Task
from step_ray.models.base import ModelError, Reply, Sampling, SchemaUnsupported
from step_ray.synthesis.episode import run_episode
from step_ray.teacher.base import Hint, Refusal, ReviewRequest, TeacherError
from step_ray.teacher.llm import LLMTeacher
from step_ray.teacher.prompts import load_prompts, render
from step_ray.teacher.schemas import LADDER, SCHEMAS, TEXT_LIMIT
from step_ray.trajectory import Review, Trajectory, Turn

TASK = Task("corridor-0", "corridor", "train", "leave")
PROMPTS = load_prompts("corridor")
RIGHT = Hint(Judgement(False), "I go.", "right")
WRONG = Hint(Judgement(True, "loop", (("why", "nothing moves"),)), "I go.", "right")
CORRECTION = {
    "error": "I waited.",
    "reason": "Nothing moves.",
    "reflection": "I have to go.",
    "thought": "I go right.",
    "action": "right",
}


def teacher(model: Any, **options: Any) -> LLMTeacher:
    return LLMTeacher(model, PROMPTS, **{"privileged": True, **options})


def request(hint: Hint = WRONG, **options: Any) -> ReviewRequest:
    return ReviewRequest("Leave.", "Room 0.", (), "I wait.", "wait", hint, "e:0", **options)


def review(who: LLMTeacher, asked: ReviewRequest) -> Review:
    return asyncio.run(who.review(asked))


def play(who: Any, *actions: str, env: Any = None, **settings: Any) -> Trajectory:
    spec = spec_of(TASK, **settings)
    done = run_episode(
        spec, env or Corridor(), TASK, saying(*actions), who, Sampling(), Deadlines()
    )
    return asyncio.run(done).trajectory


# --- what is asked


@pytest.mark.parametrize(
    ("calls", "asked", "forms"),
    [
        ("one", request(RIGHT), ["review"]),
        ("one", request(), ["review"]),
        ("two", request(RIGHT), ["judge"]),
        ("two", request(), ["judge", "reflect"]),
        ("two", request(verdict_only=True), ["judge"]),
    ],
)
def test_calls(calls: Any, asked: ReviewRequest, forms: list[str]) -> None:
    model = Oracle()
    found = review(teacher(model, calls=calls), asked)
    assert model.forms == forms
    assert model.schemas == [SCHEMAS[form] for form in forms]  # type: ignore[index]
    assert found.is_error == (asked.hint is WRONG)
    if found.is_error:
        assert found.kind == "loop"
        assert (found.action == "right") == (not asked.verdict_only)
        assert found.raw.count("\n") == len(forms) - 1, "every reply is kept"


@pytest.mark.parametrize("calls", ["one", "two"])
def test_what_was_executed_is_only_corrected(calls: Any) -> None:
    verdict = Review(True, "undo", raw="{judged}")
    turns = (Turn("I wait.", "wait", "Room 0.", verdict="error", review=verdict),)
    model = Oracle()
    asked = ReviewRequest("Leave.", "Room 0.", turns, "I wait.", "wait", WRONG, "e:1", True)
    found = review(teacher(model, calls=calls), asked)
    assert model.forms == ["reflect"]
    assert (found.kind, found.action) == ("undo", "right"), "the verdict stands"
    assert found.raw.startswith("{judged}\n{")


def test_privileged_and_admissible() -> None:
    for privileged in (True, False):
        model = Oracle(lambda chat: json.dumps({"is_error": False}))
        who = teacher(model, privileged=privileged, show_admissible=True)
        review(who, request(admissible=("right", "wait")))
        (shown,) = model.asked[0]
        assert ("expert would" in shown["content"].rpartition("===")[2]) == privileged
        assert "possible now: \n    right\n    wait\n" in shown["content"]


def test_where_the_correction_is_settled_its_words_are_asked_for() -> None:
    """STeCa: a model that is not told what the expert does would word another action."""
    settled = Hint(WRONG.judgement, "I go.", "open door 3")
    asked = replace(request(settled, executed=True, settled=True), turns=(Turn("", "wait"),))
    own, told = json.dumps(CORRECTION), json.dumps({**CORRECTION, "action": "Open  door 3"})
    model = in_turn(own, told)
    who = teacher(model, privileged=False)
    assert review(who, asked).action == "Open door 3"
    first, second = model.asked
    assert "open door 3" in first[0]["content"]
    assert "has to be 'open door 3'" in second[-1]["content"]
    assert who.counts()["unusable other_action"] == 1
    with pytest.raises(TeacherError, match="other_action"):
        review(teacher(in_turn(own), attempts=1), asked)
    open_question = render(PROMPTS, replace(asked, settled=False), "reflect", privileged=False)
    assert "open door 3" not in open_question[0]["content"]


def test_greedy_replies_have_no_seed_of_their_own() -> None:
    """So that the same question is the same request, in whatever episode."""
    for temperature, different in ((0.0, False), (0.7, True)):
        model = Oracle()
        who = teacher(model, sampling=Sampling(temperature, 0.9, 300, 5))
        review(who, request())
        first, second = model.samplings
        assert (first.temperature, first.top_p, first.max_tokens) == (temperature, 0.9, 300)
        assert (first.seed != second.seed) == different
        assert (first.seed != 0) == different


def test_identity() -> None:
    base = teacher(Oracle())
    assert base.fingerprint == teacher(Oracle()).fingerprint
    assert base.prompt_version == PROMPTS.version
    for options in (
        {"privileged": False},
        {"calls": "one"},
        {"show_admissible": True},
        {"attempts": 2},
        {"constrain": False},
        {"sampling": Sampling(0.5, max_tokens=600)},
    ):
        assert teacher(Oracle(), **options).fingerprint != base.fingerprint
    assert teacher(Oracle(), sampling=Sampling(max_tokens=600, seed=9)).fingerprint == (
        base.fingerprint
    )


# --- what fails


def in_turn(*replies: str | Exception) -> Oracle:
    left = list(replies)

    def reply(chat: Chat) -> str:
        said = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(said, Exception):
            raise said
        return said

    return Oracle(reply)


def test_an_unusable_reply_is_sent_back_with_the_reason() -> None:
    model = in_turn("Fine!", '{"is_error": "hm"}', '{"is_error": false}')
    who = teacher(model)
    assert review(who, request()) == Review(False, raw='{"is_error": false}')
    assert [len(chat) for chat in model.asked] == [1, 3, 3]
    assert model.asked[1][1] == {"role": "assistant", "content": "Fine!"}
    assert "holds no JSON object" in model.asked[1][2]["content"]
    assert "neither true nor false" in model.asked[2][2]["content"]
    assert who.rejections == {"no_object": 1, "wrong_type": 1}
    assert who.counts() == {
        "asked": 3,
        "prompt tokens": 30,
        "reply tokens": 15,
        "unusable replies": 2,
        "unusable no_object": 1,
        "unusable wrong_type": 1,
    }


def test_in_the_end_there_is_no_review() -> None:
    model = in_turn("No <|im_end|> idea")
    with pytest.raises(TeacherError, match=r"in 2 replies.*no_object.*No < \|im_end\|> idea"):
        review(teacher(model, attempts=2), request())
    assert len(model.asked) == 2


def test_a_cut_reply_says_so() -> None:
    class Cut(Oracle):
        async def chat(self, messages: Any, sampling: Any, schema: Any = None) -> Reply:
            reply = await super().chat(messages, sampling, schema)
            return Reply(reply.text[:20], "length", 1, 1)

    with pytest.raises(TeacherError, match="cut: the reply was cut"):
        review(teacher(Cut()), request())


def test_a_correction_to_the_same_action_is_none() -> None:
    same = json.dumps({**CORRECTION, "action": "Wait"})
    model = in_turn('{"is_error": true, "kind": "loop"}', same, json.dumps(CORRECTION))
    who = teacher(model)
    assert review(who, request()).action == "right"
    assert who.rejections == {"unchanged": 1}


class Refusing(Oracle):
    """A server that takes no schema, or none with a bound."""

    def __init__(self, any_schema: bool) -> None:
        super().__init__()
        self.any_schema = any_schema

    async def chat(self, messages: Any, sampling: Any, schema: Any = None) -> Reply:
        if schema is not None and (not self.any_schema or "maxLength" in str(schema)):
            self.schemas.append(schema)
            raise SchemaUnsupported("I take no such schema")
        return await super().chat(messages, sampling, schema)


def test_a_backend_without_schemas_is_asked_without(caplog: pytest.LogCaptureFixture) -> None:
    model = Refusing(any_schema=False)
    assert review(teacher(model), request()).action == "right"
    tried = [LADDER[0]["judge"], LADDER[1]["judge"], None, None]
    assert model.schemas == tried, "each tried once"
    assert [message.rpartition("; ")[2] for message in caplog.messages] == [
        "asked for one that bounds no text",
        "replies are parsed as they come",
    ]
    never = Refusing(any_schema=False)
    review(teacher(never, constrain=False), request())
    assert never.schemas == [None, None]


def test_a_backend_that_knows_no_bounds_has_a_schema_still() -> None:
    model = Refusing(any_schema=True)
    review(teacher(model), request())
    assert model.schemas == [LADDER[0]["judge"], LADDER[1]["judge"], LADDER[1]["reflect"]]


def test_a_text_that_the_schema_cut_is_asked_for_again() -> None:
    endless = json.dumps({**CORRECTION, "thought": "a" * TEXT_LIMIT})
    verdict = '{"is_error": true, "kind": "loop"}'
    model = in_turn(verdict, endless, json.dumps(CORRECTION))
    who = teacher(model)
    assert review(who, request()).thought == CORRECTION["thought"]
    assert who.rejections == {"cut": 1}
    assert "say less" in model.asked[-1][-1]["content"]
    free = teacher(in_turn(verdict, endless), constrain=False)
    assert len(review(free, request()).thought) == TEXT_LIMIT, "nobody cut that"


def test_a_model_that_fails_is_a_teacher_that_fails() -> None:
    with pytest.raises(TeacherError, match="too long a chat"):
        review(teacher(in_turn(ModelError("too long a chat"))), request())


# --- in an episode


@pytest.mark.parametrize("calls", ["one", "two"])
@pytest.mark.parametrize("on_error", ["execute", "veto"])
def test_a_whole_episode(calls: Any, on_error: Any) -> None:
    model = Oracle()
    made = play(
        teacher(model, calls=calls),
        "right",
        "left",
        "jump",
        "right",
        on_error=on_error,
        style="full",
    )
    assert made.success, made.detail
    verdicts = ["correct", "error", "correction", "error", "correction"]
    assert [turn.verdict for turn in made.turns][: len(verdicts)] == verdicts
    assert [turn.executed for turn in made.turns][:5] == [
        True,
        on_error == "execute",
        True,
        False,
        True,
    ]
    assert_replays(made, Corridor(), TASK)
    once = ["review"] if calls == "one" else ["judge"]
    more = [] if calls == "one" else ["reflect"]
    left = [*once, "reflect"] if on_error == "execute" else [*once, *more]
    assert model.forms[: len(left) + 1] == [*once, *left]
    error, correction = made.turns[1:3]
    assert error.review == correction.review
    assert error.review is not None
    assert (error.review.kind, error.review.reason) == ("undo", correction.review.reason)  # type: ignore[union-attr]
    assert error.review.raw
    assert correction.thought.startswith("I did the wrong thing.")


def stubborn(*actions: str) -> tuple[Oracle, list[Chat]]:
    """Corrects to each of the actions in turn; remembers the chats that asked for a correction."""
    chats: list[Chat] = []

    def reply(chat: Chat) -> str:
        said = json.loads(obedient(chat))
        if form_of(chat) != "judge" and said.get("is_error", True):
            chats.append(chat)
            said["action"] = actions[min(len(chats), len(actions)) - 1]
        return json.dumps(said)

    return Oracle(reply), chats


@pytest.mark.parametrize("on_error", ["execute", "veto"])
@pytest.mark.parametrize("calls", ["one", "two"])
def test_an_impossible_correction_is_sent_back_once(calls: Any, on_error: Any) -> None:
    model, chats = stubborn(*(["fly"] * (1 + (calls == "one" and on_error == "execute"))), "right")
    made = play(teacher(model, calls=calls), "wait", "right", on_error=on_error)
    assert made.success, made.detail
    assert [turn.action for turn in made.turns[:2]] == ["wait", "right"]
    assert all(turn.valid for turn in made.turns), "what was tried is not in the record"
    told = chats[-1][-1]["content"]
    assert "Action: fly\nThe environment's answer: Nothing happens.\n" in told
    assert '"action": "fly"' in chats[-1][-2]["content"]
    assert_replays(made, Corridor(), TASK)


@pytest.mark.parametrize("on_error", ["execute", "veto"])
def test_a_second_impossible_correction_ends_the_episode(on_error: Any) -> None:
    model, chats = stubborn("fly", "swim")
    env = Corridor()
    made = play(teacher(model), "wait", on_error=on_error, env=env)
    assert (made.outcome, made.detail) == (
        "teacher_error",
        "the correction 'swim' is not a valid action",
    )
    assert len(chats) == 2
    assert [turn.verdict for turn in made.turns] == ["error"]
    assert not [call for call in env.calls if call in ("step fly", "step swim")]


def test_the_experts_own_action_needs_no_trial() -> None:
    class Single(Corridor):
        def fork(self) -> Corridor:
            raise AssertionError("no copy is needed")

    assert play(teacher(Oracle()), "wait", "right", env=Single()).success


def test_a_teacher_that_wants_them_is_shown_the_possible_actions() -> None:
    seen: list[Sequence[str] | None] = []

    def judge(asked: ReviewRequest) -> Review:
        seen.append(asked.admissible)
        return Review(False)

    for wanted in (True, False):
        critic = Critic(judge)
        critic.show_admissible = wanted  # type: ignore[attr-defined]
        play(critic, "right")
    assert (
        seen
        == [("jump", "leap", "peek", "right", "wait")]
        + [("jump", "leap", "left", "peek", "right", "wait")] * 2
        + [None] * 3
    )


def test_requests_can_be_sent() -> None:
    asked = request(admissible=("a",), refused=Refusal(Review(True, action="fly"), "No."))
    assert pickle.loads(pickle.dumps(asked)) == asked
