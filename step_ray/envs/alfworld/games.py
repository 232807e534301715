"""Where ALFWorld games come from: an official json_2.1.1 folder, or a cache of generated ones."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from step_ray.envs.alfworld.engine import CorruptGame, Game, UnknownDomain, UnsolvableGame
from step_ray.envs.base import EnvError, Task
from step_ray.envs.cache import cache_folder
from step_ray.trajectory import content_hash

SPLITS = ("train", "valid_seen", "valid_unseen")
DEFAULT_GAMES: Mapping[str, int] = MappingProxyType(
    {"train": 1000, "valid_seen": 140, "valid_unseen": 134}
)
GAME_FILE = "game.tw-pddl"
_FLAG = re.compile(rb'"solvable"\s*:\s*(true|false)\s*\}\s*\Z')
_ID = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+")
# The original's own loader leaves these out: no game of theirs is in the benchmark.
_SKIPPED = ("movable", "Sliced")


class Games:
    """The games of a ``json_2.1.1`` folder (or of a folder that holds one), of some task types.

    Raises EnvError at the first use if the folder is not what it should be.
    """

    def __init__(self, data: Path, types: Sequence[str] | None = None) -> None:
        inner = data / "json_2.1.1"
        self._data = inner if inner.is_dir() else data
        self._types = types

    def root(self, split: str) -> Path:
        """The folder that holds the split's folder."""
        if not (self._data / split).is_dir():
            if not self._data.is_dir():
                raise EnvError(
                    f"there is no folder {self._data}; give the path of an unpacked json_2.1.1 "
                    "(alfworld-download fetches it), or no path for generated games"
                )
            there = sorted(p.name for p in self._data.iterdir() if p.is_dir())
            raise EnvError(
                f"unknown split {split!r}: {self._data} has {', '.join(there) or 'no folders'}; "
                f"ALFWorld's splits are {', '.join(SPLITS)}"
            )
        return self._data

    def tasks(self, split: str) -> tuple[Task, ...]:
        """The solvable games, sorted by id."""
        root = self.root(split)
        try:
            found = list_tasks(str(root), split)
        except OSError as error:
            raise EnvError(f"cannot read the games in {root / split}: {error}") from error
        if self._types is None:
            return found
        return tuple(task for task in found if task.type in self._types)

    def game(self, task: Task) -> Game:
        """The parsed game of a task. Raises EnvError if it is missing or cannot be played."""
        return load_game(self.path(task))

    def path(self, task: Task) -> Path:
        """The game file of a task."""
        if not _ID.fullmatch(task.id):
            raise EnvError(f"{task.id!r} is not the id of an ALFWorld task (GOAL-FOLDER/TRIAL)")
        return self.root(task.split) / task.split / task.id / GAME_FILE


class GeneratedGames(Games):
    """Games made on first use and kept in the user's cache folder."""

    def __init__(
        self, counts: Mapping[str, int] | None, seed: int, types: Sequence[str] | None = None
    ) -> None:
        self._counts = {**DEFAULT_GAMES, **(counts or {})}
        self._seed = seed
        self._types = None if types is None else tuple(types)
        unknown = sorted(self._counts.keys() - set(SPLITS))
        if unknown:
            raise EnvError(f"unknown split {unknown[0]!r}; the splits are {', '.join(SPLITS)}")

    def root(self, split: str) -> Path:
        if split not in SPLITS:
            raise EnvError(f"unknown split {split!r}; the splits are {', '.join(SPLITS)}")
        return _generated(cache_folder(), split, self._counts[split], self._seed, self._types)


@lru_cache(maxsize=64)
def _generated(
    cache: Path, split: str, count: int, seed: int, types: tuple[str, ...] | None
) -> Path:
    """Makes the games of a split unless they are there; safe when several processes do it."""
    from step_ray.envs.alfworld.generate import GENERATOR, generate_games

    some = "" if types is None else "-" + content_hash(types, 8)
    root = cache / "alfworld" / f"{GENERATOR}-{seed}-{split}-{count}{some}"
    done = root / "complete"
    if not done.is_file():
        generate_games(root, split, count, seed, types)  # type: ignore[arg-type]
        (root / split).mkdir(parents=True, exist_ok=True)
        done.touch()
    return root


@lru_cache(maxsize=64)
def list_tasks(root: str, split: str) -> tuple[Task, ...]:
    """All solvable games below ``root/split``, without parsing them."""
    found = []
    for goal in sorted(os.scandir(os.path.join(root, split)), key=lambda entry: entry.name):
        if any(word in goal.name for word in _SKIPPED) or not goal.is_dir():
            continue
        for trial in os.scandir(goal.path):
            path = os.path.join(trial.path, GAME_FILE)
            if os.path.isfile(path) and _solvable(path):
                found.append((f"{goal.name}/{trial.name}", goal.name.partition("-")[0]))
    return tuple(Task(name, "alfworld", split, kind) for name, kind in sorted(found))


def _solvable(path: str) -> bool:
    """The file's own flag; it stands at the very end of all known files."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - 64))
        found = _FLAG.search(file.read())
        if found:
            return found.group(1) == b"true"
        file.seek(0)
        try:
            data = json.load(file)
        except ValueError:
            return True  # damaged: listed, so that playing it says what is wrong
    return not isinstance(data, dict) or data.get("solvable") is not False


def load_game(path: Path) -> Game:
    """A parsed game; recently used ones are kept. Raises EnvError if it cannot be played."""
    try:
        stat = path.stat()
        return _load(str(path), stat.st_mtime_ns, stat.st_size)
    except FileNotFoundError as error:
        raise EnvError(
            f"there is no game {path}; was the data folder changed after its tasks were listed?"
        ) from error
    except (CorruptGame, UnknownDomain, UnsolvableGame, OSError) as error:
        raise EnvError(str(error)) from error


@lru_cache(maxsize=512)
def _load(path: str, modified: int, size: int) -> Game:
    return Game.load(path)
