"""A plain-Python ALFWorld: same texts, same admissible commands and same wins as the original.

A :class:`Game` is one game file, shared by all its episodes; a :class:`State` is one episode, a
few integers that are copied in a microsecond. The rules of the PDDL domain and the sentences of
the grammar are written out in ``state``; files with other rules are refused (see ``dialect``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from step_ray.envs.alfworld.dialect import recognise
from step_ray.envs.alfworld.pddl import (
    CorruptGame,
    Goal,
    UnknownDomain,
    UnsolvableGame,
    parse_problem,
)
from step_ray.envs.alfworld.state import State, listing
from step_ray.envs.alfworld.world import World

__all__ = ["CorruptGame", "Game", "Goal", "State", "UnknownDomain", "UnsolvableGame"]


class Game:
    """One game file. Treat it as immutable: every episode of the game shares it."""

    def __init__(self, data: Mapping[str, Any], shuffle: bool = False) -> None:
        parts = [data.get(key) for key in ("pddl_domain", "grammar", "pddl_problem")]
        domain, grammar, problem = (part if isinstance(part, str) else "" for part in parts)
        if not (domain and grammar and problem):
            raise CorruptGame("pddl_domain, grammar or pddl_problem is missing or not text")
        if data.get("solvable") is False:
            raise UnsolvableGame('the file itself says "solvable": false; skip this game')
        dialect, self.task_sentence = recognise(domain, grammar)
        self.data_hash = hashlib.sha256((domain + grammar + problem).encode()).hexdigest()
        self.dialect = dialect.verb
        self.world = world = World(parse_problem(problem), dialect, shuffle)
        self.goal = world.goal
        self.receptacles = world.receptacle_names
        self.objects = world.object_names
        self.type_of: Mapping[str, str] = {
            name: kind.removesuffix("type") or name.rpartition(" ")[0]
            for name, kind in (
                *zip(world.receptacle_names, world.receptacle_type, strict=True),
                *zip(world.object_names, world.object_type, strict=True),
            )
        }

    @classmethod
    def load(cls, path: str | Path, shuffle: bool = False) -> Game:
        """Reads a ``game.tw-pddl``. ``shuffle`` numbers the names by the global random generator.

        Raises CorruptGame, UnknownDomain or UnsolvableGame, naming the file; OSError if it cannot
        be read.
        """
        raw = Path(path).read_bytes()
        try:
            data = json.loads(raw)
        except ValueError as error:  # not UTF-8, or not JSON
            raise CorruptGame(f"{path}: not a JSON file ({error}); copy it anew") from error
        if not isinstance(data, dict):
            raise CorruptGame(f"{path}: not a JSON object; copy it anew")
        return cls.from_dict(data, str(path), shuffle)

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], name: str = "<memory>", shuffle: bool = False
    ) -> Game:
        """A game from the contents of its file; ``name`` is what errors call it."""
        try:
            return cls(data, shuffle)
        except CorruptGame as error:
            raise CorruptGame(f"{name}: {error}; copy the file anew or leave it out") from error
        except (UnknownDomain, UnsolvableGame) as error:
            raise type(error)(f"{name}: {error}") from error

    def initial(self) -> State:
        """A new episode."""
        return State(self)

    def reset_text(self) -> str:
        """What the agent is told first."""
        world = self.world
        place = world.start.location
        if world.receptacles_at[place]:
            room = self.initial().step("look")[0]
        else:
            room = (
                "You are in the middle of a room. Looking quickly around you, you see "
                f"{listing([f'a {world.receptacle_names[r]}' for r in world.listed])}."
            )
        sentence = f"Your task is to: {self.task_sentence}"
        return f"-= Welcome to TextWorld, ALFRED! =-\n\n{room}\n\n{sentence}"

    def __repr__(self) -> str:
        return f"Game({self.task_sentence!r}, {self.data_hash[:12]})"
