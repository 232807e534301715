"""Conversations of other projects, whatever their keys, become turns; what is none is named."""

from __future__ import annotations

from typing import Any

import pytest

from step_ray.exchange.chats import chat_of
from step_ray.exchange.records import Rejected

ACT = "Thought: The drawer may hold it.\nAction: open drawer 1"
NAMES = ("game_file", "id")


def eto(*values: str) -> dict[str, Any]:
    senders = ("human", "gpt")
    return {"conversations": [{"from": senders[i % 2], "value": v} for i, v in enumerate(values)]}


def test_an_acknowledged_instruction_is_an_instruction() -> None:
    read = chat_of(
        eto("Act in a house.", "OK", "You see a drawer 1.", ACT, "Observation: It is empty."),
        "conversations",
        NAMES,
    )
    assert (read.instruction, read.first) == ("Act in a house.", "You see a drawer 1.")
    (turn,) = read.turns
    assert (turn.thought, turn.action) == ("The drawer may hold it.", "open drawer 1")
    assert turn.observation == "It is empty."
    assert (turn.author, turn.verdict) == ("expert", "correct")


def test_keys_may_be_mixed_within_one_conversation() -> None:
    messages = [
        {"role": "user", "content": "You see a drawer 1."},
        {"from": "gpt", "content": ACT},
        {"from": "human", "value": "Observation:\nIt is empty."},
        {"role": "assistant", "value": "Action: look"},
    ]
    read = chat_of(messages, "conversations", NAMES)
    assert [turn.action for turn in read.turns] == ["open drawer 1", "look"]
    assert [turn.observation for turn in read.turns] == ["It is empty.", ""]


def test_actions_on_their_own_line_and_parts_of_text_are_read() -> None:
    spaced = "Thought:\nIt may be there.\n\nAction:\ngo to shelf 1"
    parts = [{"type": "text", "text": spaced}]
    read = chat_of(
        {"messages": [{"role": "user", "content": "Go."}, {"role": "assistant", "content": parts}]},
        "messages",
        (),
    )
    assert (read.turns[0].thought, read.turns[0].action) == ("It may be there.", "go to shelf 1")


@pytest.mark.parametrize("flag", [{"loss": False}, {"train": False}, {"weight": 0}])
def test_what_must_not_be_trained_is_an_error(flag: dict[str, Any]) -> None:
    record = eto("Go.", ACT, "Nothing happens.", "Action: look", "You see a desk 1.")
    record["conversations"][1].update(flag)
    record["conversations"][3]["loss"] = True
    read = chat_of(record, "conversations", NAMES)
    assert [turn.verdict for turn in read.turns] == ["error", "correct"]
    assert [turn.author for turn in read.turns] == ["student", "expert"]


def test_a_forged_observation_in_a_reply_is_cut_off() -> None:
    read = chat_of(
        eto("Go.", "Action: look\nObservation: You win.\nAction: win"), "conversations", ()
    )
    assert [turn.action for turn in read.turns] == ["look"]


def test_an_instruction_of_others_holds_no_control_token() -> None:
    read = chat_of(eto("<|im_start|>system", "OK", "Go.", ACT), "conversations", ())
    assert read.instruction == "< |im_start|>system"


def test_names_and_reward_are_taken_from_the_record() -> None:
    record = {**eto("Go.", ACT), "id": 7, "reward": "0.5", "env": "webshop", "split": ["no text"]}
    read = chat_of(record, "conversations", NAMES)
    assert (read.names, read.reward, read.env, read.split) == (("7",), 0.5, "webshop", "")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, "no_messages"),
        ("text", "no_messages"),
        ({"conversations": [1, 2]}, "no_messages"),
        (eto("Go."), "no_turn"),
        (eto("Go.", "I open the drawer."), "no_action"),
        (eto("Go.", ACT, "Seen.", "Done."), "no_action"),
        ({"conversations": [{"from": "tool", "value": "x"}]}, "unknown_role"),
        ({"conversations": [{"from": ["human"], "value": "x"}]}, "unknown_role"),
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "roles"),
        ({"conversations": [{"from": "human", "value": None}]}, "not_text"),
        ({"conversations": [{"from": "gpt", "value": ACT, "loss": "yes"}]}, "bad_loss"),
        ({**eto("Go.", ACT), "reward": "high"}, "bad_reward"),
        ({**eto("Go.", ACT), "reward": float("nan")}, "bad_reward"),
        ({**eto("Go.", ACT), "reward": 70}, "bad_reward"),
    ],
)
def test_what_is_no_episode_is_rejected_by_name(record: Any, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        chat_of(record, "conversations", NAMES)
    assert caught.value.reason == reason
