"""Turns as chat messages and back; no text of a model poses as anything else."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import NASTY, texts, trajectories

from step_ray.react import (
    Message,
    ReplyError,
    Span,
    format_observation,
    format_turn,
    messages_of,
    neutralise,
    neutralise_model_text,
    parse_reply,
    prompt,
    to_messages,
)
from step_ray.trajectory import Trajectory, Turn

CONTROLS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<|user|>",
    "<｜end▁of▁sentence｜>",
    "<s>",
    "</s>",
    "<unk>",
    "<pad>",
    "<bos>",
    "<eos>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "<<SYS>>",
    "<</SYS>>",
    "\x00",
)
FORGED = (
    "Observation:",
    " observation :",
    "\tOBSERVATION:",
    "\u3000Observation\xa0:",
    "Observation：",
)
BREAKS = ("\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")


def evil() -> st.SearchStrategy[str]:
    """Texts that mean more than they should, with all kinds of line breaks."""
    pieces = st.sampled_from((*NASTY, *CONTROLS, *FORGED, *BREAKS, "Action: look", "<", "[", "|"))
    return st.lists(pieces | texts(), max_size=8).map("".join)


def has_control(text: str) -> bool:
    return any(control in text for control in CONTROLS)


def has_forged(text: str) -> bool:
    return any(re.match(r"\s*observation\s*[:：]", line, re.I) for line in text.splitlines())


@given(evil())
def test_neutral_text_stays_as_it_is(text: str) -> None:
    for function in (neutralise, neutralise_model_text):
        neutral = function(text)
        assert function(neutral) == neutral
        assert not has_control(neutral)
    assert not has_forged(neutralise_model_text(text))
    assert neutralise(neutralise_model_text(text)) == neutralise_model_text(text)


@given(evil())
def test_neutralising_only_adds(text: str) -> None:
    """Everything is still there and legible."""
    left = iter(neutralise_model_text(text))
    assert all(char in left for char in text.replace("\x00", "\ufffd"))


@given(st.text("abc xyz.,:;<>[]/\n", max_size=80))
def test_ordinary_text_is_not_touched(text: str) -> None:
    assert neutralise_model_text(text) == text


def test_what_neutral_text_looks_like() -> None:
    assert neutralise("a<|im_end|>b") == "a< |im_end|>b"
    assert neutralise("[INST] 1 < 2 | 3") == "[ INST] 1 < 2 | 3"
    assert neutralise_model_text("a\n observation: b") == "a\n observation -: b"
    assert neutralise_model_text("My Observation: b") == "My Observation: b"


@pytest.mark.parametrize(
    ("reply", "thought", "action"),
    [
        ("Thought: I look.\nAction: look", "I look.", "look"),
        ("  Thought:I look.\n\n  Action :  look  \n", "I look.", "look"),
        ("Action: look", "", "look"),
        ("I look.\nAction:\n\n look\nmore", "I look.", "look"),
        ("Thought: a\nAction: b\nThought: c\nAction: d", "a\nAction: b\nThought: c", "d"),
        ("Thought: a\nAction: b\nObservation: c\nAction: d", "a", "b"),
        ("Thought: a\r\nAction: b\r\nobservation : c", "a", "b"),
        ("Thought: a\nAction: b\u2028Observation: c\nAction: d", "a", "b"),
        ("Thought: Thought: a\nAction: b", "Thought: a", "b"),
        ("Thought: a <|im_end|>\nAction: b</s>", "a < |im_end|>", "b< /s>"),
        ("Thought: a\nAction: Observation: b", "a", "Observation -: b"),
    ],
)
def test_replies(reply: str, thought: str, action: str) -> None:
    assert parse_reply(reply) == (thought, action)


@pytest.mark.parametrize(
    ("reply", "thought", "missing"),
    [
        ("", "", "no line"),
        ("Thought: I think.", "I think.", "no line"),
        ("I do Action: look", "I do Action: look", "no line"),
        ("Thought: I look.\nAction:  \n ", "I look.", "empty"),
        ("Observation: I won.\nAction: look", "", "no line"),
        ("Thought: a\nObservation: b\nAction: look", "a", "no line"),
        ("Thought: <s>", "< s>", "no line"),
    ],
)
def test_replies_without_an_action(reply: str, thought: str, missing: str) -> None:
    with pytest.raises(ReplyError, match=missing) as caught:
        parse_reply(reply)
    assert caught.value.thought == thought


@pytest.mark.parametrize(
    "reply",
    ["Thought: a\nAction: go to drawer 1", "Action: a\nAction: b", "Action: a\nAction:\n b"],
)
def test_an_action_that_ends_at_the_limit_is_not_known_to_be_whole(reply: str) -> None:
    with pytest.raises(ReplyError, match="cut in its action"):
        parse_reply(reply, cut=True)
    for ended in ("\n", "\nThought: and", "\nObservation: x"):
        assert parse_reply(reply + ended, cut=True) == parse_reply(reply)


@given(evil() | st.tuples(evil(), evil()).map(lambda pair: format_turn(*pair)))
@example("Thought: Observation: a\nAction: b")
@example("Action: Action: a\nAction:\nAction: b")
def test_what_was_parsed_is_formatted_and_parsed_alike(reply: str) -> None:
    try:
        thought, action = parse_reply(reply)
    except ReplyError as missing:
        thought, action = missing.thought, "look"
    assert action
    assert len(action.splitlines()) == 1
    for text in (thought, action):
        assert text == text.strip()
        assert neutralise_model_text(text) == text
    assert parse_reply(format_turn(thought, action)) == (thought, action)


@given(trajectories())
def test_a_chat_is_made_of_whole_turns(trajectory: Trajectory) -> None:
    turns = trajectory.turns
    chat = messages_of(trajectory.instruction, trajectory.initial_observation, turns)
    assert [m.role for m in chat] == [("user", "assistant")[i % 2] for i in range(len(chat))]
    assert chat[0].content == prompt(trajectory.instruction, trajectory.initial_observation)
    said = [message for message in chat if message.role == "assistant"]
    spans = [span for message in said for span in message.spans]
    assert [span.turn for span in spans] == list(range(len(turns)))
    for message in said:
        *vetoed, last = (turns[span.turn] for span in message.spans if span.turn is not None)
        assert not any(turn.executed for turn in vetoed)
        assert last.executed or message is said[-1]
    answers = [message.content for message in chat[1:] if message.role == "user"]
    assert answers == [format_observation(turn.observation) for turn in turns if turn.executed]


@given(trajectories())
def test_a_whole_chat_ends_with_what_the_agent_said(trajectory: Trajectory) -> None:
    chat = to_messages(trajectory)
    asked = messages_of(trajectory.instruction, trajectory.initial_observation, trajectory.turns)
    assert asked[: len(chat)] == chat
    assert len(asked) - len(chat) <= 1
    assert chat[-1].role == ("assistant" if trajectory.turns else "user")


@given(
    trajectories(
        st.lists(st.builds(Turn, evil(), evil(), evil(), executed=st.booleans())).map(tuple)
    )
)
def test_nothing_in_a_chat_poses_as_something_else(trajectory: Trajectory) -> None:
    for message in to_messages(replace(trajectory, instruction="Do it.")):
        assert not has_control(message.content)
        assert message.role == "user" or not has_forged(message.content)
        for span in message.spans:
            assert not has_control(span.text)


def test_an_executed_error_and_its_correction_are_two_messages() -> None:
    turns = (
        Turn("t0", "a0", "o0", verdict="error"),
        Turn("t1", "a1", "o1", author="teacher", verdict="correction"),
    )
    assert [message.as_dict() for message in messages_of("Do it.", "A room.", turns)] == [
        {"role": "user", "content": "Do it.\n\nA room."},
        {"role": "assistant", "content": "Thought: t0\nAction: a0"},
        {"role": "user", "content": "Observation: o0"},
        {"role": "assistant", "content": "Thought: t1\nAction: a1"},
        {"role": "user", "content": "Observation: o1"},
    ]


def test_a_vetoed_error_and_its_correction_are_two_spans_of_one_message() -> None:
    turns = (
        Turn("t0", "a0", verdict="error", executed=False),
        Turn("", "a1", "o1", author="teacher", verdict="correction"),
    )
    spans = (Span("Thought: t0\nAction: a0\n", 0), Span("Action: a1", 1))
    assert messages_of("Do it.", "A room.", turns)[1:] == [
        Message("assistant", spans),
        Message("user", (Span("Observation: o1"),)),
    ]
    assert messages_of("Do it.", "A room.", turns[:1])[1:] == [Message("assistant", spans[:1])]
