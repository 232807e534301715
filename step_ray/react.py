"""How a trajectory reads as text: ReAct turns as chat messages, and back.

A chat is: user = instruction, blank line, first observation; assistant = ``Thought: ...`` and
``Action: ...``; user = ``Observation: ...``. Each assistant message is a list of spans, one per
turn it holds, so that the loss mask can tell a vetoed error from the correction in one message.

Text from models and environments is data. :func:`neutralise` keeps it from posing as anything
else: a control token of a chat template or a forged observation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from step_ray.trajectory import Trajectory, Turn

Role = Literal["system", "user", "assistant"]


class ReplyError(ValueError):
    """A model's reply holds no action: says what is missing. ``thought`` is what there is."""

    def __init__(self, missing: str, thought: str = "") -> None:
        super().__init__(missing)
        self.thought = thought


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a message. ``turn`` is the index of the turn it renders, None for a prompt."""

    text: str
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message; ``content`` is the concatenation of its spans."""

    role: Role
    spans: tuple[Span, ...]

    @property
    def content(self) -> str:
        return "".join(span.text for span in self.spans)

    def as_dict(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


# Markers that chat templates of current model families give a meaning to. A blank after the first
# character keeps the text legible and takes the meaning away.
_CONTROL = re.compile(
    r"<(?=\|[^<>|]{1,64}\|>)"  # <|im_end|>, <|eot_id|>, ...
    r"|<(?=/?s>|/?unk>|/?pad>|bos>|eos>|start_of_turn>|end_of_turn>|</?SYS>>|<SYS>>)"
    r"|<(?=[｜|]\w)"  # full-width variants
    r"|\[(?=/?INST\]|/?SYSTEM_PROMPT\])",
)
# Lines as str.splitlines() has them: some readers take more than "\n" for the end of one.
_BREAKS = r"\r\v\f\x1c-\x1e\x85\u2028\u2029"
_FORGED = re.compile(
    rf"(?:^|(?<=[{_BREAKS}]))([^\S\n{_BREAKS}]*)(Observation)(?=[^\S\n{_BREAKS}]*[:\uff1a])",
    re.MULTILINE | re.IGNORECASE,
)
_ACTION = re.compile(r"^[ \t]*Action[ \t]*:", re.MULTILINE)
_THOUGHT = re.compile(r"\A\s*Thought[ \t]*:")


def neutralise(text: str) -> str:
    """Takes the meaning from chat control markers and NULs; idempotent and legible."""
    text = text.replace("\x00", "\ufffd")
    return _CONTROL.sub(lambda found: found.group(0) + " ", text)


def neutralise_model_text(text: str) -> str:
    """:func:`neutralise`, and no line of the text can pose as an observation."""
    return _FORGED.sub(lambda found: f"{found.group(1)}{found.group(2)} -", neutralise(text))


def parse_reply(reply: str, *, cut: bool = False) -> tuple[str, str]:
    """(thought, action) of a model's reply; what follows a forged observation is dropped.

    The action is the text after the last ``Action:`` line, on one line. Everything before it,
    without the leading ``Thought:``, is the thought: a reply that takes its own first action back
    (a self-correction in one message) keeps that text as part of its thought.

    ``cut``: the reply ended at the limit of its length, so an action that it ends in is not known
    to be whole ("go to drawer 1" of "go to drawer 10") and counts as missing.

    Raises :class:`ReplyError` if there is no action.
    """
    forged = _FORGED.search(reply)
    if forged:
        reply = reply[: forged.start()]
    actions = list(_ACTION.finditer(reply))
    before = reply[: actions[-1].start()] if actions else reply
    thought = neutralise_model_text(_THOUGHT.sub("", before).strip())
    if not actions:
        raise ReplyError("no line of the reply begins with 'Action:'", thought)
    rest = reply[actions[-1].end() :].lstrip()
    lines = rest.splitlines(keepends=True)
    if not lines:
        raise ReplyError("the reply's 'Action:' line is empty", thought)
    if cut and not forged and lines[0].splitlines() == [lines[0]]:
        raise ReplyError("the reply is cut in its action", thought)
    return thought, neutralise_model_text(lines[0].strip())


def format_turn(thought: str, action: str) -> str:
    """The assistant's text of one turn; a turn without a thought is its action alone."""
    return f"Thought: {thought}\nAction: {action}" if thought else f"Action: {action}"


def format_observation(observation: str) -> str:
    """The user message that carries an observation."""
    return f"Observation: {neutralise(observation)}"


def prompt(instruction: str, initial_observation: str) -> str:
    """The first user message. The instruction comes first so that prefix caches work."""
    return f"{instruction}\n\n{neutralise(initial_observation)}"


def to_messages(trajectory: Trajectory) -> list[Message]:
    """The chat of a whole trajectory, ending with an assistant message or its observation.

    The observation of the last turn is left out: nothing answers it.
    """
    return messages_of(trajectory.instruction, trajectory.initial_observation, trajectory.turns)[
        : None if not trajectory.turns or not trajectory.turns[-1].executed else -1
    ]


def messages_of(instruction: str, initial_observation: str, turns: Sequence[Turn]) -> list[Message]:
    """The chat up to and including the last executed turn's observation: what a policy is asked.

    Pending text of a vetoed turn opens the assistant message that its correction completes.
    """
    messages = [Message("user", (Span(prompt(instruction, initial_observation)),))]
    pending: list[Span] = []
    for index, turn in enumerate(turns):
        text = format_turn(neutralise_model_text(turn.thought), neutralise_model_text(turn.action))
        pending.append(Span(text if turn.executed else text + "\n", index))
        if turn.executed:
            messages.append(Message("assistant", tuple(pending)))
            messages.append(Message("user", (Span(format_observation(turn.observation)),)))
            pending = []
    if pending:
        messages.append(Message("assistant", tuple(pending)))
    return messages
