"""The generated catalogue: its schema, its statistics against WebShop's 1,000, its families."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from itertools import combinations
from statistics import mean, median
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from step_ray.envs.webshop.generate import generate_catalogue
from step_ray.envs.webshop.wording import noun_phrase, synthetic_instruction

SEEDS = (0, 1, 2)
Made = tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module", params=SEEDS)
def made(request: pytest.FixtureRequest) -> Made:
    return generate_catalogue(1000, request.param)


def text_of(item: dict[str, Any]) -> str:
    parts = [item["name"], item["full_description"], *item["small_description"]]
    return " ".join(parts).lower()


def groups_of(item: dict[str, Any]) -> dict[str, list[str]]:
    options = item["customization_options"] or {}
    return {name: [entry["value"] for entry in values] for name, values in options.items()}


def about(value: float, target: float, tolerance: float) -> bool:
    return abs(value - target) <= tolerance


def test_same_arguments_same_catalogue_and_others_another() -> None:
    first, again = generate_catalogue(60, 3), generate_catalogue(60, 3)
    assert json.dumps(first) == json.dumps(again)
    assert json.dumps(first) != json.dumps(generate_catalogue(60, 4))


@given(products=st.integers(1, 80), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_any_size_has_the_schema(products: int, seed: int) -> None:
    items, attributes, human = generate_catalogue(products, seed)
    asins = [item["asin"] for item in items]
    assert len(set(asins)) == len(items) == products
    assert set(attributes) == set(asins)
    assert set(human) <= set(asins)
    for item in items:
        assert len(item["asin"]) == 10
        assert isinstance(item["small_description"], list)
        assert item["images"]
        assert isinstance(item["page"], int)
        for values in (item["customization_options"] or {}).values():
            assert all(entry["value"].strip() for entry in values)
        said = attributes[item["asin"]]
        assert set(said.get("instruction_attributes", ())) <= set(said["attributes"])
    for asin, goals in human.items():
        for goal in goals:
            assert goal["asin"] == asin
            assert goal["instruction_attributes"]
            assert set(goal["instruction_attributes"]) <= set(attributes[asin]["attributes"])


def test_an_empty_catalogue_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one product"):
        generate_catalogue(0)


def test_categories_and_queries(made: Made) -> None:
    items, _, _ = made
    shares = Counter(item["category"] for item in items)
    real = {"beauty": 238, "electronics": 229, "garden": 216, "fashion": 200, "grocery": 117}
    assert all(about(shares[name], count, 10) for name, count in real.items())
    assert about(len({item["query"] for item in items}), 246, 15)
    depths = Counter(item["product_category"].count("›") + 1 for item in items)
    assert set(depths) <= {3, 4, 5, 6}
    assert depths[4] + depths[5] >= 700


def test_texts_are_as_long_as_the_originals(made: Made) -> None:
    items, _, _ = made
    words = [len(item["name"].split()) for item in items]
    assert about(mean(words), 18, 2)
    assert max(words) <= 41
    sizes = [len(item["full_description"]) for item in items]
    assert about(mean(sizes), 510, 75)
    assert about(median(sizes), 307, 75)
    points = [len(item["small_description"]) for item in items]
    assert about(mean(points), 4.6, 0.3)
    assert (min(points), max(points)) == (1, 8)


def test_attributes_and_instructions(made: Made) -> None:
    _, attributes, _ = made
    listed = [len(each["attributes"]) for each in attributes.values()]
    assert median(listed) == 2
    assert min(listed) == 0
    assert about(max(listed), 27, 6)
    distinct = {name for each in attributes.values() for name in each["attributes"]}
    assert about(len(distinct), 598, 90)
    named = [len(each["instruction_attributes"]) for each in attributes.values() if len(each) > 1]
    assert about(len(named), 415, 20)
    assert sum(2 <= count <= 4 for count in named) >= 0.85 * len(named)


def test_options(made: Made) -> None:
    items, attributes, _ = made
    count = Counter(len(groups_of(item)) for item in items)
    for groups, real in {0: 577, 1: 245, 2: 165, 3: 13}.items():
        assert about(count[groups], real, 40), (groups, count)
    names = Counter(name for item in items for name in groups_of(item))
    assert about(names["Color"], 286, 45)
    assert about(names["Size"], 268, 45)
    assert {"Style", "Flavor Name", "Fit Type", "Scent"} <= set(names)
    sizes = [len(values) for item in items for values in groups_of(item).values()]
    assert median(sizes) == 4
    assert min(sizes) == 2
    assert 20 <= max(sizes) <= 45
    goals = sum(
        math.prod(map(len, groups_of(item).values()))
        for item in items
        if "instruction" in attributes[item["asin"]]
    )
    assert 2500 <= goals <= 9000  # the original prints 6910 for its own


def test_prices(made: Made) -> None:
    items, _, _ = made
    tags = [item["pricing"] for item in items]
    assert about(tags.count(""), 90, 10)
    assert about(sum(tag.count("$") == 2 for tag in tags), 90, 10)
    prices = [float(tag.split("$")[1]) for tag in tags if tag]
    assert about(median(prices), 29.23, 6)
    assert min(prices) > 0
    assert max(prices) > 300


def test_listed_attributes_stand_in_the_text(made: Made) -> None:
    items, attributes, _ = made
    for item in items:
        text = text_of(item)
        assert all(name in text for name in attributes[item["asin"]]["attributes"]), item["asin"]


def test_families_hold_near_duplicates(made: Made) -> None:
    """Most products have a twin: same query and noun, and title words nearly the same."""
    items, _, _ = made
    queries = defaultdict(list)
    for item in items:
        queries[item["query"]].append(item)
    twins = set()
    differences = Counter[str]()
    for members in queries.values():
        for one, other in combinations(members, 2):
            words, others = (set(item["name"].lower().split()) for item in (one, other))
            if len(words & others) >= 0.6 * len(words | others):
                twins |= {one["asin"], other["asin"]}
                differences["options"] += groups_of(one) != groups_of(other)
                differences["price"] += one["pricing"] != other["pricing"]
                differences["text"] += words != others
    assert len(twins) >= 700
    assert min(differences.values()) >= 100


def test_human_wishes_are_varied_and_say_what_counts(made: Made) -> None:
    _, _, human = made
    goals = [goal for goals in human.values() for goal in goals]
    assert len(goals) >= 2000
    said = [goal["instruction"] for goal in goals]
    assert len({" ".join(text.split()[:3]) for text in said}) >= 30
    for goal in goals:
        text = goal["instruction"].replace("/", " | ")
        assert all(attribute in text for attribute in goal["instruction_attributes"])
        assert all(value in text for value in goal["instruction_options"])


def test_synthetic_instructions_read_as_the_originals() -> None:
    chosen = [("is", "non slip"), ("for", "daily wear"), ("with", "lace trim"), ("is", "soft")]
    said = "Find me non slip, soft women's flats with lace trim for daily wear"
    assert synthetic_instruction("women's flats", chosen) == said


def test_nouns_have_the_right_article() -> None:
    assert noun_phrase("end table") == "an end table"
    assert noun_phrase("shirt dress") == "a shirt dress"
    assert noun_phrase("crew socks") == "some crew socks"
    assert noun_phrase("mint mouthwash") == "some mint mouthwash"
