"""Conversations as other projects store them, read into one form.

ETO has ``conversations`` of ``from`` and ``value`` (its examples bare lists, with ``role`` and
``content`` beside ``from``), AgentGym adds ``loss`` flags, and OpenAI's form is ``messages`` of
``role`` and ``content``. Keys are taken in whatever mixture they come.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from step_ray.exchange.records import Rejected
from step_ray.react import ReplyError, neutralise, parse_reply
from step_ray.trajectory import Turn

_ROLES: dict[Any, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "agent": "assistant",
    "assistant": "assistant",
}
_LOSS = ("loss", "train", "loss_weight", "weight")
_OBSERVATION = "Observation:"


@dataclass(frozen=True, slots=True)
class Said:
    """One message; ``loss`` is None where the record does not say whether it is trained."""

    role: Literal["system", "user", "assistant"]
    content: str
    loss: bool | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """An episode as a record has it. Names are as recorded, "" if there are none; ``names`` are
    all that may name the task; ``reward`` is the final one, in [0, 1]."""

    instruction: str
    first: str
    turns: tuple[Turn, ...]
    names: tuple[str, ...] = ()
    env: str = ""
    split: str = ""
    task_type: str = ""
    reward: float | None = None


def chat_of(value: Any, field: str, naming: tuple[str, ...]) -> Recorded:
    """The episode of a conversation in ``field`` of a record (or of a bare list of messages).

    ``naming`` are the fields that may name the task. Raises Rejected.
    """
    record: Mapping[str, Any] = value if isinstance(value, dict) else {field: value}
    messages = record.get(field)
    if not isinstance(messages, list) or not messages:
        raise Rejected("no_messages", f"no list of messages in {field!r}")
    instruction, first, turns = episode_of([_message(item) for item in messages])
    return Recorded(
        instruction,
        first,
        turns,
        names=tuple(str(record[name]) for name in naming if record.get(name) is not None),
        env=_text(record, "env"),
        split=_text(record, "split"),
        task_type=_text(record, "task_type"),
        reward=reward_of(record.get("reward")),
    )


def episode_of(messages: list[Said]) -> tuple[str, str, tuple[Turn, ...]]:
    """(instruction, first observation, turns) of a chat.

    The instruction is the system message, or the user's first if the agent only acknowledges it
    ("OK"), or what stands before the first blank line, as in the chats of this package. A turn
    that must not be trained becomes an ``error`` of the student, any other a ``correct`` one of
    the expert. Raises Rejected for what is no alternation of observations and actions.
    """
    system = ""
    if messages[0].role == "system":
        system, messages = messages[0].content, messages[1:]
    for index, message in enumerate(messages):
        if message.role != ("user", "assistant")[index % 2]:
            raise Rejected("roles", f"message {index} is the {message.role}'s, out of turn")
    if len(messages) < 2:
        raise Rejected("no_turn", "nobody acts in this conversation")
    instruction, first = system, _observation(messages[0].content)
    if len(messages) > 3 and not _acts(messages[1].content):
        instruction = "\n".join(text for text in (system, messages[0].content) if text)
        first, messages = _observation(messages[2].content), messages[2:]
    elif not system and "\n\n" in messages[0].content:
        instruction, first = messages[0].content.split("\n\n", 1)
    turns = []
    for index in range(1, len(messages), 2):
        try:
            thought, action = parse_reply(messages[index].content)
        except ReplyError as error:
            raise Rejected("no_action", f"message {index}: {error}") from None
        answer = messages[index + 1].content if index + 1 < len(messages) else ""
        masked = messages[index].loss is False
        turns.append(
            Turn(
                thought,
                action,
                _observation(answer),
                author="student" if masked else "expert",
                verdict="error" if masked else "correct",
            )
        )
    return neutralise(instruction), first, tuple(turns)


def reward_of(value: Any) -> float | None:
    """A reward in [0, 1], None if there is none. Raises Rejected for anything else."""
    if value is None:
        return None
    try:
        reward = float(value)
    except (TypeError, ValueError):
        reward = math.nan
    if not 0 <= reward <= 1:
        raise Rejected("bad_reward", f"a reward is in [0, 1], not {value!r:.80}")
    return reward


def _message(item: Any) -> Said:
    if not isinstance(item, dict):
        raise Rejected("no_messages", f"a message is an object, not {item!r:.80}")
    role = item.get("role") if item.get("role") is not None else item.get("from")
    if not isinstance(role, str) or role not in _ROLES:
        raise Rejected("unknown_role", f"{role!r:.80}")
    content = item.get("content") if item.get("content") is not None else item.get("value")
    if isinstance(content, list):  # OpenAI's parts, and LLaMA-Factory's
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        texts = [part.get("text") if part.get("text") is not None else part.get("value")
                 for part in parts]  # fmt: skip
        whole = len(parts) == len(content) and all(isinstance(text, str) for text in texts)
        content = "".join(map(str, texts)) if whole else None
    if not isinstance(content, str):
        raise Rejected("not_text", f"a message of the {role} holds something else than text")
    return Said(_ROLES[role], content, _loss(item))


def _loss(item: Mapping[str, Any]) -> bool | None:
    for name in _LOSS:
        value = item.get(name)
        if value is not None:
            if value not in (0, 1):  # True and False among them
                raise Rejected("bad_loss", f"{name} is {value!r:.80}, neither 0 nor 1")
            return bool(value)
    return None


def _acts(text: str) -> bool:
    try:
        parse_reply(text)
    except ReplyError:
        return False
    return True


def _observation(text: str) -> str:
    """The observation of a message, without the words that announce it."""
    rest = text.removeprefix(_OBSERVATION)
    if rest == text:
        return text
    return rest[1:] if rest[:1] in (" ", "\n") else rest


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return value if isinstance(value, str) else ""
