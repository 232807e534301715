"""Playing by hand: what is typed, what is shown, and that shown text is nothing but text."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from doubles import assert_replays
from fourth_env import Crafting
from rich.console import Console
from typer.testing import CliRunner

from step_ray.cli import app
from step_ray.envs.base import EnvError, Judgement, Observation, StepResult, Task
from step_ray.envs.play import choose, completions, play_lines
from step_ray.envs.play_game import COMMANDS, Game
from step_ray.trajectory import Turn, from_dict

NAME = "fourth_env:Crafting"
RAFT = "train/raft-2"
HOSTILE = "[red]A[/red] \x1b[2J\x1b]0;title\x07 \u202eB\x00 [link=http://x]C[/link] é\xa0☃"


class Hostile(Crafting):
    """Everything it says tries to steer the terminal."""

    def reset(self, task: Task, seed: int = 0) -> Observation:
        super().reset(task, seed)
        return Observation(f"1{HOSTILE}", f"2{HOSTILE}")

    def step(self, action: str) -> StepResult:
        return StepResult(f"3{HOSTILE}", 0.5, False, False, False)

    def admissible(self) -> list[str]:
        self._check_playing()
        return [f"4{HOSTILE}", "go to hut"]

    def expert(self) -> Turn | None:
        return Turn(f"5{HOSTILE}", f"6{HOSTILE}", author="expert")

    def judge(self, action: str) -> Judgement:
        return Judgement(True, f"7{HOSTILE}", ((f"8{HOSTILE}", f"9{HOSTILE}"),))


def game_of(env: Any = None, task: str = RAFT, **options: Any) -> tuple[Game, io.StringIO]:
    env, shown = env or Crafting(), io.StringIO()
    found = next(t for split in env.splits for t in env.tasks(split) if t.id == task)
    game = Game(env, found, 0, options.pop("show_expert", False), Console(file=shown, **options))
    game.start()
    return game, shown


def typed(game: Game, *lines: str) -> None:
    rest = iter(lines)
    play_lines(game, lambda: next(rest, None))


def golden(task: str = RAFT, seed: int = 0) -> list[str]:
    env = Crafting()
    env.reset(next(t for t in env.tasks("train") if t.id == task), seed)
    actions = []
    while (turn := env.expert()) is not None:
        actions.append(turn.action)
        env.step(turn.action)
    return actions


def ask(*arguments: object, said: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=said)
    return result.exit_code, result.output


def test_a_game_is_played_to_its_end() -> None:
    game, shown = game_of()
    typed(game, *golden(), "gather", "/quit", "never read")
    text = shown.getvalue()
    assert game.first.text.splitlines()[0] in text
    assert f"success: score 1.00 after {len(golden())} turns" in text
    assert "The episode is over" in text
    assert len(game.turns) == len(golden())
    assert game.score == 1.0


def test_what_is_not_valid_is_said_so() -> None:
    game, shown = game_of()
    typed(game, "sing", "", "  ")
    assert "Nothing happens.\n(not a valid action; /admissible lists them)" in shown.getvalue()
    assert [turn.action for turn in game.turns] == ["sing"]


def test_undo_and_reset() -> None:
    game, shown = game_of()
    actions = golden()
    for count in range(1, len(actions) + 1):
        typed(game, *actions[:count], "/undo")
        fresh, _ = game_of()
        typed(fresh, *actions[: count - 1])
        assert game.turns == fresh.turns
        assert game.env.admissible() == fresh.env.admissible()
        assert not game.over
        assert "Back after" in shown.getvalue()
        typed(game, "/reset")
        assert game.turns == []
    typed(game, "/undo")
    assert game.turns == []


def test_commands_tell_and_change_nothing() -> None:
    game, shown = game_of()
    expert = game.env.expert()
    assert expert is not None
    before = (game.env.admissible(), game.env.expert())
    typed(game, "/expert", "/judge sing loudly", "/admissible go to", "/help", "/castle")
    text = shown.getvalue()
    assert f"Thought: {expert.thought}\nAction: {expert.action}" in text
    assert "error: invalid\n  why: that is not possible here" in text
    wanted = [action for action in game.env.admissible() if "go to" in action]
    assert all(f"\n  {action}\n" in text for action in wanted)
    assert "\n  gather\n" not in text
    assert all(f"/{name}" in text for name in COMMANDS)
    assert "There is no command /castle" in text
    assert before == (game.env.admissible(), game.env.expert())
    assert not game.turns


def test_the_expert_is_shown_before_each_turn_if_wanted() -> None:
    game, shown = game_of(show_expert=True)
    typed(game, *golden())
    assert shown.getvalue().count("Thought: I") == len(golden())


@pytest.mark.parametrize(("played", "outcome"), [(3, "step_limit"), (100, "success")])
def test_a_saved_trajectory_can_be_read_and_replayed(
    tmp_path: Path, played: int, outcome: str
) -> None:
    game, shown = game_of()
    path = tmp_path / "made.json"
    typed(game, *golden()[:played], f"/save {path}")
    made = from_dict(json.loads(path.read_text()))
    assert made == game.trajectory()
    assert (made.outcome, made.success) == (outcome, outcome == "success")
    assert made.executed_actions == golden()[:played]
    assert made.provenance.env_build == "crafting-1"
    assert_replays(made, Crafting(), game.task)
    typed(game, f"/save {path}", "/save", f"/save {tmp_path}/no/where")
    assert shown.getvalue().count("not saved: ") == 3
    assert from_dict(json.loads(path.read_text())) == made, "a file is never overwritten"


@pytest.mark.parametrize("terminal", [False, True])
def test_text_steers_nothing(tmp_path: Path, terminal: bool) -> None:
    game, shown = game_of(Hostile(), force_terminal=terminal, width=1000, show_expert=True)
    typed(game, "sing", HOSTILE, "/expert", "/judge x", "/admissible", f"/{HOSTILE}", "/reset")
    text = shown.getvalue()
    for sign in ("\x1b[2J", "\x1b]", "\x07", "\x00", "\u202e"):
        assert sign not in text
    for number in range(1, 10):
        assert f"{number}[red]A[/red] \ufffd[2J\ufffd]0;title\ufffd \ufffdB\ufffd [link=" in text
    assert ("\x1b[" in text) == terminal, "colours are for terminals"
    assert "é ☃" in text


def test_completions() -> None:
    game, _ = game_of()
    assert completions(game, "/") == [f"/{name}" for name in COMMANDS]
    assert completions(game, "/un") == ["/undo"]
    assert completions(game, "go to h") == ["go to hut"]
    assert completions(game, "/judge go to h") == ["/judge go to hut"]
    assert completions(game, "") == game.env.admissible()
    assert completions(game, "x") == []
    hostile, _ = game_of(Hostile())
    assert completions(hostile, "") == ["go to hut"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("test/axe-2", None, None, 0), "test/axe-2"),
        (("test/axe-2", "test", "raft", 0), "test/axe-2"),
        ((None, "test", "bridge", 0), "test/bridge-"),
        ((None, None, "raft", 0), "train/raft-"),
    ],
)
def test_a_task_is_chosen(arguments: Sequence[Any], expected: str) -> None:
    assert choose(Crafting(), *arguments).id.startswith(expected)


def test_seeds_choose_among_all_tasks() -> None:
    env = Crafting()
    chosen = [choose(env, None, "train", None, seed).id for seed in range(60)]
    assert set(chosen) == {task.id for task in env.tasks("train")}
    assert chosen == [choose(env, None, "train", None, seed).id for seed in range(60)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("castle", None, None, 0), "no task 'castle' in train, test"),
        (("test/axe-2", "train", None, 0), "no task 'test/axe-2' in train"),
        ((None, "dev", None, 0), "unknown split 'dev'"),
        ((None, "train", "bridge", 0), "no task of type 'bridge' in train; .* axe, raft, torch"),
    ],
)
def test_what_cannot_be_chosen_is_explained(arguments: Sequence[Any], says: str) -> None:
    with pytest.raises(EnvError, match=says):
        choose(Crafting(), *arguments)


def test_the_command_reads_lines_from_stdin() -> None:
    lines = "\n".join([*golden(), "/quit"])
    code, output = ask("play", NAME, RAFT, "--set", "spare=2", said=lines)
    assert code == 0
    assert f"> {golden()[0]}\n" in output
    assert "success: score 1.00" in output
    code, output = ask("play", NAME, "--type", "axe", "--split", "test", "--show-expert", said="")
    assert code == 0
    assert "[crafting, test] test/axe-" in output
    assert "Thought: " in output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("chess",), "unknown environment 'chess'"),
        ((NAME, "castle"), "no task 'castle'"),
        ((NAME, "--set", "wood=1"), "wood"),
        ((NAME, "--set", "wood"), "not an override"),
        ((NAME, "--data", "/nowhere"), "no data"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: Sequence[str], says: str) -> None:
    code, output = ask("play", *arguments)
    assert code == 2
    assert says in output
    assert "Traceback" not in output


def test_at_a_terminal_tab_completes() -> None:
    """Each line is typed when the prompt for it is there; the tab stands for the rest of it."""
    pytest.importorskip("readline")
    controller, terminal = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "step_ray.cli", "play", NAME, RAFT],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        close_fds=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "TERM": "xterm"},
    )
    os.close(terminal)
    output = b""
    for line in (b"go to h\t\n", b"/un\t\n", b"\x04"):
        seen = len(output)
        while not output[seen:].rstrip(b"\x1b[?2004h\r").endswith(b"\n> "):
            output += os.read(controller, 1024)
        os.write(controller, line)
    while True:
        try:
            more = os.read(controller, 1024)
        except OSError:  # how Linux says that the other side is closed
            break
        if not more:
            break
        output += more
    os.close(controller)
    assert done.wait() == 0
    assert b"You are in the hut." in output
    assert b"Back after 0 turns." in output
