"""What a perfectly obedient, privileged teacher model says: it reads the hint in its own prompt."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from step_ray.models.base import Reply, Sampling

Chat = Sequence[Mapping[str, str]]


def form_of(chat: Chat) -> str:
    """Which form a prompt asks for: "review", "judge" or "reflect"."""
    question = chat[0]["content"].rpartition("=== The question ===")[2]
    if '"is_error"' not in question:
        return "reflect"
    return "review" if '"action"' in question else "judge"


def obedient(chat: Chat) -> str:
    """The reply of a model that does as the hint says."""
    question = chat[0]["content"].rpartition("=== The question ===")[2]
    verdict = re.search(
        r"check of the last turn: it is (no|an) error(?: \((\w+)\))?\. ?(.*)", question
    )
    expert = re.search(r"What an expert would do now: (.*)\nWhy: (.*)", question)
    settled = re.search(r"The corrected action is settled: (.*)", question)
    if settled:
        words = dict.fromkeys(("error", "reason", "reflection", "thought"), "I see what to do.")
        return json.dumps(words | {"action": settled[1]})
    assert verdict, question
    is_error = verdict[1] == "an"
    said: dict[str, Any] = {"assessment": "I see.", "is_error": is_error, "kind": verdict[2] or ""}
    correction = dict.fromkeys(("error", "reason", "reflection", "thought", "action"), "")
    if is_error or form_of(chat) == "reflect":
        assert expert, question
        correction = {
            "error": "I did the wrong thing.",
            "reason": verdict[3] or "It does not help.",
            "reflection": "I have to look before I act.",
            "thought": expert[2] or "I go on.",
            "action": expert[1],
        }
    form = form_of(chat)
    return json.dumps(
        correction if form == "reflect" else said if form == "judge" else said | correction
    )


class Oracle:
    """A chat model that says what ``reply`` makes of a chat; remembers what it was asked."""

    fingerprint = "oracle"

    def __init__(self, reply: Callable[[Chat], str] = obedient) -> None:
        self.reply = reply
        self.asked: list[list[dict[str, str]]] = []
        self.samplings: list[Sampling] = []
        self.schemas: list[Mapping[str, Any] | None] = []

    async def chat(
        self, messages: Chat, sampling: Sampling, schema: Mapping[str, Any] | None = None
    ) -> Reply:
        chat = [dict(message) for message in messages]
        roles = [message["role"] for message in chat]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
        assert all(message["content"].strip() for message in chat)
        self.asked.append(chat)
        self.samplings.append(sampling)
        self.schemas.append(schema)
        await asyncio.sleep(0)
        return Reply(self.reply(chat), "stop", 10, 5)

    @property
    def forms(self) -> list[str]:
        return [form_of(chat) for chat in self.asked]
