"""Text environments keep gymnasium's contract as well."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from fourth_env import Crafting

from step_ray.envs import ENVIRONMENTS, make_env
from step_ray.envs.base import EnvError

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra: gym")

from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.vector import AutoresetMode, SyncVectorEnv  # noqa: E402

from step_ray.envs.gym import IDS, AnyText, TextEnvGym  # noqa: E402

GAMES = {"train": 12, "valid_seen": 0, "valid_unseen": 0}
OPTIONS = {
    "alfworld": {"games": GAMES},
    "scienceworld": {"types": ["lifespan-longest-lived"]},
    "webshop": {},
}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEP_RAY_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def win(env: TextEnvGym) -> tuple[float, dict[str, object]]:
    """The expert's return, and the last info."""
    total = 0.0
    while (turn := env.text_env.expert()) is not None:
        text, reward, terminated, truncated, info = env.step(turn.action)
        assert isinstance(text, str)
        assert info["valid"]
        total += reward
        if terminated or truncated:
            break
    return total, info


@pytest.mark.parametrize("name", IDS)
def test_registered(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(name, **OPTIONS[IDS[name]])
        check_env(env.unwrapped)
        env.reset(seed=1)
        total, info = win(env.unwrapped)
        env.close()
    assert total == pytest.approx(1.0)
    assert info["success"]


def test_all_are_registered() -> None:
    assert set(IDS.values()) == set(ENVIRONMENTS)


def test_registered_on_import_and_by_module_name() -> None:
    code = (
        "import gymnasium\n"
        "assert not [i for i in gymnasium.registry if i.startswith('StepRay')]\n"
        f"env = gymnasium.make('step_ray.envs.gym:StepRay/ALFWorld-v0', games={GAMES})\n"
        "assert env.reset(seed=0)[1]['split'] == 'train'\n"
        "assert len([i for i in gymnasium.registry if i.startswith('StepRay/')]) == 3\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_gymnasium_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['gymnasium'] = None; import step_ray.envs.gym"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert 'pip install "step-ray[gym]"' in done.stderr.splitlines()[-1]


def test_any_environment() -> None:
    check_env(TextEnvGym(Crafting(), "test", admissible=True), skip_render_check=True)
    check_env(TextEnvGym("fourth_env:Crafting", spare=1), skip_render_check=True)


def test_seeds_choose_tasks_reproducibly() -> None:
    env, other = TextEnvGym(Crafting()), TextEnvGym(Crafting())
    chosen = set()
    for seed in range(60):
        text, info = env.reset(seed=seed)
        following = env.reset()
        assert (text, info) == other.reset(seed=seed)
        assert following == other.reset()
        chosen.add(info["task"])
    assert chosen == {task.id for task in env.tasks}


def test_a_task_can_be_named() -> None:
    env = TextEnvGym(Crafting())
    text, info = env.reset(seed=3, options={"task": "train/raft-2"})
    assert (info["task"], info["task_type"], info["split"]) == ("train/raft-2", "raft", "train")
    assert text.endswith("Your task is to: make one raft.")
    assert info["instruction"].startswith("You make things.")
    assert env.reset(seed=3, options={"task": "train/raft-2"})[0] == text
    with pytest.raises(EnvError, match="no task 'test/axe-1' in split train of crafting"):
        env.reset(options={"task": "test/axe-1"})


def test_rewards_add_up_to_the_score() -> None:
    env = TextEnvGym(Crafting())
    env.reset(seed=0)
    total, info = win(env)
    assert (total, info["score"], info["success"]) == (1.0, 1.0, True)
    _, reward, terminated, _, info = env.step("gather")
    assert (reward, terminated, info["score"], info["valid"]) == (0.0, True, 1.0, False)


def test_admissible_actions_come_when_asked_for() -> None:
    env, listing = TextEnvGym(Crafting()), TextEnvGym(Crafting(), admissible=True)
    _, info = env.reset(seed=0)
    assert "admissible" not in info
    assert env.admissible() == listing.reset(seed=0)[1]["admissible"]
    assert listing.step("go to hut")[4]["admissible"] == listing.admissible()


def test_gymnasiums_own_wrappers() -> None:
    env = gymnasium.wrappers.TimeLimit(TextEnvGym(Crafting(), render_mode="ansi"), 3)
    text, _ = env.reset(seed=0)
    assert env.render() == text
    ends = [env.step("sing")[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    many = SyncVectorEnv([lambda: TextEnvGym(Crafting()), lambda: TextEnvGym(Crafting())])
    assert many.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    texts, _ = many.reset(seed=0)
    assert len(texts) == 2
    answers, rewards, *_ = many.step(("go to hut", "sing"))
    assert answers[1] == "Nothing happens."
    assert list(rewards) == [0.0, 0.0]
    many.close()


def test_the_space_of_texts() -> None:
    space = AnyText(10)
    assert "é\x00☃" in space
    assert "x" * 11 not in space
    assert 3 not in space
    space.seed(1)
    assert all(space.sample() in space for _ in range(100))
    assert repr(space) == "AnyText(10)"


def test_it_is_made_of_a_name_with_options_or_of_an_environment(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match="by its name"):
        TextEnvGym(Crafting(), spare=2)
    with pytest.raises(EnvError, match="unknown split 'dev'"):
        TextEnvGym(Crafting(), "dev")
    with pytest.raises(EnvError, match="no data"):
        TextEnvGym("fourth_env:Crafting", data=tmp_path)
    inner = make_env("fourth_env:Crafting")
    env = TextEnvGym(inner)
    env.close()
    env.close()
    with pytest.raises(EnvError, match="closed"):
        inner.tasks("train")
