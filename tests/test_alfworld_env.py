"""The ALFWorld environment keeps the contract of every environment."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from alfworld_games import official

from step_ray.envs import ENVIRONMENTS, make_env
from step_ray.envs.alfworld.env import INSTRUCTIONS, ALFWorldEnv, to_dialect
from step_ray.envs.alfworld.generate import TASK_TYPES
from step_ray.envs.base import Build, EnvError, Task, TextEnv
from step_ray.trajectory import Turn

COUNTS = {"train": 12, "valid_seen": 6, "valid_unseen": 6}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEP_RAY_CACHE", str(cache))


@pytest.fixture
def env() -> ALFWorldEnv:
    made = ALFWorldEnv(games=COUNTS)
    try:
        made.tasks("train")
    except EnvError as error:
        pytest.skip(str(error))
    return made


@pytest.fixture
def folder(env: ALFWorldEnv, cache: Path) -> Path:
    """Generated games as a folder of data."""
    return next(path for path in (cache / "alfworld").iterdir() if "-train-" in path.name)


def win(env: ALFWorldEnv, limit: int = 50) -> list[Turn]:
    turns = []
    for _ in range(limit):
        turn = env.expert()
        assert turn is not None
        turns.append(turn)
        if env.step(turn.action).terminated:
            return turns
    raise AssertionError("not won")


def test_it_is_a_text_env_and_made_by_name(env: ALFWorldEnv) -> None:
    assert isinstance(env, TextEnv)
    assert isinstance(make_env("alfworld", games=COUNTS), ALFWorldEnv)


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(EnvError, match=r"unknown environment 'chess'; known are .*alfworld"):
        make_env("chess")
    with pytest.raises(EnvError, match="wheels"):
        make_env("alfworld", wheels=4)
    with pytest.raises(EnvError, match="unknown backend 'fast'"):
        make_env("alfworld", backend="fast")
    with pytest.raises(EnvError, match="unknown split 'test'"):
        make_env("alfworld", games={"test": 3})
    assert set(ENVIRONMENTS) >= {"alfworld"}


@pytest.mark.parametrize("dialect", ["put", "move"])
def test_instruction_is_short_and_states_the_form(dialect: str) -> None:
    instruction = INSTRUCTIONS[dialect]
    assert len(instruction.split()) <= 70
    assert instruction.isascii()
    for word in ("Thought: ", "Action: ", "go to", "open", "take", dialect, "clean", "heat"):
        assert word in instruction
    for word in ("cool", "use", "examine", "look", "inventory", "close"):
        assert word in instruction


def test_tasks_are_stable_and_sorted(env: ALFWorldEnv) -> None:
    for split, count in COUNTS.items():
        tasks = env.tasks(split)
        assert len(tasks) == count
        assert [task.id for task in tasks] == sorted(task.id for task in tasks)
        assert {task.type for task in tasks} == set(TASK_TYPES)
        assert all(task.env == "alfworld" and task.split == split for task in tasks)
        assert all(task.id.startswith(f"{task.type}-") for task in tasks)
    assert ALFWorldEnv(games=COUNTS).tasks("train") == env.tasks("train")
    assert pickle.loads(pickle.dumps(env.tasks("train"))) == env.tasks("train")


def test_generated_games_are_kept_and_made_again_alike(
    env: ALFWorldEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_RAY_CACHE", str(tmp_path))
    again = ALFWorldEnv(games=COUNTS)
    assert again.tasks("valid_seen") == env.tasks("valid_seen")
    assert ALFWorldEnv(games=COUNTS, seed=1).tasks("train") != env.tasks("train")
    assert (tmp_path / "alfworld").is_dir()


def test_first_observation(env: ALFWorldEnv) -> None:
    first = env.reset(env.tasks("train")[0])
    assert first.instruction == INSTRUCTIONS[env.build().dialect]
    assert first.text.startswith("You are in the middle of a room.")
    assert "Welcome" not in first.text
    assert "\n\nYour task is to: " in first.text


def test_the_expert_wins_and_reward_comes_with_the_win(env: ALFWorldEnv) -> None:
    for task in env.tasks("valid_unseen"):
        env.reset(task)
        turns = win(env)
        assert all(turn.author == "expert" for turn in turns)
        assert env.expert() is None
        assert env.admissible() == []
        assert env.judge("look").is_error
        after = env.step("look")
        assert (after.reward, after.terminated, after.valid) == (1.0, True, False)


def test_a_step(env: ALFWorldEnv) -> None:
    env.reset(env.tasks("train")[0])
    nothing = env.step("dance")
    assert nothing.observation == "Nothing happens."
    assert not nothing.valid
    go = next(action for action in env.admissible() if action.startswith("go to"))
    moved = env.step(go)
    assert moved.valid
    assert moved.observation.startswith("You arrive at")
    assert (moved.reward, moved.terminated, moved.truncated) == (0.0, False, False)
    assert env.belief.here == go.removeprefix("go to ")


@pytest.mark.parametrize("action", ["", " ", "\n", "go", "take  from ", "é\x00", "x" * 10_000])
def test_any_text_is_allowed(env: ALFWorldEnv, action: str) -> None:
    env.reset(env.tasks("train")[0])
    assert env.judge(action).kind == "invalid"
    assert not env.step(action).valid


def test_admissible_is_exactly_what_is_valid(env: ALFWorldEnv) -> None:
    env.reset(env.tasks("train")[1])
    for turn in (env.expert(), env.expert()):
        assert turn is not None
        admissible = env.admissible()
        assert admissible == sorted(set(admissible))
        assert all(env.fork().step(action).valid for action in admissible)
        env.step(turn.action)


def test_both_dialects_are_understood(env: ALFWorldEnv) -> None:
    task = next(t for t in env.tasks("train") if t.type == "pick_and_place_simple")
    env.reset(task)
    assert env.build().dialect == "move"
    for turn in win(env.fork()):
        if turn.action.startswith("move "):
            item, _, place = turn.action.removeprefix("move ").partition(" to ")
            other = f"put {item} in/on {place}"
            assert not env.judge(other).is_error
            result = env.step(other)
            assert result.valid
            assert result.observation == f"You move the {item} to the {place}."
        else:
            result = env.step(turn.action)
    assert result.terminated


@pytest.mark.parametrize(
    ("action", "dialect", "expected"),
    [
        ("put egg 1 in/on fridge 1", "move", "move egg 1 to fridge 1"),
        ("move egg 1 to fridge 1", "put", "put egg 1 in/on fridge 1"),
        ("put egg 1 in/on fridge 1", "put", "put egg 1 in/on fridge 1"),
        ("go to fridge 1", "put", "go to fridge 1"),
        ("nonsense", "move", "nonsense"),
    ],
)
def test_rewriting(action: str, dialect: str, expected: str) -> None:
    assert to_dialect(action, dialect) == expected


def test_forks_are_independent_and_replay_gives_the_same(env: ALFWorldEnv) -> None:
    task = env.tasks("train")[2]
    env.reset(task, seed=5)
    child = env.fork()
    before = (env.admissible(), env.belief.copy())
    turns = win(child)
    assert (env.admissible(), env.belief) == before
    assert [env.step(turn.action).observation for turn in turns][-1]
    other = ALFWorldEnv(games=COUNTS)
    first = other.reset(task, seed=6)
    assert first.text
    assert win(other) == turns, "the seed changes nothing"


def test_build_tells_engine_game_and_dialect(env: ALFWorldEnv) -> None:
    tasks = env.tasks("train")
    env.reset(tasks[0])
    build = env.build()
    assert isinstance(build, Build)
    assert build.engine == "alfworld-native-1"
    assert len(build.data_hash) == 64
    env.reset(tasks[1])
    assert env.build().data_hash != build.data_hash


def test_use_before_reset_and_after_close(env: ALFWorldEnv) -> None:
    with pytest.raises(EnvError, match="reset"):
        env.step("look")
    env.reset(env.tasks("train")[0])
    env.close()
    for call in (
        lambda: env.step("look"),
        lambda: env.tasks("train"),
        lambda: env.reset(Task("a/b", "alfworld", "train", "")),
        env.expert,
        env.fork,
    ):
        with pytest.raises(EnvError, match="closed"):
            call()


@pytest.mark.parametrize("name", ["../x", "a/../../b", "/etc/passwd", "a", "", "a/b/c", "a/b\n"])
def test_task_ids_cannot_leave_the_folder(env: ALFWorldEnv, name: str) -> None:
    with pytest.raises(EnvError, match="not the id of an ALFWorld task"):
        env.reset(Task(name, "alfworld", "train", ""))


def test_missing_data_is_explained(env: ALFWorldEnv, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvError, match=r"json_2\.1\.1"):
        ALFWorldEnv(tmp_path / "nowhere").tasks("train")
    with pytest.raises(EnvError, match=r"unknown split 'test'.*train"):
        ALFWorldEnv(folder).tasks("test")
    with pytest.raises(EnvError, match="unknown split 'test'"):
        env.tasks("test")
    with pytest.raises(EnvError, match="no game"):
        env.reset(Task("a/b", "alfworld", "train", ""))


def write(folder: Path, name: str, game: Any) -> None:
    path = folder / "train" / name / "trial_1" / "game.tw-pddl"
    path.parent.mkdir(parents=True)
    path.write_text(game if isinstance(game, str) else json.dumps(game))


def test_a_folder_of_data(env: ALFWorldEnv, folder: Path, tmp_path: Path) -> None:
    """Either json_2.1.1 itself or its parent; unsolvable and movable games are left out."""
    source = next((folder / "train").glob("pick_and_place*/*/game.tw-pddl"))
    game = json.loads(source.read_text())
    home = tmp_path / "json_2.1.1"
    write(home, "pick_and_place_simple-A-None-B-1", game)
    write(home, "pick_and_place_simple-A-None-B-2", {**game, "solvable": False})
    write(home, "pick_and_place_simple-A-None-B-3", {"solvable": False, **game, "x": 1})
    write(home, "pick_and_place_with_movable_recep-A-Cup-B-4", game)
    write(home, "pick_and_place_simple-ASliced-None-B-5", game)
    write(home, "pick_and_place_simple-A-None-B-6", '{"pddl_domain": "')
    (home / "train" / "pick_and_place_simple-A-None-B-7").mkdir()
    (home / "train" / "notes.txt").write_text("")
    for data in (home, tmp_path, str(home)):
        played = ALFWorldEnv(data)
        names = [task.id for task in played.tasks("train")]
        assert names == [
            "pick_and_place_simple-A-None-B-1/trial_1",
            "pick_and_place_simple-A-None-B-3/trial_1",
            "pick_and_place_simple-A-None-B-6/trial_1",
        ], "a damaged file is listed, so that playing it says what is wrong"
    played.reset(played.tasks("train")[0])
    assert win(played)
    with pytest.raises(EnvError, match=r"B-6.*game.tw-pddl"):
        played.reset(played.tasks("train")[2])


def test_official_data() -> None:
    root = official()
    env = ALFWorldEnv(root.parent)
    start = time.perf_counter()
    sizes = {split: len(env.tasks(split)) for split in ("valid_seen", "valid_unseen")}
    assert time.perf_counter() - start < 3
    assert sizes == {"valid_seen": 140, "valid_unseen": 67}
    for task in env.tasks("valid_unseen")[::7]:
        env.reset(task)
        assert env.build().dialect == "put"
        assert win(env, limit=40)


@pytest.mark.slow
def test_the_stock_engine_says_the_same() -> None:
    pytest.importorskip("textworld")
    root = official()
    stock, native = ALFWorldEnv(root, backend="stock"), ALFWorldEnv(root)
    for task in native.tasks("valid_unseen")[::30]:
        assert stock.reset(task) == native.reset(task)
        for turn in win(native.fork()):
            assert stock.admissible() == native.admissible()
            assert stock.expert() == turn
            assert stock.step(turn.action) == native.step(turn.action)
    assert stock.fork().belief == stock.belief
    assert stock.build().engine == "alfworld-0.4.2"
    stock.close()
