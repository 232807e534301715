"""Goals are those of the original: what is asked, in which order, in which split."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webshop_shops import CHAIRS, chairs, item, official, told, wish

from step_ray.envs.base import EnvError
from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.goals import NO_CAP, Goal


def goal_of(shop: Engine, asin: str) -> list[Goal]:
    return [goal for goal in shop.goals if goal.asin == asin]


def test_a_synthetic_goal_for_every_combination_of_options() -> None:
    goals = goal_of(chairs(), "B000000001")
    asked = {goal.options for goal in goals}
    colors, sizes = ("red", "light blue"), ("small", "l | xl")
    assert asked == {(("color", c), ("size", s)) for c, s in product(colors, sizes)}
    texts = {goal.instruction.rpartition(",")[0] for goal in goals}
    assert "Find me a chair with color: light blue, and size: l | xl" in texts
    (stool,) = goal_of(chairs(), "B000000002")
    assert stool.instruction.startswith("Find me a stool, and price lower than ")
    assert stool.options == ()


def test_human_goals_have_the_persons_words_and_bare_values() -> None:
    (goal,) = chairs("human").goals
    assert goal.instruction.startswith("i need a blue armchair, and price lower than ")
    assert (goal.options, goal.attributes) == (("blue", "x-large"), ("blue",))
    assert goal.weight == 1.0


def test_price_caps_are_near_and_above_the_price() -> None:
    for seed in range(20):
        shop = chairs(price_seed=seed)
        for goal in shop.goals:
            price = shop.price(next(p for p in shop.catalogue if p.asin == goal.asin))
            assert price < goal.price_upper <= price + 40
            assert goal.price_upper % 10 == 0
            assert goal.instruction.endswith(f"and price lower than {goal.price_upper:.2f} dollars")
    caps = {tuple(goal.price_upper for goal in chairs(price_seed=s).goals) for s in range(20)}
    assert len(caps) > 3


@pytest.mark.parametrize(
    ("price", "capped"), [("$979.99", True), ("$980", False), ("$5000", False)]
)
def test_what_costs_too_much_has_no_cap(price: str, capped: bool) -> None:
    shop = Engine.from_catalogue([item("B1", pricing=price)], {"B1": wish("soft")}, {})
    (goal,) = shop.goals
    assert (goal.price_upper != NO_CAP) == capped
    assert ("dollars" in goal.instruction) == capped


def test_rarer_attributes_weigh_more() -> None:
    shop = Engine.from_catalogue(
        [item("B1"), item("B2", options={"Size": ["s", "m", "l"]})],
        {"B1": wish("soft", "warm"), "B2": wish("soft")},
        {},
    )
    weights = {goal.asin: goal.weight for goal in shop.goals}
    assert weights == {"B1": (1 / 4 + 1) / 2, "B2": 1 / 4}


def test_a_goal_without_values_to_choose_from_does_not_exist() -> None:
    given_items = [item("B1", options={"Size": []}), item("B2")]
    shop = Engine.from_catalogue(given_items, {"B1": wish("soft"), "B2": wish("warm")}, {})
    assert [goal.asin for goal in shop.goals] == ["B2"]


def test_an_instruction_without_attributes_is_refused() -> None:
    with pytest.raises(EnvError, match="B1 has an instruction without attributes"):
        Engine.from_catalogue([item("B1")], {"B1": wish()}, {})


@settings(deadline=None)
@given(total=st.integers(0, 400))
def test_splits_share_out_all_goals(total: int) -> None:
    people = {"B1": [told("B1", f"wish {n}", ["soft"], []) for n in range(total)]}
    goals = Engine.from_catalogue([item("B1")], {}, people, goals="human").goals
    splits = {name: goals.split(name) for name in ("test", "dev", "train")}
    assert [place for split in splits.values() for place in split] == list(range(total))
    assert len(splits["test"]) == -(-total // 10)
    assert len(splits["train"]) >= len(splits["dev"]) or total < 3


def test_large_shops_have_the_originals_splits() -> None:
    sizes = {"Size": [str(n) for n in range(3000)]}
    goals = Engine.from_catalogue([item("B1", options=sizes)], {"B1": wish("soft")}, {}).goals
    assert goals.split("test") == range(500)
    assert goals.split("dev") == range(500, 1500)
    assert goals.split("train") == range(1500, 3000)
    with pytest.raises(EnvError, match=r"unknown split 'valid'; .* train, dev, test"):
        goals.split("valid")


def test_slices_and_single_goals_agree() -> None:
    goals = chairs().goals
    assert goals[1:4] == [goals[1], goals[2], goals[3]]
    assert goals[-1] == list(goals)[-1]
    with pytest.raises(IndexError):
        goals[len(goals)]
    assert goals.product(2).asin == goals[2].asin


def test_the_official_goals() -> None:
    synthetic, human = official(), official("human")
    assert (len(synthetic.goals), len(human.goals)) == (6910, 13)
    assert Counter(goal.asin for goal in synthetic.goals).keys() <= {
        p.asin for p in synthetic.catalogue if p.instruction
    }
    assert len(synthetic.goals.split("train")) == 5410
    assert sum(goal.weight for goal in human.goals) == 13


def test_shuffling_keeps_every_goal() -> None:
    assert len(set(chairs().goals)) == len(chairs().goals) == 5
    assert {goal.asin for goal in chairs().goals} == set(list(CHAIRS[1])[:2])
