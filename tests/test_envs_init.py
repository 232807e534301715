"""Environments are found by name, by import path and among installed packages."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from doubles import Corridor

from step_ray import envs
from step_ray.config_env import ENVIRONMENTS as SECTIONS
from step_ray.envs import ENVIRONMENTS, announced, make_env
from step_ray.envs.base import EnvError


def test_an_import_path_names_any_environment() -> None:
    made = make_env("doubles:Corridor", length=5)
    assert isinstance(made, Corridor)
    assert made.length == 5


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("chess", r"unknown environment 'chess'; known are .*alfworld.*package\.module:Class"),
        ("", "unknown environment ''"),
        ("doubles", "unknown environment"),
        ("doubles:", "unknown environment"),
        (":Corridor", "unknown environment"),
        ("../doubles:Corridor", "unknown environment"),
        (".doubles:Corridor", "unknown environment"),
        ("doubles:Corridor\n", "unknown environment"),
        ("doubles:made.append", "unknown environment"),
        ("doubles:Castle", "cannot load .*doubles.*has no attribute 'Castle'"),
        ("no_such_package.env:World", "no_such_package.*PYTHONPATH"),
        ("doubles.env:World", "doubles.*PYTHONPATH"),
    ],
)
def test_what_cannot_be_loaded_is_explained(name: str, says: str) -> None:
    with pytest.raises(EnvError, match=says):
        make_env(name)


def test_a_class_that_is_no_environment_is_told_what_it_lacks() -> None:
    with pytest.raises(EnvError, match=r"doubles:Student is no environment.* tasks, reset"):
        make_env("doubles:Student")


def test_nothing_but_an_environment_is_called(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match="os:system is no environment"):
        make_env("os:system", f"touch {tmp_path}/made")
    with pytest.raises(EnvError, match="subprocess:Popen is no environment"):
        make_env("subprocess:Popen", f"touch {tmp_path}/made", shell=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "option", "says"),
    [
        ("alfworld", "task_types", r"\(task_types\) -> did you mean types\? Its options are ba"),
        ("alfworld", "generator_seed", r"did you mean seed\?"),
        ("webshop", "goal", r"did you mean goals\?"),
        ("doubles:Corridor", "zzz", r"no such option \(zzz\) -> Its options are length, tasks$"),
    ],
)
def test_an_option_that_there_is_not(name: str, option: str, says: str) -> None:
    with pytest.raises(EnvError, match=says):
        make_env(name, **{option: 3})


def test_a_module_that_the_environment_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needy_world.py").write_text("import no_such_engine\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvError, match=r"'no_such_engine', which needy_world needs"):
        make_env("needy_world:World")
    monkeypatch.setitem(ENVIRONMENTS, "needy", ("needy_world", "World"))
    with pytest.raises(EnvError, match=r'pip install "step-ray\[needy\]"'):
        make_env("needy")


def test_an_installed_package_announces_its_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "castle-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: castle\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[step_ray.envs]\ncastle = doubles:Corridor\nalfworld = doubles:Corridor\n"
    )
    with pytest.raises(EnvError, match="unknown environment 'castle'"):
        make_env("castle")
    monkeypatch.syspath_prepend(tmp_path)
    assert announced() == {"castle": EntryPoint("castle", "doubles:Corridor", "step_ray.envs")}
    assert isinstance(make_env("castle"), Corridor)
    with pytest.raises(EnvError, match=r"known are .*castle"):
        make_env("chess")
    assert not isinstance(make_env("alfworld"), Corridor), "no package can take a name of ours"


def test_naming_an_environment_loads_no_other() -> None:
    code = (
        "import sys, step_ray.envs\n"
        "loaded = [m for m in sys.modules if m.startswith('step_ray.envs.')]\n"
        "assert loaded == ['step_ray.envs.base'], loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert envs.ENTRY_POINTS == "step_ray.envs"


def test_the_documented_options_are_those_that_there_are() -> None:
    page = (Path(__file__).parents[1] / "docs" / "environments.md").read_text()
    heads, rows = None, {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| |"):
            heads = cells[1:]
        elif line.startswith("| "):
            rows[cells[0]] = cells[1:]
    assert heads is not None
    assert [head.lower() for head in heads] == list(ENVIRONMENTS)
    for (module, cls), options, splits in zip(
        ENVIRONMENTS.values(), rows["options"], rows["splits"], strict=True
    ):
        made = getattr(importlib.import_module(module), cls)
        parameters = inspect.signature(made).parameters.values()
        named = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        assert set(re.findall(r"`(\w+)`", options)) == named
        here = rows["in a config"][list(ENVIRONMENTS).index(made.name)]
        fields = SECTIONS[made.name].model_fields
        renamed = dict(re.findall(r"`(\w+)` is `(\w+)`", here))
        assert set(renamed.values()) <= fields.keys()
        absent = set(re.findall(r"`(\w+)`", here.partition(";")[2]))
        assert named - fields.keys() == renamed.keys() | absent
        if "the same" not in splits:
            assert re.findall(r"`(\w+)`", splits) == list(made.splits)
