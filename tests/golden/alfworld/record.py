"""Writes transcripts.json.xz with the original engine; see README.md."""

from __future__ import annotations

import hashlib
import json
import lzma
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from alfworld_play import chores, crossing, draw, odd_start, older, solution  # noqa: E402

from step_ray.envs.alfworld.engine import Game, UnsolvableGame  # noqa: E402
from step_ray.envs.alfworld.generate import SCENES, TASK_TYPES, generate_game, goals_of  # noqa: E402
from step_ray.envs.alfworld.stock import StockGame  # noqa: E402

GAMES, COMMANDS = 18, 100


def digest(admissible: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(admissible).encode()).hexdigest()[:8]


def is_odd(index: int) -> bool:
    return index % 3 == 0 or index >= 12


def make(index: int, rng: random.Random) -> tuple[dict[str, Any], str, str]:
    """A small game of one kind, with the names of its domain and grammar."""
    task_type = TASK_TYPES[index % 6]
    rooms = [n for numbers in SCENES.values() for n in numbers if goals_of(n, task_type)]
    games = [generate_game(rng.choice(rooms), task_type, rng)["game"] for _ in range(6)]
    game = min(games, key=lambda data: len(data["pddl_problem"]))
    domain, grammar = "today", "move"
    if index % 4 == 1:
        domain, grammar, game = "2.1.1", "put", older(game)
    elif index % 4 == 3:
        domain, grammar, game = "2.1.1-rare", "put", older(game, sink=False)
    elif index % 8 == 6:  # an old game whose grammar was brought up to date
        domain, game = "2.1.1", older(game, grammar=False)
    if is_odd(index):
        game = odd_start(game, rng)
    return game, domain, grammar


def commands(game: Game, odd: bool, rng: random.Random) -> list[str]:
    """First the rare sights, then a win where the start is plain, then a walk."""
    state = game.initial()
    chosen = list(crossing(state))
    if chosen and state.holding:  # put it back where the walk finds it
        chosen += [c for c in state.admissible() if c.startswith(("put ", "move "))][:1]
        state.step(chosen[-1])
    chosen += chores(state)
    if not odd:
        chosen += solution(state)
    while len(chosen) < COMMANDS:
        chosen.append(draw(state.admissible(), rng))
        state.step(chosen[-1])
    return chosen


def record(index: int, rng: random.Random) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """One game's entry, and the texts it embeds by name."""
    shuffle = index if index % 2 and index > 3 else None
    while True:
        data, domain, grammar = make(index, rng)
        random.seed(shuffle)
        try:
            game = Game.from_dict(data, shuffle=shuffle is not None)
        except UnsolvableGame:  # an odd start may have put the goal out of reach
            continue
        if not game.initial().won():
            break
    random.seed(shuffle)
    stock = StockGame(data, shuffle=shuffle is not None, fast=False)
    odd = is_odd(index)
    entry = {
        "name": f"{index}-{game.goal.task_type}{'-odd' if odd else ''}",
        "domain": domain,
        "grammar": grammar,
        "sentence": game.task_sentence,
        "problem": data["pddl_problem"],
        "shuffle": shuffle,
        "reset": stock.reset(),
        "start": digest(stock.admissible),
        "steps": [],
    }
    for command in commands(game, odd, rng):
        text, won, admissible = stock.step(command)
        entry["steps"].append([command, text, won, digest(admissible)])
    stock.close()
    text = data["grammar"].replace(f"is to: {game.task_sentence}", "is to: @")
    return entry, {domain: data["pddl_domain"]}, {grammar: text}


def main() -> None:
    rng = random.Random(20)
    content: dict[str, Any] = {"domains": {}, "grammars": {}, "games": []}
    for index in range(GAMES):
        entry, domains, grammars = record(index, rng)
        content["games"].append(entry)
        content["domains"] |= domains
        content["grammars"] |= grammars
        print(entry["name"], entry["grammar"], sum(step[2] for step in entry["steps"]), "won")
    text = json.dumps(content, separators=(",", ":"))
    packed = lzma.compress(text.encode(), preset=9)
    (HERE / "transcripts.json.xz").write_bytes(packed)
    print(len(content["games"]), "games", len(packed), "bytes")


if __name__ == "__main__":
    main()
