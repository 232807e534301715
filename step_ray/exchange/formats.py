"""Trajectories as the chats that other trainers read, each message with its mask.

A format is offered only if its schema can say of a single message that it must not be trained.
LLaMA-Factory's ShareGPT and TRL's ``messages`` cannot, so these trainers get the forms in which
they can be told: loss weights, and prompts with completions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from step_ray.react import to_messages
from step_ray.training.masks import MaskName, verdict_weights
from step_ray.training.preferences import Pair
from step_ray.trajectory import Trajectory


class LeftOut(Exception):  # noqa: N818 - a property of a trajectory, not a defect
    """A trajectory that a format cannot hold; ``reason`` is a short machine-readable name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Line:
    """One message as parts of text that are trained, or not."""

    role: str
    parts: tuple[tuple[str, bool], ...]

    @property
    def content(self) -> str:
        return "".join(text for text, _ in self.parts)

    @property
    def trained(self) -> bool:
        """Whether the message is trained. Raises LeftOut if only a part of it is: a vetoed error
        stands in one message with its correction."""
        flags = {trained for _, trained in self.parts}
        if len(flags) > 1:
            raise LeftOut("half_masked_message")
        return flags == {True}


Row = dict[str, Any]


def lines_of(trajectory: Trajectory, mask: MaskName = "partial") -> list[Line]:
    """The chat of a trajectory under a mask policy. Raises LeftOut if nothing is trained."""
    weights = verdict_weights(mask)
    turns = trajectory.turns
    lines = [
        Line(
            message.role,
            tuple(
                (span.text, span.turn is not None and weights[turns[span.turn].verdict] > 0)
                for span in message.spans
            ),
        )
        for message in to_messages(trajectory)
    ]
    if not any(trained for line in lines for _, trained in line.parts):
        raise LeftOut("nothing_to_train")
    return lines


def messages(trajectory: Trajectory, lines: list[Line]) -> Iterator[Row]:
    """OpenAI's form with ``loss`` in every message, as ms-swift reads it."""
    said = [_openai(line) | {"loss": line.trained} for line in lines]
    yield {**_names(trajectory), "messages": said}


def agentgym(trajectory: Trajectory, lines: list[Line]) -> Iterator[Row]:
    """AgentGym's form: ``loss`` is null in what the environment says."""
    said = [
        {
            "from": "gpt" if line.role == "assistant" else "human",
            "value": line.content,
            "loss": line.trained if line.role == "assistant" else None,
        }
        for line in lines
    ]
    yield {"item_id": trajectory.id, **_names(trajectory), "conversations": said}


def axolotl(trajectory: Trajectory, lines: list[Line]) -> Iterator[Row]:
    """axolotl's ``chat_template`` form: ``train`` in each message, and ``train_detail`` (offsets
    of characters, the last one included) in a message of which only a part is trained."""
    said = []
    for line in lines:
        detail, at = [], 0
        for text, trained in line.parts:
            end = at + len(text)
            detail.append({"begin_offset": at, "end_offset": end - 1, "train": trained})
            at = end
        flags = {trained for _, trained in line.parts}
        mixed = len(flags) > 1
        said.append(
            {**_openai(line), "train": True in flags, "train_detail": detail if mixed else None}
        )
    yield {**_names(trajectory), "messages": said}


def llamafactory(trajectory: Trajectory, lines: list[Line]) -> Iterator[Row]:
    """LLaMA-Factory's own sample of version 1: ``loss_weight`` in each message."""
    said = [
        {
            "role": line.role,
            "content": [{"type": "text", "value": line.content}],
            "loss_weight": float(line.trained),
        }
        for line in lines
    ]
    yield {"messages": said}


def trl(trajectory: Trajectory, lines: list[Line]) -> Iterator[Row]:
    """TRL's prompt and completion: a row for each trained message, all before it the prompt."""
    for index, line in enumerate(lines):
        if line.trained:
            prompt = [_openai(before) for before in lines[:index]]
            yield {"prompt": prompt, "completion": [_openai(line)]}


def trl_preference(pair: Pair) -> Row:
    """TRL's row for DPO: prompt, chosen, rejected.

    TRL's loss is over all of a completion, what the environment says in it too. So both must be
    one message of the agent: raises LeftOut for pairs of longer ways on, and for one whose chosen
    message must not be trained.
    """
    chosen, rejected = lines_of(pair.chosen), lines_of(pair.rejected, "none")
    prompts = [[_openai(line) for line in lines[:-1]] for lines in (chosen, rejected)]
    if prompts[0] != prompts[1] or chosen[-1].role != "assistant":
        raise LeftOut("several_messages")
    if not chosen[-1].trained:
        raise LeftOut("chosen_is_masked")
    return {
        "prompt": prompts[0],
        "chosen": [_openai(chosen[-1])],
        "rejected": [_openai(rejected[-1])],
    }


TextFormat = Callable[[Trajectory, list[Line]], Iterator[Row]]
TEXT: Mapping[str, TextFormat] = {
    "messages": messages,
    "agentgym": agentgym,
    "axolotl": axolotl,
    "llamafactory": llamafactory,
    "trl": trl,
}


def _openai(line: Line) -> dict[str, str]:
    return {"role": line.role, "content": line.content}


def _names(trajectory: Trajectory) -> Row:
    return {
        "id": trajectory.id,
        "env": trajectory.env,
        "task": trajectory.task,
        "split": trajectory.split,
        "task_type": trajectory.task_type,
        "reward": trajectory.reward,
    }
