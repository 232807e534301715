"""The reward of a purchase, with the original's oddities."""

from __future__ import annotations

import dataclasses
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webshop_shops import chairs, item

from step_ray.envs.base import EnvError
from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.generate import generate_catalogue
from step_ray.envs.webshop.goals import Goal, Option
from step_ray.envs.webshop.products import Product, parse_products
from step_ray.envs.webshop.reward import (
    COLORS,
    alike,
    color,
    has_attribute,
    has_option,
    reward,
    type_factor,
)
from step_ray.envs.webshop.tagger import load_tagger, rule_nouns


def seat(**fields: object) -> Product:
    return next(parse_products([item("B1", **fields)], {"B1": {"attributes": ["solid wood"]}}, {}))


def goal(**fields: object) -> Goal:
    asked: dict[str, object] = {
        "asin": "B1",
        "category": "garden",
        "query": "chairs",
        "name": "Plain Chair",
        "product_category": "Home › Furniture › Chairs",
        "instruction": "",
        "attributes": ("solid wood", "sturdy"),
        "price_upper": 30.0,
        "options": (("color", "red"), ("size", "xx-large")),
        "weight": 1.0,
    }
    return Goal(**{**asked, **fields})  # type: ignore[arg-type]


def test_the_parts_add_up() -> None:
    def bought(price: float, *options: str) -> float:
        return reward(seat(), goal(), price, options, rule_nouns)

    assert bought(30.0, "red", "xx-large") == 1.0
    assert bought(30.01, "red", "xx-large") == 4 / 5
    assert bought(25.0) == 3 / 5
    assert bought(25.0, "dark red") == 3 / 5  # "dark" is a colour too, and comes first
    assert bought(25.0, "cherry red") == 4 / 5
    other = goal(attributes=("water proof",), options=())
    assert reward(seat(), other, 25.0, [], rule_nouns) == 1 / 2


def test_attributes_are_found_in_lists_and_texts() -> None:
    chair = seat(name="Oak Chair", full_description="Very COMFY.", small_description=["Rust Free"])
    assert all(has_attribute(chair, a) for a in ("solid wood", "wood", "oak", "comfy", "rust free"))
    assert not has_attribute(chair, "water proof")


@pytest.mark.parametrize(
    ("chosen", "wanted", "found"),
    [
        ("xx-large", ("size", "xx-large"), True),
        ("xx-large", "xx-large", True),
        ("red", ("color", "red"), True),
        ("cherry red", ("color", "red"), True),
        ("red", ("color", "cherry red"), True),  # compared with "('color', 'cherry red')" as words
        ("size", ("size", "7"), True),
        ("standard", "tan leather", True),
        ("blue", ("color", "red"), False),
        ("7", ("size", "8"), False),
    ],
)
def test_options_are_compared_as_the_original_does(
    chosen: str, wanted: Option, found: bool
) -> None:
    assert has_option([chosen], wanted) is found
    assert has_option(["nothing", chosen], wanted) is found


def test_colours() -> None:
    assert len(COLORS) == len(set(COLORS)) == 102
    assert (color("navy blue"), color("standard"), color("7")) == ("blue", "tan", "7")
    assert color(("color", "red")) == "red"
    assert color(("color", "dark red")) == ("color", "dark red")


def test_texts_are_compared_without_latin_accents() -> None:
    assert alike("café", "caf")
    assert not alike("", "")


def test_the_wrong_type_costs() -> None:
    def factor(**fields: object) -> float:
        return type_factor(seat(**fields), goal(name="Plain Oak Chair Garden Seat"), rule_nouns)

    elsewhere = {"query": "lamps", "product_category": "Lights › Lamps"}
    assert factor(name="Plain Oak Chair", **elsewhere) == 1.0  # more than a fifth of the nouns
    assert factor(name="Oak Lamp", **elsewhere) == 0.5
    assert factor(name="Oak Lamp", query="chairs", product_category="") == 1.0
    assert factor(name="Oak Lamp", query="lamps") == 1.0  # two levels of the category
    assert factor(name="Lamp") == 0.0
    many = goal(name="alpha beta gamma delta kappa lambda sigma omega theta iota oak")
    assert type_factor(seat(name="Oak Lamp"), many, rule_nouns) == 0.1
    assert type_factor(seat(name="Oak"), goal(name="12 x"), rule_nouns) == 1.0  # no noun: 0.2


def test_the_rule_tagger() -> None:
    assert rule_nouns("Set of 2 Oak Chairs for the Garden, oak 4K") == (
        "oak",
        "chairs",
        "garden",
        "oak",
    )
    with pytest.raises(EnvError, match="unknown tagger 'tree'; the taggers are rule, spacy"):
        load_tagger("tree")


def test_a_tagger_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(EnvError, match="pip install spacy"):
        chairs(tagger="spacy")


@pytest.fixture(scope="module")
def shop() -> Engine:
    return Engine.from_catalogue(*generate_catalogue(200, 5))


def test_buying_what_was_asked_for_is_worth_one(shop: Engine) -> None:
    for index in range(0, len(shop.goals), 7):
        wanted, product = shop.goals[index], shop.goals.product(index)
        options = {pair[0]: pair[1] for pair in wanted.options}
        assert shop.reward(wanted, product, None, options) == 1.0


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_rewards_are_between_zero_and_one(shop: Engine, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(shop.goals) - 1))
    product = shop.catalogue[data.draw(st.integers(0, len(shop.catalogue) - 1))]
    options = {n: data.draw(st.sampled_from(v)) for n, v in product.options.items() if v}
    price = data.draw(st.floats(0, 1e6))
    worth = shop.reward(shop.goals[index], product, price, options)
    assert 0.0 <= worth <= 1.0
    cheap = dataclasses.replace(shop.goals[index], price_upper=price)
    assert shop.reward(cheap, product, price, options) >= worth
