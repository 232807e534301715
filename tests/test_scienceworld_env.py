"""ScienceWorld as an environment: tasks, presets, episodes, forks."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scienceworld_play import data

from step_ray.envs import make_env
from step_ray.envs.base import EnvError, StepResult, Task, TextEnv
from step_ray.envs.contract import check_contract
from step_ray.envs.scienceworld import tasks as tables
from step_ray.envs.scienceworld.env import ScienceWorldEnv
from step_ray.envs.scienceworld.pool import SimulatorPool, pool
from step_ray.envs.scienceworld.simulator import UNKNOWN

pytest.importorskip("scienceworld", reason="pip install 'step-ray[scienceworld]'")


@pytest.fixture
def env() -> Iterator[ScienceWorldEnv]:
    made = ScienceWorldEnv()
    yield made
    made.close()


def task(name: str) -> Task:
    return Task(name, "scienceworld", "train", name.rpartition("_")[0])


# -- tasks -----------------------------------------------------------------------------------------


def test_the_splits_are_the_engines(env: ScienceWorldEnv) -> None:
    simulators = SimulatorPool(slots_per_jvm=1)
    slot = simulators.lend()
    ask, simulator = slot.connection, slot.simulator
    names = ask.ref(simulator, "getTaskNames")
    assert ask.call(names, "size") == len(tables.VARIATIONS)
    for name, total in tables.VARIATIONS.items():
        assert ask.call(names, "contains", name)
        assert ask.call(simulator, "getTaskMaxVariations", name) == total
        ask.call(simulator, "load", name, 0, "", False)
        for split, method in zip(tables.SPLITS, ("Train", "Dev", "Test"), strict=True):
            listed = ask.text(ask.ref(simulator, f"getVariations{method}"), "toString")
            assert json.loads(listed) == list(tables.variations(name, split)), (name, split)
    simulators.close()


def test_how_many_tasks_there_are(env: ScienceWorldEnv) -> None:
    assert [len(env.tasks(split)) for split in env.splits] == [3592, 1796, 1819]
    assert list(env.tasks("dev")) == list(env.tasks("valid_seen"))
    assert list(env.tasks("test")) == list(env.tasks("valid_unseen"))
    assert env.tasks("valid_unseen")[0] == Task("boil_21", "scienceworld", "valid_unseen", "boil")
    with pytest.raises(EnvError, match="valid_seen"):
        env.tasks("validation")


@given(st.sampled_from(sorted(tables.VARIATIONS)), st.integers(1, 30), st.integers(0, 99))
def test_fewer_variations(name: str, limit: int, seed: int) -> None:
    all_of_it = tables.all_tasks([name], "train", None, 0)
    chosen = tables.all_tasks([name], "train", limit, seed)
    assert len(chosen) == min(limit, len(all_of_it))
    assert chosen == [each for each in all_of_it if each in set(chosen)]
    assert chosen == tables.all_tasks([name], "train", limit, seed)
    assert [tables.parse_id(each)[0] for each in chosen] == [name] * len(chosen)


def test_types_are_chosen_and_checked() -> None:
    env = ScienceWorldEnv(types=["melt", "boil"], variations=2)
    assert [each.type for each in env.tasks("train")] == ["melt", "melt", "boil", "boil"]
    wrong: list[dict[str, object]] = [
        {"types": ["boyl"]},
        {"variations": 0},
        {"simplifications": "easy"},
        {"simplifications": ["openDoors", "flyingAction"]},
        {"simplifications": "noElectricalAction", "types": ["power-component"]},
        {"step_limits": "short"},
        {"step_limits": {"boyl": 3}},
        {"step_limits": {"boil": 0}},
        {"timeout": -1.0},
    ]
    for options in wrong:
        with pytest.raises(EnvError):
            make_env("scienceworld", **options)


@pytest.mark.parametrize("name", ["boil_30", "boil_-1", "boil_1.0", "boil_01", "boil", "x_1", "_1"])
def test_ids_of_no_task(env: ScienceWorldEnv, name: str) -> None:
    with pytest.raises(EnvError):
        env.reset(task(name))


# -- ETO's presets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "name"),
    [
        ("task-1-boil", "boil"),
        ("task-2a-test-conductivity", "test-conductivity"),
        ("task-6-lifespan-(longest-lived)", "lifespan-longest-lived"),
        ("task-9-mendellian-genetics-(known-plant)", "mendelian-genetics-known-plant"),
        ("boil", "boil"),
    ],
)
def test_names_of_older_releases(old: str, name: str) -> None:
    assert tables.engine_name(old) == name


def test_simplifications_are_spelled_out() -> None:
    everything = ",".join(tables.SIMPLIFICATIONS)
    assert tables.simplifications_for("boil", "eto") == everything
    assert "noElectricalAction" not in tables.simplifications_for("test-conductivity", "eto")
    assert tables.simplifications_for("boil", "none") == ""
    assert tables.simplifications_for("boil", ["openDoors"]) == "openDoors"


@pytest.mark.parametrize(("name", "chosen"), [("boil_0", "eto"), ("power-component_0", "eto")])
def test_the_engine_takes_them(name: str, chosen: str) -> None:
    env = ScienceWorldEnv(simplifications=chosen)
    first = env.reset(task(name))
    asked = tables.simplifications_for(name.rpartition("_")[0], chosen)
    assert env.simulator.simplifications() == ",".join(sorted(asked.split(",")))
    assert "teleport to OBJ" in first.instruction
    assert ("connect OBJ" in first.instruction) is ("power" in name)
    assert env.step("teleport to kitchen").valid
    env.close()


def test_lists_of_variations(tmp_path: Path) -> None:
    pairs = [["task-1-boil", 3], ["task-2a-test-conductivity", 7], ["task-1-boil", 1]]
    (tmp_path / "train_indices.json").write_text(json.dumps(pairs))
    env = ScienceWorldEnv(tmp_path)
    assert [each.id for each in env.tasks("train")] == ["boil_3", "test-conductivity_7", "boil_1"]
    chosen = ScienceWorldEnv(tmp_path, types=["boil"]).tasks("train")
    assert [each.id for each in chosen] == ["boil_3", "boil_1"]
    with pytest.raises(EnvError, match="dev_indices"):
        env.tasks("dev")
    for wrong in ("{", "[[1]]", '[["task-1-boil", 99]]', '[["task-1-bake", 0]]', '[["boil", "x"]]'):
        (tmp_path / "test_indices.json").write_text(wrong)
        with pytest.raises(EnvError):
            env.tasks("test")


def test_etos_lists_name_existing_variations() -> None:
    folder = data("eto_train_indices.json").parent
    env = ScienceWorldEnv(folder)
    listed = [env.tasks(split) for split in env.splits]
    assert [len(tasks) for tasks in listed] == [1483, 194, 211]
    limits = json.loads(data("eto_max_steps.json").read_text())
    for name, limit in limits.items():
        assert tables.step_limit(tables.engine_name(name), "eto") == limit
    named = {name for name in tables.VARIATIONS if tables.step_limit(name, "eto")}
    assert named == set(map(tables.engine_name, limits))
    assert {each.type for tasks in listed for each in tasks} <= named
    # Its training list has variations of the engine's development split, 54 of them in both lists.
    train, dev, test = ({each.id for each in tasks} for tasks in listed)
    assert len(train & dev) == 54
    assert not test & (train | dev)
    for tasks, split in zip(listed[1:], ("dev", "test"), strict=True):
        assert all(tables.parse_id(t)[1] in tables.variations(t.type, split) for t in tasks)


# -- episodes --------------------------------------------------------------------------------------


def test_it_is_a_text_environment(env: ScienceWorldEnv) -> None:
    assert isinstance(env, TextEnv)
    assert isinstance(make_env("scienceworld"), ScienceWorldEnv)


@pytest.mark.parametrize("name", ["power-component_6", "find-animal_9"])
def test_what_is_admissible_is_valid(env: ScienceWorldEnv, name: str) -> None:
    env.reset(task(name))
    env.step("teleport to greenhouse")
    admissible = env.admissible()
    assert admissible == sorted(set(admissible))
    for action in random.Random(name).sample(admissible, 12):
        env.reset(task(name))
        env.step("teleport to greenhouse")
        assert env.step(action).valid, action


@pytest.mark.slow
def test_it_keeps_the_contract() -> None:
    types = ["power-component", "use-thermometer"]
    check_contract(lambda: ScienceWorldEnv(types=types, variations=1), tasks=2, steps=5, limit=60)


def test_an_episode(env: ScienceWorldEnv) -> None:
    first = env.reset(task("find-non-living-thing_3"))
    assert first.text.startswith("Your task is to find a(n) non-living thing.")
    assert "\n\nThis " in first.text
    reward = env.step("look around").reward
    assert env.step("dance") == StepResult(UNKNOWN, reward, False, False, False)
    gold = pool().acquire()
    gold.load("find-non-living-thing", 3, env.simulator.simplifications(), gold=True)
    rewards = []
    for action in gold.gold_path():
        result = env.step(action)
        rewards.append(result.reward)
        if result.terminated:
            break
    gold.release()
    assert rewards[-1] == 1.0
    assert all(0.0 <= reward <= 1.0 for reward in rewards)
    assert env.admissible() == []
    assert env.step("look around") == StepResult("The episode is over.", 1.0, True, False, False)


def test_a_wrong_focus_is_worth_nothing(env: ScienceWorldEnv) -> None:
    env.reset(task("find-animal_0"))
    result = env.step("focus on air")
    assert (result.reward, result.terminated, result.valid) == (0.0, True, True)


def test_step_limits() -> None:
    env = ScienceWorldEnv(step_limits={"boil": 3})
    env.reset(task("boil_0"))
    results = [env.step(action) for action in ("look around", "dance", "inventory", "wait")]
    assert [result.truncated for result in results] == [False, False, True, True]
    assert not any(result.terminated for result in results)
    assert not results[3].valid
    env.reset(task("melt_0"))
    assert not any(env.step("inventory").truncated for _ in range(5))
    assert tables.step_limit("lifespan-longest-lived", "eto") == 10
    assert tables.step_limit("inclined-plane-determine-angle", "eto") is None
    env.close()


def test_asked_which_one(env: ScienceWorldEnv) -> None:
    env.reset(task("boil_2"))
    env.step("teleport to kitchen")
    asked = env.step("open door")
    assert asked.valid and asked.observation.startswith("Ambiguous request")  # noqa: PT018
    assert "0" in env.admissible()
    child = env.fork()
    assert child.step("0") == env.step("0")
    env.step("open door")
    withdrawn = env.step("none of them")
    assert withdrawn.valid and "0" not in env.admissible()  # noqa: PT018
    child.close()


def test_what_is_invalid_changes_nothing(env: ScienceWorldEnv) -> None:
    """Bees, growing plants and names drawn at random: each would tell of a number drawn."""
    rng = random.Random(0)
    for name in ("grow-fruit_3", "mendelian-genetics-known-plant_4"):
        env.reset(task(name))
        played, before = [], env.admissible()
        for _ in range(8):
            assert not env.step(f"sing of {rng.random()}").valid
            assert env.admissible() == before
            verb = rng.choice(sorted({each.split()[0] for each in before} - {"focus", "reset"}))
            action = rng.choice([each for each in before if each.split()[0] == verb])
            played.append((action, env.step(action)))
            before = env.admissible()
        env.reset(task(name))
        assert [(action, env.step(action)) for action, _ in played] == played
        assert env.admissible() == before


def test_a_fork_is_independent(env: ScienceWorldEnv) -> None:
    env.reset(task("chemistry-mix_1"))
    for action in ("teleport to kitchen", "hum", "open cupboard", "pick up metal pot"):
        env.step(action)
    child = env.fork()
    assert child.admissible() == env.admissible()
    before = env.simulator.look(), env.simulator.inventory()
    child.step("put down metal pot")
    assert (env.simulator.look(), env.simulator.inventory()) == before
    other = env.fork()
    for action in ("move metal pot to sink", "activate sink", "look around"):
        assert other.step(action) == env.step(action)
    child.close()
    env.step("wait1")
    other.close()
    with pytest.raises(EnvError, match="closed"):
        child.step("look around")


def test_build(env: ScienceWorldEnv) -> None:
    env.reset(task("boil_0"))
    build = env.build()
    assert (build.engine, build.dialect) == ("scienceworld-1.2.3+hashCode2", "sciworld")
    plain = ScienceWorldEnv(simplifications="none")
    plain.reset(task("boil_0"))
    assert plain.build().data_hash != build.data_hash
    env.reset(task("melt_0"))
    assert env.build() == build
    plain.close()


def test_calls_that_need_an_episode(env: ScienceWorldEnv) -> None:
    for ready in (env.admissible, env.expert, env.build, env.fork):
        with pytest.raises(EnvError, match="reset"):
            ready()
    env.reset(task("boil_0"))
    env.close()
    env.close()
    with pytest.raises(EnvError, match="closed"):
        env.reset(task("boil_0"))
