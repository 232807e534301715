"""Recorded episodes of the original WebShop, on its own 1,000 products."""

from __future__ import annotations

import json
import lzma
from collections import Counter
from typing import Any

import pytest
from webshop_shops import official, official_folder

from step_ray.envs.webshop.session import Session


@pytest.fixture(scope="module")
def episodes() -> list[dict[str, Any]]:
    with lzma.open(
        official_folder() / "recorded_sessions.jsonl.xz", "rt", encoding="utf-8"
    ) as file:
        return [json.loads(line) for line in file]


def start(episode: dict[str, Any]) -> Session:
    shop = official("human" if episode["human_goals"] else "synthetic")
    return shop.session(episode["goal_index"], episode["mode"])


def test_there_is_enough_to_compare(episodes: list[dict[str, Any]]) -> None:
    turns = [turn for episode in episodes for turn in episode["turns"]]
    actions = Counter(turn["action"].partition("[")[0] for turn in turns)
    assert (len(episodes), len(turns)) == (160, 2098)
    assert actions["search"] > 250
    assert actions["click"] > 1700
    assert sum(turn["done"] for turn in turns) == 93


def test_goals_are_the_same_after_the_shuffle(episodes: list[dict[str, Any]]) -> None:
    for episode in episodes:
        recorded, goal = episode["goal"], start(episode).goal
        options = list(goal.options) if episode["human_goals"] else dict(goal.options)
        assert options == recorded.pop("goal_options")
        assert goal.instruction == recorded.pop("instruction_text")
        assert goal.weight == pytest.approx(recorded.pop("weight"), rel=1e-12)
        assert list(goal.attributes) == recorded.pop("attributes")
        assert recorded == {name: getattr(goal, name) for name in recorded}


def test_every_page_click_and_reward_is_the_same(episodes: list[dict[str, Any]]) -> None:
    for number, episode in enumerate(episodes):
        session = start(episode)
        assert session.observation == episode["reset"], f"episode {number}"
        for place, turn in enumerate(episode["turns"]):
            reward, done, _ = session.step(turn["action"])
            where = f"episode {number}, turn {place}: {turn['action']}"
            assert (reward, done) == (turn["reward"], turn["done"]), where
            assert session.observation == turn["observation"], where
            if turn["available"] is not None:
                assert session.clickables == turn["available"]["clickables"], where
                assert session.has_search_bar == turn["available"]["has_search_bar"], where


def test_clicks_without_effect_are_told_from_those_with_one(
    episodes: list[dict[str, Any]],
) -> None:
    for episode in episodes:
        session = start(episode)
        for turn in episode["turns"]:
            action = turn["action"]
            expected = action.lower() in session.admissible()
            if action.startswith("search["):
                expected = action != "search[]"
            assert session.step(action)[2] == expected, action
