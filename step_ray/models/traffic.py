"""What asking a remote model has come to: requests, delays, tokens and money, as a snapshot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


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
    again or at all; ``cost`` is None without a price. ``hits`` were answered from a cache."""

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
            "tokens": self.prompt_tokens + self.completion_tokens,
            "cost": round(self.cost or 0.0, 4),
        }
        return {name: value for name, value in named.items() if value}
