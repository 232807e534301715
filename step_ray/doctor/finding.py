"""What the doctor says of one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    ``note``: something optional is absent, or a person should know; ``broken``: a run that needs
    it fails or is not what it says. A broken finding always has a remedy.
    """

    topic: str
    status: Status
    says: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.status == "broken" and not self.remedy:
            raise ValueError(f"{self.topic}: a broken finding needs a remedy")


Check = Callable[[], Iterator[Finding]]


def ok(topic: str, says: str) -> Finding:
    """Nothing to do."""
    return Finding(topic, "ok", says)


def note(topic: str, says: str, remedy: str = "") -> Finding:
    """Nothing is wrong, but a person may want to know."""
    return Finding(topic, "note", says, remedy)


def broken(topic: str, says: str, remedy: str) -> Finding:
    """Something is wrong; ``remedy`` is what to do."""
    return Finding(topic, "broken", says, remedy)
