"""How long episodes are taken to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from step_ray.config_env import (
    ENVIRONMENTS,
    ALFWorldConfig,
    CustomConfig,
    ScienceWorldConfig,
    WebShopConfig,
)
from step_ray.envs.base import Task
from step_ray.envs.scienceworld.tasks import VARIATIONS
from step_ray.recipes.lengths import TURNS, Lengths, lengths

SHORT, LONG = "look_at_obj_in_light", "pick_two_obj_and_place"


def of(
    env: Any, *kinds: str, max_steps: int = 40, golden_steps: int = 40, context: int = 10**6
) -> Lengths:
    tasks = [Task(str(number), env.name, "train", kind) for number, kind in enumerate(kinds)]
    return lengths(env, tasks, max_steps, golden_steps, context)


def test_every_type_is_known_once() -> None:
    alfworld = ALFWorldConfig.model_fields["task_types"].annotation
    known = {kind for kind in TURNS if kind in str(alfworld)}
    assert len(known) == 6
    assert TURNS.keys() - known <= VARIATIONS.keys()


def test_types_have_their_lengths_and_a_mixture_its_mean() -> None:
    env = ALFWorldConfig()
    short, long, both = of(env, SHORT), of(env, LONG), of(env, SHORT, LONG, LONG, LONG)
    assert short.golden == TURNS[SHORT] < TURNS[LONG] == long.golden
    assert both.golden == pytest.approx((TURNS[SHORT] + 3 * TURNS[LONG]) / 4)
    assert short.tokens(10) == long.tokens(10), "one line for all types"
    assert of(env, "a type of somebody's").golden == 10
    assert of(env, SHORT, golden_steps=4).golden == 4


def test_unaided_episodes_end_at_the_limit() -> None:
    env = ALFWorldConfig()
    turns = TURNS[SHORT]
    assert of(env, SHORT, max_steps=30).unaided == pytest.approx((1.5 * turns + 30) / 2)
    assert of(env, SHORT, max_steps=7).unaided == 7
    science = ScienceWorldConfig(name="scienceworld", step_limits="eto")
    assert of(science, "lifespan-longest-lived").limit == 10
    assert of(science, "lifespan-longest-lived", max_steps=8).limit == 8
    assert of(science, "mendelian-genetics-known-plant").limit == 40, "ETO has no limit for it"
    assert 10 < of(science, "", max_steps=120).limit < 120, "not known: the mean of all"
    free = ScienceWorldConfig(name="scienceworld")
    assert of(free, "lifespan-longest-lived").limit == 40


def test_a_chat_is_no_longer_than_the_context() -> None:
    env = ALFWorldConfig()
    assert of(env, SHORT, context=300).tokens(1000) == 300


@pytest.mark.parametrize(
    ("name", "tokens"), [("alfworld", 1480), ("scienceworld", 2260), ("webshop", 1470)]
)
def test_official_data_of_all_types_are_of_etos_scale(name: str, tokens: int) -> None:
    env = ENVIRONMENTS[name].model_validate({"name": name, "data": Path("/data")})
    found = of(env, "", SHORT, "boil")
    assert found.tokens(found.golden) == pytest.approx(tokens)


def test_other_data_are_measured() -> None:
    types = (SHORT,)
    own, official = ALFWorldConfig(), ALFWorldConfig(data=Path("/data"), task_types=types)
    assert of(own, SHORT) == of(official, SHORT)
    shop = WebShopConfig(name="webshop")
    assert of(shop, "garden").tokens(5) == pytest.approx(1470), "it has one length"
    other = of(CustomConfig(name="somebody:Env"), "x")
    assert other.tokens(other.golden) == pytest.approx(1500)


def test_no_tasks() -> None:
    assert of(ALFWorldConfig()).golden == 0
