"""The prompts: complete, versioned, replaceable, with stable prefixes; and text stays text."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chat_tokenizers import FAMILIES, family
from hypothesis import given
from strategies import texts

from step_ray.envs.alfworld.env import ALFWorldEnv
from step_ray.envs.base import Judgement
from step_ray.models.chat import prompt_ids, renderer
from step_ray.react import neutralise
from step_ray.teacher.base import Hint, ReviewRequest, TeacherError
from step_ray.teacher.parsing import parse_review
from step_ray.teacher.prompts import (
    MAX_LISTED,
    PACKAGED,
    QUESTIONS,
    load_prompts,
    refused,
    render,
    unusable,
)
from step_ray.teacher.schemas import KINDS, SCHEMAS, Form
from step_ray.trajectory import Turn

ENVS = ("alfworld", "scienceworld", "webshop", "default")
HINT = Hint(Judgement(True, "loop", (("why", "I saw it"),)), "I go on.", "go to shelf 1")
REQUEST = ReviewRequest(
    "Do it.",
    "A room.",
    (Turn("a", "look", "A room.\nWith a shelf."), Turn("b", "fly", executed=False)),
    "c",
    "go to desk 1",
    HINT,
    "e:2",
)


def said(request: ReviewRequest, form: Form = "review", **options: bool) -> str:
    options = {"privileged": False, **options}
    (message,) = render(load_prompts("alfworld"), request, form, **options)
    assert message["role"] == "user"
    return message["content"]


# --- the files


@pytest.mark.parametrize("env", ENVS)
def test_the_examples_in_the_prompts_are_replies_as_they_should_be(env: str) -> None:
    prompts = load_prompts(env)
    examples = re.findall(r"^\{.*\}$", prompts.head, re.MULTILINE)
    reviews = [parse_review(example) for example in examples]
    assert [review.is_error for review in reviews] == [True, False]
    assert all(list(json.loads(text)) == SCHEMAS["review"]["required"] for text in examples)
    assert prompts.version.startswith(f"{env}-")


def test_the_questions_ask_for_what_the_schemas_say() -> None:
    prompts = load_prompts("alfworld")
    for form in QUESTIONS:
        keys = re.findall(r'^"(\w+)":', prompts.questions[form], re.MULTILINE)
        assert keys == SCHEMAS[form]["required"]
    for kind in KINDS:
        assert f"- {kind}:" in prompts.head
        assert f'"{kind}"' in prompts.questions["judge"]


def test_every_prompt_has_a_version_of_its_own() -> None:
    versions = {load_prompts(env).version for env in ENVS}
    assert len(versions) == len(ENVS)
    assert load_prompts("alfworld") == load_prompts("alfworld")
    assert load_prompts("mine:Env") == load_prompts("default") == load_prompts("../alfworld")
    assert load_prompts("core") == load_prompts("judge") == load_prompts("default")


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "alfworld.md").write_bytes("Ein Haus.\r\nMit Türen.\r\n".encode())
    mine, packaged = load_prompts("alfworld", tmp_path), load_prompts("alfworld")
    assert "\n\nEin Haus.\nMit Türen.\n\n" in mine.head
    assert mine.head.startswith((PACKAGED / "core.md").read_text(encoding="utf-8").strip())
    assert mine.version != packaged.version
    assert mine.questions == packaged.questions
    (tmp_path / "judge.md").write_text("Well?")
    assert load_prompts("alfworld", tmp_path).version != mine.version
    (tmp_path / "corridor.md").write_text("A corridor.")
    assert "A corridor." in load_prompts("corridor", tmp_path).head


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (None, b"", "no file"),
        ("alfword.md", b"x", "alfword; a folder of prompts holds"),
        ("core.md", b" \n", "empty"),
        ("core.md", b"x" * 200_000, "over"),
        ("core.md", b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_folder_that_is_none(
    name: str | None, content: bytes, problem: str, tmp_path: Path
) -> None:
    if name:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TeacherError, match=problem):
        load_prompts("alfworld", tmp_path)


# --- what is shown


def test_a_question_in_full() -> None:
    shown = said(REQUEST, "judge").partition("=== The episode ===\n")[2]
    assert shown.startswith(
        "Instruction: Do it.\n"
        "First observation: A room.\n"
        "Turn 1\nThought: a\nAction: look\nObservation: A room.\n    With a shelf.\n"
        "Turn 2\nThought: b\nAction: fly\nNot executed, as it was an error.\n"
        "Turn 3\nThought: c\nAction: go to desk 1\n"
        "\n=== The question ===\n"
        "The last turn is Turn 3; it is proposed and has not been executed.\n"
        "Judge the last turn."
    )


def test_an_executed_turn_is_the_last_of_the_history() -> None:
    done = (*REQUEST.turns, Turn("c", "go to desk 1", "A desk.", verdict="error"))
    shown = said(replace(REQUEST, turns=done, executed=True), "reflect")
    assert shown.count("go to desk 1") == 1
    assert "Action: go to desk 1\nObservation: A desk.\n\n=== The question ===\n" in shown
    assert "Turn 3; it has been executed." in shown


def test_the_hint_is_privileged() -> None:
    assert "expert would do now: go to shelf 1\nWhy: I go on.\n" in said(REQUEST, privileged=True)
    assert "it is an error (loop). I saw it.\n" in said(REQUEST, privileged=True)
    for shown in (said(REQUEST), said(replace(REQUEST, hint=None), privileged=True)):
        question = shown.rpartition("===")[2]
        assert "shelf 1" not in question
        assert "an expert would" not in question


def test_possible_actions_are_shown_if_there_are_any() -> None:
    assert "possible now" not in said(REQUEST).rpartition("===")[2]
    some = said(replace(REQUEST, admissible=("go to desk 1", "look")))
    assert "Actions that are possible now: \n    go to desk 1\n    look\n" in some
    many = said(replace(REQUEST, admissible=tuple(f"take x {n}" for n in range(MAX_LISTED + 7))))
    assert "\nand 7 more\n" in many
    assert f"x {MAX_LISTED}\n" not in many


@given(texts(), texts(), texts(), texts(), texts())
def test_what_is_shown_is_data(a: str, b: str, c: str, d: str, e: str) -> None:
    """No text begins a line of the frame, and none is a control token."""
    evil = ReviewRequest(
        a,
        b,
        (Turn(c, d, e), Turn(d, e, a, author="teacher")),
        c,
        d,
        Hint(Judgement(True, "loop", (("why", e),)), a, b or "x"),
        "k",
        admissible=(a, b),
    )
    tame = ReviewRequest(
        "-", "-", (Turn("-", "-", "-"), Turn("-", "-", "-", author="teacher")), "-", "-",
        Hint(Judgement(True, "loop", (("why", "-"),)), "-", "-"), "k", admissible=("-", "-"),
    )  # fmt: skip
    left = re.compile(r"^(?:\w[^:\n]*:|\S[^:\n]*)", re.MULTILINE)
    frames = [left.findall(said(request, privileged=True)) for request in (evil, tame)]
    assert frames[0] == frames[1]
    shown = said(evil, privileged=True)
    assert neutralise(shown) == shown
    assert shown.splitlines() == shown.split("\n")[: len(shown.splitlines())]


def test_what_is_added_after_a_reply() -> None:
    bad = unusable("<|im_end|>" + "x" * 9000, "missing:\nthe key\naction")
    assert [message["role"] for message in bad] == ["assistant", "user"]
    assert len(bad[0]["content"]) == 2000
    assert bad[0]["content"].startswith("< |im_end|>")
    assert "missing: the key action" in bad[1]["content"]
    assert unusable("", "empty")[0]["content"] == "(nothing)"
    told = refused('{"action": "fly"}', "fly", "Nothing\nhappens.")[1]["content"]
    assert "Action: fly\nThe environment's answer: Nothing\n    happens.\n" in told


# --- stable prefixes


def walk(env: ALFWorldEnv, number: int, length: int = 5) -> list[ReviewRequest]:
    """The requests of the first turns of an episode, as a monitored one makes them."""
    task = env.tasks("train")[number]
    first = env.reset(task)
    turns: list[Turn] = []
    requests = []
    for _ in range(length):
        expert = env.expert()
        if expert is None:
            break
        hint = Hint(env.judge(expert.action), expert.thought, expert.action)
        words = (first.instruction, first.text, tuple(turns), expert.thought, expert.action)
        requests.append(ReviewRequest(*words, hint, "k", admissible=tuple(env.admissible())))
        turns.append(replace(expert, observation=env.step(expert.action).observation))
    return requests


@pytest.fixture(scope="module")
def requests() -> list[list[ReviewRequest]]:
    env = ALFWorldEnv(games={"train": 3, "valid_seen": 0, "valid_unseen": 0}, seed=5)
    found = [walk(env, number) for number in range(3)]
    env.close()
    return found


def common(a: Any, b: Any) -> Any:
    """The longest prefix of both."""
    size = next(
        (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    return a[:size]


def test_prefixes_are_as_long_as_they_can_be(requests: list[list[ReviewRequest]]) -> None:
    for privileged in (False, True):
        shown = [[said(r, "judge", privileged=privileged) for r in one] for one in requests]
        for one in shown:
            for now, later in itertools.pairwise(one):
                known = now.partition("\n=== The question ===\n")[0]
                assert later.startswith(known), "all of the episode, the proposal included"
        for one, other in itertools.pairwise(shown):
            shared = common(one[0], other[0])
            assert "\nFirst observation: " in shared, "all but the task itself"
        for one, texts_of_one in zip(requests, shown, strict=True):
            reflect = said(one[0], "reflect", privileged=privileged)
            assert "=== The question ===" in common(reflect, texts_of_one[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_prefixes_in_tokens(name: str, requests: list[list[ReviewRequest]]) -> None:
    """What is common as text is common as tokens, up to a token that reaches over its end."""
    tokenizer, prompts = family(name), load_prompts("alfworld")
    encoder = renderer(tokenizer).encoder
    flat = [request for one in requests for request in one]
    chats = [render(prompts, request, "judge", privileged=False) for request in flat]
    ids = [prompt_ids(chat, tokenizer) for chat in chats]
    for index in range(1, len(flat)):
        tokens = common(ids[index - 1], ids[index])
        text = [encoder.decode(each) for each in (ids[index - 1], ids[index])]
        assert len(common(*text)) - len(encoder.decode(tokens)) < 16
        assert len(tokens) > 0.5 * len(ids[index - 1])
