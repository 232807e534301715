"""Anything that answers chat requests, teacher or student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


class ModelError(RuntimeError):
    """A model cannot be loaded or cannot answer; says what, where and how to fix it."""


class SchemaUnsupported(ModelError):  # noqa: N818 - a property of a backend
    """The backend cannot make replies follow a schema: ask without one."""


class ModelUnavailable(ModelError):  # noqa: N818 - a state of a model
    """The model is gone, and may be back in a while, or once somebody has mended what is wrong: the
    same request may be answered then."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is drawn. ``temperature`` 0 is greedy; ``max_tokens`` counts new tokens.

    ``seed`` makes a sampled reply a function of (messages, sampling), whatever else is in the
    batch; recipes derive it from the episode id and the turn.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 96
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer; ``finish_reason`` is "length" when it was cut at ``max_tokens``.

    ``cached_tokens``: how many of the prompt's tokens came from the backend's prefix cache.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


class ChatModel(Protocol):
    """Answers chats; many calls may be in flight, batching them is the backend's business."""

    fingerprint: str
    """Hash of weights, tokenizer and template: the same text for the same model anywhere."""

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Answers one chat that ends with a user message.

        Raises :class:`ModelError` if the prompt does not fit the model's context, and
        :class:`SchemaUnsupported` if a ``schema`` is given that the backend cannot enforce.
        """
        ...
