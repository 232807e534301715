"""A suite is checked as a whole before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from step_ray.config import load_config
from step_ray.config_suite import load_suite
from step_ray.config_text import ConfigError

SUITE = """\
output: out
base: {student: {max_tokens: 48}, training: {epochs: 1}}
envs:
  alfworld: {env: {games: {train: 6}}}
  webshop: {env: {name: webshop}}
methods:
  step: {synthesis.max_errors: 3, training: {mask: none}}
  eto: {recipe: eto, eto.iterations: 1}
seeds: [0, 4]
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("step_ray.config_checks.usable_cpus", lambda: 4)


def write(text: str) -> Path:
    Path("suite.yaml").write_text(text)
    return Path("suite.yaml")


def test_every_cell_is_a_run_of_its_own() -> None:
    _, cells = load_suite(write(SUITE))
    assert [(cell.env, cell.seed, cell.method) for cell in cells] == [
        (env, seed, method)
        for env in ("alfworld", "webshop")
        for seed in (0, 4)
        for method in ("step", "eto")
    ]
    step, eto = cells[2].config, cells[7].config
    assert (step.seed, step.training.seed, step.training.mask) == (4, 4, "none")
    assert (step.synthesis.max_errors, step.training.epochs) == (3, 1)
    assert eto.eto is not None
    assert (eto.recipe, eto.eto.iterations, eto.eto.extra_turns) == ("eto", 1, 5)
    assert eto.training.mask == "partial", "what one method changes is not another's"
    assert len({cell.config.output for cell in cells}) == len(cells)
    assert len({cell.config.share for cell in cells}) == 1


def test_relative_folders_are_below_the_folder_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Path.cwd() / "runs"
    changes = ["base.training.token_cache=tokens"]
    text = SUITE.replace("mask: none", "mask: none, token_cache: own")
    for named in (str(runs), "runs"):
        monkeypatch.setenv("STEP_RAY_RUNS", named)
        suite, cells = load_suite(write(text), changes)
        assert suite.output == runs / "out"
        assert {cell.config.share for cell in cells} == {runs / "out" / "stages"}
        assert cells[0].config.output == runs / "out" / "alfworld" / "step" / "seed0"
        caches = {cell.method: cell.config.training.token_cache for cell in cells}
        assert caches == {"step": runs / "own", "eto": runs / "tokens"}


def test_all_problems_at_once_each_with_its_method() -> None:
    broken = SUITE.replace("max_errors: 3", "max_errors: many").replace(
        "iterations: 1", "rounds: 1"
    )
    with pytest.raises(ConfigError) as caught:
        load_suite(write(broken))
    assert [line.split(": ")[:2] for line in caught.value.problems] == [
        ["step", "synthesis.max_errors"],
        ["eto", "eto.rounds"],
    ]
    with pytest.raises(ConfigError, match="methods: missing"):
        load_suite(write("output: out\n"))
    with pytest.raises(ConfigError, match="methods"):
        load_suite(write("output: out\nmethods: {../x: {}}\n"))


def test_data_elsewhere_are_no_matter_of_a_plan_or_a_table() -> None:
    changes = ["base.env.data=/nowhere", "envs={alfworld: {}}"]
    with pytest.raises(ConfigError, match=r"env\.data: no such folder"):
        load_suite(write(SUITE), changes)
    _, cells = load_suite(write(SUITE), changes, planning=True)
    assert str(cells[0].config.env.data) == "/nowhere"


def test_a_suite_and_a_runs_config_are_told_apart() -> None:
    with pytest.raises(ConfigError, match="1 problem\n  this is a suite -> use step-ray compare"):
        load_config(write(SUITE))
    with pytest.raises(
        ConfigError, match="1 problem\n  this is a run's config -> use step-ray run"
    ):
        load_suite(write("output: out\nrecipe: step\nenv: alfworld\n"))


def test_a_suite_takes_overrides() -> None:
    _, cells = load_suite(write(SUITE), ["seeds=[7]", "base.training.epochs=2"])
    assert {cell.seed for cell in cells} == {7}
    assert {cell.config.training.epochs for cell in cells} == {2}


def test_one_environment_need_not_be_named_twice() -> None:
    whole = "output: out\nmethods: {step: {}}\nseeds: [0]\n"
    ((_, (one,)), (_, (other,))) = (
        load_suite(write(whole + base)) for base in ("", "base: {env: webshop}\n")
    )
    assert (one.env, other.env) == ("alfworld", "webshop")
    assert str(one.config.output) == "out/alfworld/step/seed0"


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "jobs" / "configs").glob("compare*.yaml"))
)
def test_every_suite_is_valid_and_opens_with_its_command(path: Path) -> None:
    assert path.read_text().startswith(f"# step-ray compare jobs/configs/{path.name}\n")
    suite, cells = load_suite(path)
    assert len(cells) == len(suite.methods) * len(suite.seeds) * len(suite.envs or [0])
