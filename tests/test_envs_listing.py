"""Environments are listed without being made, and the tasks of one are counted."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from fourth_env import Crafting
from rich.console import Console
from typer.testing import CliRunner

from step_ray.cli import app
from step_ray.envs import ENVIRONMENTS, listing
from step_ray.envs.base import EnvError, Task
from step_ray.envs.listing import Described, Listed, describe, list_environments, show

NAME = "fourth_env:Crafting"
COUNTS = {"train": {"axe": 2, "raft": 2, "torch": 2}, "test": {"axe": 2, "bridge": 2, "torch": 2}}


class Partial(Crafting):
    """One split cannot be read."""

    def tasks(self, split: str) -> list[Task]:
        if split == "test":
            raise EnvError("the [bold]test[/bold] split is\x1b[2J not here")
        return list(super().tasks(split))


class Silent(Crafting):
    splits = ()


def ask(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def shown(name: str | None = None) -> str:
    text = io.StringIO()
    show(name, None, [], False, Console(file=text, width=120))
    return text.getvalue()


def test_all_environments_are_listed() -> None:
    found = list_environments()
    assert [env.name for env in found][: len(ENVIRONMENTS)] == list(ENVIRONMENTS)
    assert all(name in shown() for name in ENVIRONMENTS)


def test_what_is_missing_is_said_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(listing._NEEDS, "alfworld", (("no_such_wheel", "json"), "pip install it"))
    alfworld = list_environments()[0]
    assert alfworld == Listed("alfworld", "step-ray", ("no_such_wheel",), "pip install it")
    assert "no: no_such_wheel is missing" in shown()
    assert "pip install it" in shown()


def test_every_environment_of_ours_says_what_it_needs() -> None:
    assert set(listing._NEEDS) >= set(ENVIRONMENTS)


def test_environments_of_installed_packages_are_listed_and_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "castle_games-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: castle-games\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[step_ray.envs]\ncastle = no_such_module:Castle\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert list_environments()[-1] == Listed("castle", "castle-games")
    assert "castle-games" in shown()


def test_tasks_are_counted() -> None:
    assert describe(NAME) == Described("crafting", "crafting-1", COUNTS, {})
    text = shown(NAME)
    assert "crafting, engine crafting-1" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["bridge", "0", "2"] in rows
    assert ["all", "6", "6"] in rows


def test_a_split_that_is_not_there_hides_no_other() -> None:
    found = describe("test_envs_listing:Partial")
    assert found.splits == {"train": COUNTS["train"]}
    assert list(found.problems) == ["test"]
    text = shown("test_envs_listing:Partial")
    assert "test: the [bold]test[/bold] split is\ufffd[2J not here" in text


def test_an_environment_that_does_not_say_its_splits() -> None:
    with pytest.raises(EnvError, match="does not say which splits it has"):
        describe("test_envs_listing:Silent")


def test_alfworld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEP_RAY_CACHE", str(tmp_path))
    games = ["games={train: 12, valid_seen: 6, valid_unseen: 0}"]
    found = describe("alfworld", settings=games)
    assert [sum(counts.values()) for counts in found.splits.values()] == [12, 6, 0]
    assert set(found.splits["train"].values()) == {2}
    with pytest.raises(EnvError, match=r"no folder .*nowhere"):
        describe("alfworld", tmp_path / "nowhere")


def test_the_command() -> None:
    code, output = ask("envs", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(output)][: len(ENVIRONMENTS)] == list(ENVIRONMENTS)
    code, output = ask("envs", NAME, "--json", "--set", "spare=1")
    assert code == 0
    assert json.loads(output)["splits"] == COUNTS
    code, output = ask("envs", NAME)
    assert code == 0
    assert "bridge" in output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("chess",), "unknown environment 'chess'"),
        ((NAME, "--set", "wood=1"), "wood"),
        ((NAME, "--data", "/nowhere"), "no data"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: tuple[str, ...], says: str) -> None:
    code, output = ask("envs", *arguments)
    assert code == 2
    assert says in output
    assert "Traceback" not in output


def test_listing_loads_no_engine() -> None:
    code = (
        "import sys, step_ray.cli\n"
        "try:\n    step_ray.cli.app(['envs'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'textworld', 'scienceworld', 'alfworld'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
