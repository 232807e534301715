"""What a purchase is worth, in [0, 1].

Attributes, options and price that fit, out of those asked for, times a factor for the type of
product (WebShop, Yao et al. 2022, equation 1). Two oddities of the original are kept: options of
synthetic goals are compared as (name, value) pairs, and a colour's name stands for every text
that contains it (so "standard" is "tan").
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from rapidfuzz.fuzz import token_set_ratio
from rapidfuzz.utils import default_process

from step_ray.envs.webshop.goals import Goal, Option
from step_ray.envs.webshop.products import Product
from step_ray.envs.webshop.tagger import Tagger

# WebShop's colours (MIT licence), in its order: the first one found counts.
_COLORS = (
    "alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown "
    "burgundy camel camo caramel champagne charcoal cheetah chestnut chocolate christmas coffee "
    "cognac copper coral cranberry cream crystal dark denim eggplant elephant espresso fuchsia "
    "gold granite grape graphite grass gray green grey heather indigo ivory ivy khaki lavender "
    "lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha multicolor "
    "mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red "
    "rose royal rust sand sapphire seashell silver skull slate steel stone stonewash sunflower "
    "tan taupe teal tiger turquoise violet walnut wheat white wine yellow"
)
COLORS = tuple(_COLORS.split())
_ALIKE = 85
_UNUSED = dict.fromkeys(range(128, 256))  # what thefuzz drops before it compares


def reward(
    product: Product, goal: Goal, price: float, options: Iterable[str], tagger: Tagger
) -> float:
    """The reward for buying ``product`` at ``price`` dollars with the chosen option values."""
    fitting = _attributes(product, goal) + _options(options, goal.options)
    asked = len(goal.attributes) + len(goal.options) + 1
    return (fitting + (price <= goal.price_upper)) / asked * type_factor(product, goal, tagger)


def type_factor(product: Product, goal: Goal, tagger: Tagger) -> float:
    """1 for the right type of product; 0.5, 0.1 or 0 the less it has to do with the goal's."""
    wanted = tagger(goal.name)
    shared = len(set(tagger(product.title)) & set(wanted)) / len(wanted) if wanted else 0.2
    if shared == 0.0:
        return 0.0
    if shared < 0.1:
        return 0.1
    same = product.query == goal.query or shared > 0.2
    if same or len(_levels(product.product_category) & _levels(goal.product_category)) >= 2:
        return 1.0
    return 0.5


def has_attribute(product: Product, attribute: str) -> bool:
    """Whether a product has an attribute: among its own, or in what is written of it."""
    return any(alike(own, attribute) for own in product.attributes) or (
        attribute in product.title.lower()
        or attribute in " ".join(product.bullets).lower()
        or attribute in product.description.lower()
    )


def has_option(chosen: Iterable[str], wanted: Option) -> bool:
    """Whether one of the chosen values is what a goal's option asks for."""
    asked = color(wanted)
    return any(alike(color(value), asked) for value in chosen)


@lru_cache(maxsize=1 << 16)
def alike(first: Option, second: Option) -> bool:
    """thefuzz's token_set_ratio over 85."""
    return round(token_set_ratio(_plain(first), _plain(second))) > _ALIKE


def color(value: Option) -> Option:
    """The first of WebShop's colours that a value contains (a pair: is an element), else itself."""
    return next((name for name in COLORS if name in value), value)


def _attributes(product: Product, goal: Goal) -> int:
    return sum(has_attribute(product, attribute) for attribute in goal.attributes)


def _options(chosen: Iterable[str], wanted: tuple[Option, ...]) -> int:
    values = tuple(chosen)
    return sum(has_option(values, option) for option in wanted)


def _plain(value: Option) -> str:
    return default_process(str(value).translate(_UNUSED))


@lru_cache(maxsize=1 << 12)
def _levels(category: str) -> frozenset[str]:
    return frozenset(level.strip() for level in category.split("›"))
