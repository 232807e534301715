"""How long something waits for room on the cluster, and who is told what is lacking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _nobody(text: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Patience:
    """``seconds`` to wait for room; ``say`` is told what is waited for."""

    seconds: float = 300.0
    say: Callable[[str], None] = _nobody


PATIENT = Patience()
