"""What asking a model has come to: requests, delays, tokens and money, as a snapshot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from step_ray.models.base import Reply


@dataclass(frozen=True, slots=True)
class Price:
    """Money per million tokens, in whatever currency; ``cached`` for prompt tokens that the server
    had in its cache, None if they cost the same."""

    prompt: float
    completion: float
    cached: float | None = None

    def of(self, prompt: int, completion: int, cached: int = 0) -> float:
        """The price of so many tokens; ``cached`` is a part of ``prompt``."""
        dear = self.prompt if self.cached is None else self.cached
        whole = (prompt - cached) * self.prompt + cached * dear + completion * self.completion
        return whole / 1e6


@dataclass(frozen=True, slots=True)
class Traffic:
    """Sums since the beginning. ``delay_seconds`` is what requests waited before they were sent
    again or at all; ``cost`` is None without a price. ``hits`` were answered from a cache, ``cut``
    ended at the limit of their length."""

    requests: int = 0
    replies: int = 0
    retries: int = 0
    rate_limited: int = 0
    delay_seconds: float = 0.0
    breaker_openings: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    hits: int = 0
    cut: int = 0

    def __add__(self, other: Self) -> Self:
        sums = {
            field.name: (getattr(self, field.name) or 0) + (getattr(other, field.name) or 0)
            for field in dataclasses.fields(self)
        }
        if self.cost is None and other.cost is None:
            sums["cost"] = None
        return type(self)(**sums)

    def counts(self) -> Mapping[str, float]:
        """What is worth a place in a line of progress: names for a person, nothing that is 0."""
        named = {
            "asked": self.requests,
            "retries": self.retries,
            "rate limited": self.rate_limited,
            "waited s": round(self.delay_seconds, 1),
            "outages": self.breaker_openings,
            "from cache": self.hits,
            "cut at max_tokens": self.cut,
            "prompt tokens": self.prompt_tokens,
            "of them cached": self.cached_tokens,
            "reply tokens": self.completion_tokens,
            "cost": round(self.cost or 0.0, 4),
        }
        return {name: value for name, value in named.items() if value}

    def and_reply(self, reply: Reply) -> Traffic:
        """With one more request, answered at once."""
        return dataclasses.replace(
            self,
            requests=self.requests + 1,
            replies=self.replies + 1,
            cut=self.cut + (reply.finish_reason == "length"),
            prompt_tokens=self.prompt_tokens + reply.prompt_tokens,
            cached_tokens=self.cached_tokens + reply.cached_tokens,
            completion_tokens=self.completion_tokens + reply.completion_tokens,
        )


def rates(counts: Mapping[str, float]) -> dict[str, float]:
    """The shares that :meth:`Traffic.counts` come to, of those that mean something: requests that
    the reply cache answered, and prompt tokens that a server found in its prefix cache."""
    asked, hits = counts.get("asked", 0), counts.get("from cache", 0)
    prompt = counts.get("prompt tokens", 0)
    found = {}
    if hits:
        found["reply_cache_hit_rate"] = round(hits / (asked + hits), 4)
    if prompt:
        found["prefix_cache_hit_rate"] = round(counts.get("of them cached", 0) / prompt, 4)
    return found
