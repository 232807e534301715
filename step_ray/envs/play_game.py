"""A task that is played by hand, and the slash commands of ``step-ray play``.

Going back plays the earlier actions again, which every environment does alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from step_ray._version import __version__
from step_ray.envs.base import Observation, StepResult, Task, TextEnv
from step_ray.envs.terminal import said
from step_ray.trajectory import Outcome, Provenance, Trajectory, Turn, content_hash, to_dict


@dataclass(slots=True)
class Game:
    """A task as it has been played so far."""

    env: TextEnv
    task: Task
    seed: int
    show_expert: bool
    console: Console
    first: Observation = field(default_factory=lambda: Observation("", ""))
    turns: list[Turn] = field(default_factory=list)
    last: StepResult | None = None

    @property
    def over(self) -> bool:
        return self.last is not None and (self.last.terminated or self.last.truncated)

    @property
    def score(self) -> float:
        return self.last.reward if self.last else 0.0

    def say(self, text: str, style: str = "") -> None:
        """Shows text of whatever origin; what is not a terminal gets its lines as they are."""
        self.console.print(said(text, style), soft_wrap=not self.console.is_terminal)

    def start(self, actions: Sequence[str] = ()) -> None:
        """Begins anew, and plays ``actions`` without a word."""
        self.first = self.env.reset(self.task, self.seed)
        self.turns, self.last = [], None
        for action in actions:
            self._step(action)

    def act(self, action: str) -> None:
        """Plays an action and says what comes of it."""
        if self.over:
            self.say("The episode is over: /undo, /reset, /save FILE or /quit.")
            return
        before = self.score
        result = self._step(action)
        self.say(result.observation)
        if not result.valid:
            self.say("(not a valid action; /admissible lists them)", "yellow")
        if result.terminated or result.truncated:
            end = f"{self._outcome()}: score {result.reward:.2f} after {len(self.turns)} turns"
            self.say(end, "bold green" if self._outcome() == "success" else "bold")
        elif result.reward != before:
            self.say(f"score {result.reward:.2f}", "cyan")

    def trajectory(self) -> Trajectory:
        """The turns so far, without thoughts; as the student's, whom nobody has reviewed."""
        build, task = self.env.build(), self.task
        actions = [turn.action for turn in self.turns]
        return Trajectory(
            id=content_hash(["play", self.env.name, task.split, task.id, self.seed, actions]),
            task=task.id,
            env=self.env.name,
            split=task.split,
            task_type=task.type,
            instruction=self.first.instruction,
            initial_observation=self.first.text,
            turns=tuple(self.turns),
            reward=self.score,
            success=self._outcome() == "success",
            outcome=self._outcome(),
            detail="" if self.over else "saved before the end of the episode",
            provenance=Provenance(
                env_build=build.engine,
                data_hash=build.data_hash,
                dialect=build.dialect,
                seed=self.seed,
                code_version=__version__,
            ),
        )

    def _step(self, action: str) -> StepResult:
        self.last = result = self.env.step(action)
        turn = Turn("", action, result.observation, valid=result.valid, reward=result.reward)
        self.turns.append(turn)
        return result

    def _outcome(self) -> Outcome:
        if not self.over:
            return "step_limit"
        return "success" if self.score >= 1.0 else "failure"


# -- the commands ----------------------------------------------------------------------------------


def introduce(game: Game) -> None:
    game.say(f"[{game.env.name}, {game.task.split}] {game.task.id}", "bold")
    game.say(game.first.instruction, "dim")
    game.say(f"\n{game.first.text}")


def _help(game: Game, rest: str) -> None:
    """what can be typed"""
    for name, command in COMMANDS.items():
        game.say(f"/{name:<12}{command.__doc__}")


def expert(game: Game, rest: str) -> None:
    """what the expert would do now"""
    turn = game.env.expert()
    line = f"Thought: {turn.thought}\nAction: {turn.action}" if turn else "The expert has no turn."
    game.say(line, "dim")


def _judge(game: Game, rest: str) -> None:
    """ACTION: what the environment would say of an action, which is not carried out"""
    found = game.env.judge(rest)
    line = f"error: {found.kind}" if found.is_error else "no error"
    line += ", irreversible" if found.irreversible else ""
    facts = [f"  {name}: {text}" for name, text in found.facts if text]
    game.say("\n".join([line, *facts]))


def _admissible(game: Game, rest: str) -> None:
    """[TEXT]: the valid actions, those with TEXT in them"""
    for action in game.env.admissible():
        if rest in action:
            game.say(f"  {action}")


def _undo(game: Game, rest: str) -> None:
    """takes the last action back"""
    game.start([turn.action for turn in game.turns[:-1]])
    last = game.turns[-1].observation if game.turns else game.first.text
    game.say(f"Back after {len(game.turns)} turns.\n{last}")


def _reset(game: Game, rest: str) -> None:
    """begins the task anew"""
    game.start()
    introduce(game)


def _save(game: Game, rest: str) -> None:
    """FILE: writes the trajectory so far as JSON, into a new file"""
    text = json.dumps(to_dict(game.trajectory()), indent=1)
    try:
        with Path(rest).expanduser().open("x", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        game.say(f"not saved: {error.strerror}: {rest}", "red")
    else:
        game.say(f"Saved to {rest}.")


def _quit(game: Game, rest: str) -> None:
    """ends the game"""


COMMANDS: dict[str, Callable[[Game, str], None]] = {
    "help": _help,
    "expert": expert,
    "judge": _judge,
    "admissible": _admissible,
    "undo": _undo,
    "reset": _reset,
    "save": _save,
    "quit": _quit,
}
