"""ALFWorld as a text environment, on the native engine or the original one.

The agent may write ``put X in/on Y`` or ``move X to Y`` in every game; what the game itself wants
is its dialect. Rewards are 1 for the win and 0 before; there is no step limit here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from step_ray.envs.alfworld.belief import Belief, parse_action
from step_ray.envs.alfworld.engine import Game
from step_ray.envs.alfworld.expert import next_turn
from step_ray.envs.alfworld.games import SPLITS, Games, GeneratedGames, load_game
from step_ray.envs.alfworld.judge import judge
from step_ray.envs.base import Build, EnvError, Judgement, Observation, StepResult, Task
from step_ray.trajectory import Turn

ENGINES = {"native": "alfworld-native-1", "stock": "alfworld-0.4.2"}
_INSTRUCTION = """\
You are in a household and solve the task below, one action at a time.
Actions: go to R, open R, close R, take O from R, {put}, clean O with R, heat O with R, \
cool O with R, use O, examine R, look, inventory. R is a receptacle, O an object, both with number.
Answer in this form:
Thought: your reasoning
Action: your action"""
INSTRUCTIONS = {
    "put": _INSTRUCTION.format(put="put O in/on R"),
    "move": _INSTRUCTION.format(put="move O to R"),
}
"""What the agent is told first, by the game's dialect; the same for every task."""

Backend = Literal["native", "stock"]


class Episode(Protocol):
    """The state of one game: the native engine's State, or the original behind the same face."""

    def step(self, command: str) -> tuple[str, bool]: ...
    def admissible(self) -> list[str]: ...
    def won(self) -> bool: ...
    def fork(self) -> Episode: ...


def first_text(game: Game) -> str:
    """The game's reset text without its welcome: the room and the task."""
    return game.reset_text().split("\n\n", 1)[1]


def to_dialect(action: str, dialect: str) -> str:
    """The action with "put" and "move" as the game has them; all else is left as it is."""
    if not action.strip().startswith(("put ", "move ")):
        return action
    command = parse_action(action)
    if command.verb != "put":
        return action
    if dialect == "put":
        return f"put {command.item} in/on {command.place}"
    return f"move {command.item} to {command.place}"


class StockEpisode:
    """An episode on the original engine; a fork replays its commands."""

    def __init__(self, path: Path, commands: Sequence[str] = ()) -> None:
        from step_ray.envs.alfworld.stock import StockGame

        self._path = path
        self._commands: list[str] = []
        self._game = StockGame(path)
        self._game.reset()
        for command in commands:
            self.step(command)

    def step(self, command: str) -> tuple[str, bool]:
        self._commands.append(command)
        text, _, _ = self._game.step(command)
        return text, text.strip() != "Nothing happens."

    def admissible(self) -> list[str]:
        return sorted(self._game.admissible)

    def won(self) -> bool:
        return self._game.won

    def fork(self) -> StockEpisode:
        return StockEpisode(self._path, self._commands)

    def close(self) -> None:
        self._game.close()


class ALFWorldEnv:
    """ALFWorld games as episodes.

    ``data``: an official ``json_2.1.1`` folder (or the folder that holds it); None for generated
    games, ``games`` of them per split, drawn from ``seed``, kept in a cache folder. ``types``:
    task types, None for all. ``backend`` ``stock`` plays them on the original engine (``pip install
    step-ray[alfworld]``), slowly.
    """

    name = "alfworld"
    splits = SPLITS

    def __init__(
        self,
        data: str | Path | None = None,
        *,
        backend: Backend = "native",
        games: Mapping[str, int] | None = None,
        seed: int = 0,
        types: Sequence[str] | None = None,
    ) -> None:
        if backend not in ("native", "stock"):
            raise EnvError(f"unknown backend {backend!r}; the backends are native, stock")
        self._backend = backend
        self._games = (
            GeneratedGames(games, seed, types) if data is None else Games(Path(data), types)
        )
        self._game: Game | None = None
        self._state: Episode | None = None
        self._belief = Belief()
        self._shared = False  # whether a fork has the same belief
        self._unread: list[tuple[str, str]] = []  # actions and texts the belief does not know of
        self._won = False
        self._closed = False

    def tasks(self, split: str) -> Sequence[Task]:
        """The solvable games of a split, sorted by id (``<goal's folder>/<trial>``)."""
        self._check_open()
        return self._games.tasks(split)

    def reset(self, task: Task, seed: int = 0) -> Observation:
        """Starts a game. ``seed`` changes nothing: the games themselves are fixed."""
        self._check_open()
        path = self._games.path(task)
        game = load_game(path)
        self._release()
        self._game, self._won = game, False
        self._state = game.initial() if self._backend == "native" else StockEpisode(path)
        text = first_text(game)
        self._belief, self._shared, self._unread = Belief.from_reset(text, game.dialect), False, []
        return Observation(INSTRUCTIONS[game.dialect], text)

    def step(self, action: str) -> StepResult:
        """Executes an action of either dialect; after the win nothing happens any more."""
        game, state = self._playing()
        if self._won:
            return StepResult("Nothing happens.", 1.0, True, False, False)
        action = to_dialect(action, game.dialect)
        text, valid = state.step(action)
        self._unread.append((action, text))
        self._won = state.won()
        return StepResult(text, float(self._won), self._won, False, valid)

    def admissible(self) -> list[str]:
        """The valid actions, in the game's dialect; none after the win."""
        _, state = self._playing()
        return [] if self._won else state.admissible()

    def expert(self) -> Turn | None:
        """The expert's turn, from what has been seen so far; None after the win."""
        game, state = self._playing()
        if self._won:
            return None
        thought, action = next_turn(
            self.belief, game.goal, frozenset(state.admissible()), game.initial().can_contain
        )
        return Turn(thought, action, author="expert")

    def judge(self, action: str) -> Judgement:
        """Judges an action of either dialect; changes nothing."""
        game, state = self._playing()
        if self._won:
            return Judgement(True, "invalid", (("cause", "over"), ("why", "the task is done")))
        action = to_dialect(action, game.dialect)
        admissible = frozenset(state.admissible())
        return judge(self.belief, game.goal, action, admissible, game.initial().can_contain)

    def build(self) -> Build:
        """Engine, hash of the game, its dialect."""
        game, _ = self._playing()
        return Build(ENGINES[self._backend], game.data_hash, game.dialect)

    def fork(self) -> ALFWorldEnv:
        """An independent copy; microseconds on the native engine, a replay on the original."""
        _, state = self._playing()
        child = copy.copy(self)
        child._state = state.fork()
        child._unread = list(self._unread)
        child._shared = self._shared = True
        return child

    def close(self) -> None:
        """Ends the use of this environment."""
        self._closed = True
        self._release()

    @property
    def inline(self) -> bool:
        """Whether calls during an episode never wait: those of the native engine do not."""
        return self._backend == "native"

    @property
    def belief(self) -> Belief:
        """What the agent can know by now; worked out when it is asked for, as play needs none."""
        if self._unread:
            if self._shared:
                self._belief, self._shared = self._belief.copy(), False
            for action, text in self._unread:
                self._belief.update(action, text)
            self._unread = []
        return self._belief

    def _release(self) -> None:
        if isinstance(self._state, StockEpisode):
            self._state.close()
        self._state = self._game = None

    def _check_open(self) -> None:
        if self._closed:
            raise EnvError("this environment is closed; make a new one")

    def _playing(self) -> tuple[Game, Episode]:
        self._check_open()
        if self._game is None or self._state is None:
            raise EnvError("no game is being played; call reset(task) first")
        return self._game, self._state
