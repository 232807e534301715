"""ETO's lists of goals as WebShop's splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from webshop_shops import official_folder

from step_ray.envs import make_env
from step_ray.envs.base import EnvError, Task
from step_ray.envs.contract import check_contract
from step_ray.envs.webshop.env import WebShopEnv
from step_ray.envs.webshop.lists import listed_goals


def lists(folder: Path, train: Any, test: Any, prefix: str = "") -> Path:
    for split, values in (("train", train), ("test", test)):
        path = folder / f"{prefix}{split}_indices.json"
        path.write_text(values if isinstance(values, str) else json.dumps(values))
    return folder


def shop(folder: Path, **options: Any) -> WebShopEnv:
    return WebShopEnv(products=120, goals="human", lists=folder, **options)


def test_they_are_the_splits_in_their_order(tmp_path: Path) -> None:
    env = shop(lists(tmp_path, [30, 3, 11], [7, 2], "eto_"))
    assert env.splits == ("train", "test")
    assert [task.id for task in env.tasks("train")] == ["human-30", "human-3", "human-11"]
    assert [task.id for task in env.tasks("test")] == ["human-7", "human-2"]
    whole = WebShopEnv(products=120, goals="human")
    assert env.shop is whole.shop, "one shop, however its goals are shared out"
    assert whole.splits == ("train", "dev", "test")
    for task in env.tasks("test"):
        env.reset(task)
        assert env.session.goal == env.shop.goals[int(task.id.partition("-")[2])]
        assert env.session.goal.category == task.type
    with pytest.raises(EnvError, match="no split 'dev'; they have train, test"):
        env.tasks("dev")
    with pytest.raises(EnvError, match=r"not a task of split test .* has 2 such as human-7, human"):
        env.reset(Task("human-30", "webshop", "test", ""))


def test_they_keep_the_contract(tmp_path: Path) -> None:
    folder = lists(tmp_path, [30, 3, 11, 12], [7, 2])
    check_contract(lambda: shop(folder))


def test_a_goal_is_played_once_and_never_trained_on_and_tested(tmp_path: Path) -> None:
    folder = lists(tmp_path, [5, 9, 5, 1], [2, 9])
    assert listed_goals(folder, 10) == {"train": (5, 1), "test": (2, 9)}
    lists(tmp_path, [2, 9], [9, 2, 3])
    with pytest.raises(EnvError, match="the test list has all goals of the training list"):
        listed_goals(folder, 10)


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ("{", r"cannot read .*train_indices\.json"),
        ({"0": 1}, "should hold a JSON list, not dict"),
        ([], "names no goal"),
        ([1, "2"], "whole numbers, indices of goals, not '2'"),
        ([1, 2.0], "whole numbers, indices of goals, not 2.0"),
        ([1, True], "whole numbers, indices of goals, not True"),
        ([["boil", 3]], r"whole numbers, indices of goals, not \['boil', 3\]"),
        ([1, -1], "names goal -1, and this shop has 10, from 0 on"),
        ([1, 10], "names goal 10, and this shop has 10, .* full catalogue's human goals"),
    ],
)
def test_what_is_no_list_of_this_shops_goals_is_refused(
    tmp_path: Path, train: Any, said: str
) -> None:
    with pytest.raises(EnvError, match=said):
        listed_goals(lists(tmp_path, train, [0]), 10)


def test_a_missing_list_and_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match=r"must hold one \*train_indices\.json, not 0"):
        make_env("webshop", products=60, goals="human", lists=str(tmp_path / "nowhere"))
    lists(tmp_path, [1], [2])
    (tmp_path / "my_test_indices.json").write_text("[3]")
    with pytest.raises(EnvError, match=r"must hold one \*test_indices\.json, not 2"):
        shop(tmp_path)


def test_etos_own_lists_are_of_the_full_catalogue() -> None:
    folder = official_folder()
    found = listed_goals(folder, 12_087)
    assert {split: len(goals) for split, goals in found.items()} == {"train": 1802, "test": 200}
    assert (min(found["test"]), max(found["test"])) == (314, 11_896)
    with pytest.raises(EnvError, match="and this shop has 13, from 0 on"):
        listed_goals(folder, 13)
