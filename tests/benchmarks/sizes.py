"""How much is measured: everything, or just enough to see that it works."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Steps per episode, episodes per round, environments in a process, by environment."""

    rounds: int = 4
    steps: int = 30
    alfworld_games: int = 3
    alfworld_counts: tuple[int, ...] = (1, 8, 64)
    scienceworld_games: int = 2
    scienceworld_steps: int = 20
    scienceworld_counts: tuple[int, ...] = (1, 8, 16)
    webshop_games: int = 4
    webshop_counts: tuple[int, ...] = (1, 8, 64)
    webshop_starts: int = 3
    products: int = 200_000


SMALL = Sizes(
    rounds=2,
    steps=8,
    alfworld_games=2,
    alfworld_counts=(1, 2),
    scienceworld_games=1,
    scienceworld_steps=8,
    scienceworld_counts=(1, 2),
    webshop_games=2,
    webshop_counts=(1, 2),
    webshop_starts=1,
    products=20_000,
)
