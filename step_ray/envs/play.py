"""What ``step-ray play`` does: an environment played by hand, at a terminal or from a script.

A line is an action, or a command if it begins with a slash. At a terminal, the tab key completes
both.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from step_ray.envs.base import EnvError, Task, TextEnv
from step_ray.envs.play_game import COMMANDS, Game, expert, introduce
from step_ray.envs.terminal import open_env, plain, splits_of

PROMPT = "> "
Read = Callable[[], str | None]
"""Gives the next line, None at the end."""


def choose(env: TextEnv, name: str | None, split: str | None, kind: str | None, seed: int) -> Task:
    """The task of an id; else a random one, by ``seed``, of a split (the first) and a type.

    Raises EnvError if there is none, naming what there is.
    """
    splits = (split,) if split else splits_of(env)
    if name is not None:
        for other in splits:
            found = [task for task in env.tasks(other) if task.id == name]
            if found:
                return found[0]
        raise EnvError(f"{env.name} has no task {name!r} in {', '.join(splits)}")
    tasks = env.tasks(splits[0])
    fitting = tasks if kind is None else [task for task in tasks if task.type == kind]
    if not fitting:
        kinds = ", ".join(sorted({task.type for task in tasks})) or "none"
        what = "task" if kind is None else f"task of type {kind!r}"
        raise EnvError(f"no {what} in {splits[0]}; its types are {kinds}")
    return random.Random(seed).choice(fitting)


def play_lines(game: Game, read: Read) -> None:
    """Plays a started game by what is read, until ``/quit`` or the end."""
    introduce(game)
    hinted = -1  # the number of turns at which the expert was shown last
    while True:
        if game.show_expert and not game.over and hinted != len(game.turns):
            hinted = len(game.turns)
            expert(game, "")
        line = read()
        if line is None:
            return
        line = line.strip()
        if not line.startswith("/"):
            if line:
                game.act(line)
            continue
        name, _, rest = line[1:].partition(" ")
        if name == "quit":
            return
        command = COMMANDS.get(name)
        if command is None:
            game.say(f"There is no command /{name}; /help lists them.", "red")
            continue
        command(game, rest.strip())


def play(
    name: str,
    task: str | None,
    *,
    data: Path | None = None,
    settings: Sequence[str] = (),
    split: str | None = None,
    kind: str | None = None,
    seed: int = 0,
    show_expert: bool = False,
) -> None:
    """Plays a task of an environment by what is typed, or by what stdin has."""
    env = open_env(name, data, settings)
    try:
        chosen = choose(env, task, split, kind, seed)
        game = Game(env, chosen, seed, show_expert, Console(highlight=False))
        game.start()
        with _reader(game) as read:
            play_lines(game, read)
    finally:
        env.close()


@contextlib.contextmanager
def _reader(game: Game) -> Iterator[Read]:
    """Lines from the terminal, with completion and history; else from stdin, shown as if typed."""

    def piped() -> str | None:
        line = sys.stdin.readline()
        if line:
            game.say(PROMPT + line.rstrip("\n"), "bold")
        return line or None

    def typed() -> str | None:
        try:
            return input(PROMPT)
        except (EOFError, KeyboardInterrupt):
            game.console.print()
            return None

    if not sys.stdin.isatty():
        yield piped
        return
    try:
        import readline
    except ModuleNotFoundError:  # not on every system: then without completion
        yield typed
        return
    readline.set_completer_delims("\n")
    readline.set_completer(_completer(game))
    edit_line = "libedit" in (readline.__doc__ or "")  # as on macOS
    readline.parse_and_bind("bind ^I rl_complete" if edit_line else "tab: complete")
    try:
        yield typed
    finally:
        readline.set_completer(None)


def _completer(game: Game) -> Callable[[str, int], str | None]:
    """Readline's: the n-th completion of a line, None after the last."""
    found: list[str] = []

    def complete(line: str, number: int) -> str | None:
        if number == 0:
            found[:] = completions(game, line)
        return found[number] if number < len(found) else None

    return complete


def completions(game: Game, line: str) -> list[str]:
    """What a line may become: commands, and admissible actions that are safe to show."""
    if line.startswith("/") and not line.startswith("/judge "):
        return [f"/{name}" for name in COMMANDS if f"/{name}".startswith(line)]
    before = "/judge " if line.startswith("/") else ""
    return [
        before + action
        for action in game.env.admissible()
        if (before + action).startswith(line) and plain(action) == action
    ]
