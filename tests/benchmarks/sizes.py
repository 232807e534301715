"""How much is measured: everything, or just enough to see that it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """``steps`` per episode, in ``rounds`` that alternate between the sides."""

    rounds: int = 4
    steps: int = 30
    alfworld_games: int = 3  # in every round
    alfworld_counts: tuple[int, ...] = (1, 8, 64)
    scienceworld_games: int = 2
    scienceworld_counts: tuple[int, ...] = (1, 8, 16)
    webshop_games: int = 8
    webshop_counts: tuple[int, ...] = (1, 8, 64)
    webshop_starts: int = 3
    products: int = 200_000


SMALL = Sizes(2, 8, 1, (1, 2), 1, (1, 2), 2, (1, 2), 1, 20_000)
