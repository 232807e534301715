"""Every format says of every message whether it is trained, and no flagged turn is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import episodes

from step_ray.exchange import formats
from step_ray.exchange.chats import chat_of
from step_ray.exchange.formats import LeftOut, Row, lines_of, trl_preference
from step_ray.react import ReplyError, format_turn, neutralise, parse_reply, to_messages
from step_ray.training.preferences import Pair
from step_ray.trajectory import Trajectory, Turn

Said = list[tuple[str, str, bool]]
PLAIN = ("messages", "agentgym", "llamafactory", "trl")  # cannot mask half a message


def episode(*turns: Turn) -> Trajectory:
    return Trajectory(
        "1", "t", "house", "train", "pick", "Act.", "You see a shelf.", turns, 1.0, True, "success"
    )


def executed() -> st.SearchStrategy[Trajectory]:
    """Monitored episodes in which every error was executed: one turn a message."""
    return episodes().map(
        lambda one: dataclasses.replace(
            one, turns=tuple(dataclasses.replace(turn, executed=True) for turn in one.turns)
        )
    )


WRONG = Turn("I try.", "fly", "Nothing happens.", verdict="error")
RIGHT = Turn("That failed.", "go to shelf 1", "A mug.", author="teacher", verdict="correction")
LAST = Turn("There it is.", "take mug 1", "Done.")
EXECUTED = episode(WRONG, RIGHT, LAST)
VETOED = episode(dataclasses.replace(WRONG, executed=False, observation=""), RIGHT, LAST)


def rows(form: str, trajectory: Trajectory) -> list[Row]:
    return list(formats.TEXT[form](trajectory, lines_of(trajectory)))


def openai(row: Row, flag: str) -> Said:
    return [(m["role"], m["content"], bool(m[flag])) for m in row["messages"]]


def sharegpt(row: Row) -> Said:
    roles = {"human": "user", "gpt": "assistant"}
    return [(roles[m["from"]], m["value"], m["loss"] is True) for m in row["conversations"]]


def weighted(row: Row) -> Said:
    assert all([part["type"] for part in m["content"]] == ["text"] for m in row["messages"])
    return [(m["role"], m["content"][0]["value"], m["loss_weight"] == 1.0) for m in row["messages"]]


READERS: dict[str, Callable[[Row], Said]] = {
    "messages": lambda row: openai(row, "loss"),
    "agentgym": sharegpt,
    "llamafactory": weighted,
    "axolotl": lambda row: openai(row, "train"),
}


def meant(trajectory: Trajectory) -> Said:
    """The chat and its mask, written out from the turns alone, one message a turn."""
    first = to_messages(trajectory)[0].content
    said: Said = [("user", first, False)]
    for turn, message in zip(trajectory.turns, to_messages(trajectory)[1::2], strict=True):
        said.append(("assistant", message.content, turn.verdict != "error"))
        said.append(("user", "", False))
    observed = [message.content for message in to_messages(trajectory)[2::2]]
    for index, text in enumerate(observed):
        said[2 + 2 * index] = ("user", text, False)
    return said[: len(to_messages(trajectory))]


@pytest.mark.parametrize("form", READERS)
@given(trajectory=executed())
def test_any_episode_keeps_its_texts_and_its_mask(form: str, trajectory: Trajectory) -> None:
    (row,) = rows(form, trajectory)
    assert READERS[form](row) == meant(trajectory)


@given(trajectory=executed())
def test_trl_trains_each_trained_message_after_all_before_it(trajectory: Trajectory) -> None:
    chat = meant(trajectory)
    expected = [
        {"prompt": [_openai(m) for m in chat[:i]], "completion": [_openai(chat[i])]}
        for i in range(len(chat))
        if chat[i][2]
    ]
    assert rows("trl", trajectory) == expected


@pytest.mark.parametrize("form", READERS)
@given(trajectory=episodes())
def test_what_is_exported_can_be_imported(form: str, trajectory: Trajectory) -> None:
    trajectory = as_parsed(trajectory)
    field = "conversations" if form == "agentgym" else "messages"
    (row,) = rows(form, trajectory)
    read = chat_of(row, field, ("task",))
    again = dataclasses.replace(
        trajectory,
        instruction=read.instruction,
        initial_observation=read.first,
        turns=read.turns,
    )
    assert lines_of(again) == lines_of(trajectory)
    assert [m.as_dict() for m in to_messages(again)] == [
        m.as_dict() for m in to_messages(trajectory)
    ]


def as_parsed(trajectory: Trajectory) -> Trajectory:
    """The trajectory with all turns executed and all texts as they are when they are read."""
    turns = []
    for turn in trajectory.turns:
        try:
            thought, action = parse_reply(format_turn(turn.thought, turn.action))
        except ReplyError:
            thought, action = "", "look"
        turns.append(dataclasses.replace(turn, thought=thought, action=action, executed=True))
    return dataclasses.replace(
        trajectory, turns=tuple(turns), instruction=neutralise(trajectory.instruction)
    )


@pytest.mark.parametrize("form", PLAIN)
def test_half_a_message_cannot_be_masked_so_it_is_left_out(form: str) -> None:
    with pytest.raises(LeftOut) as caught:
        rows(form, VETOED)
    assert caught.value.reason == "half_masked_message"


def test_axolotl_is_told_which_characters_of_a_message_are_trained() -> None:
    (row,) = rows("axolotl", VETOED)
    message = row["messages"][1]
    assert message["train"] is True
    wrong, right = message["train_detail"]
    text = message["content"]
    assert text[wrong["begin_offset"] : wrong["end_offset"] + 1] == "Thought: I try.\nAction: fly\n"
    assert text[right["begin_offset"] : right["end_offset"] + 1].startswith("Thought: That failed.")
    assert (wrong["train"], right["train"], right["end_offset"]) == (False, True, len(text) - 1)
    assert all(m["train_detail"] is None for m in row["messages"] if m is not message)


def test_policies_decide_what_is_trained() -> None:
    def trained(mask: Any) -> list[bool]:
        return [line.trained for line in lines_of(EXECUTED, mask) if line.role == "assistant"]

    assert trained("partial") == [False, True, True]
    assert trained("none") == [True, True, True]
    assert trained("corrections_only") == [False, True, False]
    with pytest.raises(LeftOut, match="nothing_to_train"):
        lines_of(episode(LAST), "corrections_only")


def _openai(message: tuple[str, str, bool]) -> dict[str, str]:
    return {"role": message[0], "content": message[1]}


def test_a_pair_of_steps_is_a_row_for_dpo() -> None:
    better = episode(WRONG, RIGHT)
    worse = episode(WRONG, dataclasses.replace(RIGHT, action="wait", verdict="correct"))
    row = trl_preference(Pair(better, worse, shared_turns=1))
    assert [message["role"] for message in row["prompt"]] == ["user", "assistant", "user"]
    assert row["chosen"] == [
        {"role": "assistant", "content": "Thought: That failed.\nAction: go to shelf 1"}
    ]
    assert row["rejected"] == [
        {"role": "assistant", "content": "Thought: That failed.\nAction: wait"}
    ]


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        (EXECUTED, episode(WRONG, LAST), "several_messages"),
        (episode(LAST, RIGHT), episode(WRONG, RIGHT), "several_messages"),
        (episode(RIGHT, WRONG), episode(RIGHT, LAST), "chosen_is_masked"),
        (episode(WRONG), episode(LAST), "nothing_to_train"),
        (episode(*VETOED.turns[:2]), episode(LAST), "half_masked_message"),
    ],
)
def test_pairs_that_trls_loss_would_spoil_are_left_out(
    chosen: Trajectory, rejected: Trajectory, reason: str
) -> None:
    with pytest.raises(LeftOut) as caught:
        trl_preference(Pair(chosen, rejected))
    assert caught.value.reason == reason
