"""How well a product fits a goal: which options to choose, the reward then, what is missing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.goals import NO_CAP, Goal, Option
from step_ray.envs.webshop.pages import BACK, BUY, NEXT, PREV, SEARCH, SUB_PAGES
from step_ray.envs.webshop.products import Product
from step_ray.envs.webshop.reward import has_attribute, has_option, type_factor
from step_ray.envs.webshop.session import parse_action
from step_ray.envs.webshop.tokens import terms

_BUTTONS = frozenset({BACK, BUY, NEXT, PREV, SEARCH, *SUB_PAGES})
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Lack:
    """What keeps a product from fitting; ``what`` is the attribute or option value asked for."""

    kind: Literal["type", "price", "option", "attribute"]
    what: str = ""


def goal_place(goal: Goal, engine: Engine) -> int:
    """The place in the catalogue of the product the goal was made of."""
    places, catalogue = engine.index.positions, engine.catalogue  # in the order of the asins
    found = bisect_left(places, goal.asin, key=lambda place: catalogue[int(place)].asin)
    return int(places[found])


def value_of(wanted: Option) -> str:
    """The value that a goal's option asks for."""
    return wanted if isinstance(wanted, str) else wanted[1]


def selectable(product: Product) -> dict[str, str]:
    """Value -> the option that a click on it chooses; not those that no click can choose.

    These are values that a button is named like, and what cannot be written as an action.
    """
    return {
        value: name
        for name, values in product.options.items()
        for value in values
        if value not in _BUTTONS and parse_action(f"click[{value}]") == ("click", value)
    }


def choice(goal: Goal, product: Product) -> dict[str, str]:
    """The options to choose on a product: name -> value, as far as it has what is asked for."""
    names = selectable(product)
    chosen: dict[str, str] = {}
    for wanted in goal.options:
        asked = value_of(wanted)
        group = "" if isinstance(wanted, str) else wanted[0]
        fitting = [value for value in names if value == asked or has_option((value,), wanted)]
        fitting.sort(key=lambda value: (value != asked, names[value] != group))
        free = next((value for value in fitting if names[value] not in chosen), None)
        if free is not None:
            chosen[names[free]] = free
    return chosen


def potential(goal: Goal, product: Product, engine: Engine) -> float:
    """The reward for buying a product with the best options that it offers."""
    return engine.reward(goal, product, None, choice(goal, product))


def best_reward(goal: Goal, engine: Engine) -> float:
    """The reward for the product the goal was made of: 1, but for a few options of real goals."""
    return potential(goal, engine.catalogue[goal_place(goal, engine)], engine)


def fits(goal: Goal, product: Product, engine: Engine) -> bool:
    """Whether the goal's own product would be no better buy."""
    if product.asin == goal.asin:
        return True
    return potential(goal, product, engine) >= best_reward(goal, engine) - _SAME


def right(
    goal: Goal, products: Iterable[Product], thing: Collection[str], engine: Engine
) -> Product | None:
    """The first product that fits in a person's eyes too.

    The reward takes "large" for "x-large" and any crackers for seeded ones; a person wants the very
    option values, and ``thing``, the terms that name what is wanted, in the title.
    """
    best = best_reward(goal, engine) - _SAME
    wanted = {value_of(option) for option in goal.options}
    for product in products:
        if product.asin == goal.asin or (
            wanted.issubset(selectable(product))
            and set(thing).issubset(terms(product.title))
            and potential(goal, product, engine) >= best
        ):
            return product
    return None


def is_best(goal: Goal, product: Product, options: dict[str, str], engine: Engine) -> bool:
    """Whether buying this now gives all that the goal's own product could."""
    reward = engine.reward(goal, product, None, options)
    return reward >= best_reward(goal, engine) - _SAME


def lacks(goal: Goal, product: Product, engine: Engine) -> list[Lack]:
    """All that a product lacks, what is seen first first."""
    found = []
    if type_factor(product, goal, engine.tagger) < 1:
        found.append(Lack("type"))
    if engine.price(product) > goal.price_upper:
        found.append(Lack("price"))
    offered = selectable(product)
    found += [
        Lack("option", value_of(wanted))
        for wanted in goal.options
        if value_of(wanted) not in offered
    ]
    found += [
        Lack("attribute", name) for name in goal.attributes if not has_attribute(product, name)
    ]
    return found


def on_list(goal: Goal, product: Product, lack: Lack) -> bool:
    """Whether a list of results shows it: the title and the lowest price."""
    if lack.kind == "price":
        return min(product.pricing) > goal.price_upper
    return lack.kind == "type"


def on_page(goal: Goal, product: Product, lack: Lack) -> bool:
    """Whether the product's page shows it."""
    return lack.kind == "option" or on_list(goal, product, lack)


def has_cap(goal: Goal) -> bool:
    """Whether the goal limits the price."""
    return goal.price_upper < NO_CAP
