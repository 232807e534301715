"""A generated WebShop catalogue: invented products in families of near-duplicates.

The three structures have the schema of WebShop's own files (``items_shuffle``, ``items_ins_v2``,
``items_human_ins``; Yao et al., 2022), and their statistics follow those of its 1,000 products.
A family shares brand, noun, price and most attributes; each further member differs from the first
in one respect: an attribute is exchanged, some option values are others, or it costs much more.
So several products match most words of a goal, and often only one has all of it.
"""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from step_ray.envs.webshop.families import Section, sections
from step_ray.envs.webshop.vocabulary import ANYTHING, BRAND_ENDS, BRAND_STARTS, GROUPS, OPTIONS
from step_ray.envs.webshop.wording import (
    Attribute,
    bullets,
    description,
    human_instruction,
    synthetic_instruction,
    title,
)

GENERATOR = "webshop-generated-1"  # raise it when the same seed gives another catalogue

_SHARES = {"beauty": 238, "electronics": 229, "garden": 216, "fashion": 200, "grocery": 117}
# how many attributes a product lists; how many of them its instruction names
_LISTED = dict(enumerate((140, 185, 205, 145, 125, 68, 38, 28, 17, 8, 5, 6, 3, 3, 2))) | {18: 3}
_LISTED |= {22: 2, 27: 1}
_NAMED = {2: 120, 3: 130, 4: 110, 5: 25, 6: 25, 7: 15}
_BULLETS = {1: 110, 2: 22, 3: 50, 4: 85, 5: 560, 6: 60, 7: 90, 8: 23}
_PRICING = {"single": 818, "range": 93, "missing": 89}
_INSTRUCTED = {True: 62, False: 38}  # of products with two attributes to name
_HUMAN_GOALS = 4  # per such product
_MEMBERS = {2: 2, 3: 4, 4: 4, 5: 3, 6: 1}  # of a family

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Product:
    section: Section
    query: str
    noun: str
    brand: str
    attributes: tuple[Attribute, ...]  # all that its texts name
    contested: frozenset[Attribute]  # those that tell members of the family apart
    options: Mapping[str, tuple[str, ...]]
    price: float
    title_words: int
    look: int  # seed of the title's fillers: the same in a family


def generate_catalogue(
    products: int = 1000, seed: int = 0
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """(items, attributes by asin, human goals by asin), the same for the same arguments.

    Raises ValueError for fewer than one product.
    """
    if products < 1:
        raise ValueError(f"a catalogue has at least one product, not {products}")
    rng = random.Random(f"{GENERATOR}|{seed}|{products}")
    made = [member for family in _families(rng, products) for member in family]
    rng.shuffle(made)
    asins = _asins(rng, len(made))
    pricing = _deal(rng, _PRICING, len(made))
    listed = _deal(rng, _LISTED, len(made))
    points = _deal(rng, _BULLETS, len(made))
    items: list[dict[str, Any]] = []
    attributes: dict[str, Any] = {}
    nameable: dict[str, list[Attribute]] = {}
    for index, (product, asin) in enumerate(zip(made, asins, strict=True)):
        product, shown = _list_attributes(rng, product, listed[index])
        items.append(_item(rng, product, asin, pricing[index], points[index]))
        attributes[asin] = {"attributes": [phrase for _, phrase in shown]}
        nameable[asin] = [attribute for attribute in shown if attribute[0] != "noun"]
    by_asin = dict(zip(asins, made, strict=True))
    candidates = [asin for asin in asins if len(nameable[asin]) >= 2]
    named = _deal(rng, _NAMED, len(candidates))
    instructed = _deal(rng, _INSTRUCTED, len(candidates))
    human: dict[str, Any] = {}
    for asin, count, has_instruction in zip(candidates, named, instructed, strict=True):
        product = by_asin[asin]
        if has_instruction:
            chosen = _name(rng, nameable[asin], product.contested, count)
            attributes[asin]["instruction"] = synthetic_instruction(product.query, chosen)
            attributes[asin]["instruction_attributes"] = [phrase for _, phrase in chosen]
        human[asin] = [
            _human_goal(rng, asin, product, nameable[asin], attributes[asin]["attributes"])
            for _ in range(_HUMAN_GOALS)
        ]
    return items, attributes, human


# -- families --------------------------------------------------------------------------------------


def _families(rng: random.Random, products: int) -> list[list[_Product]]:
    families = []
    quotas = _apportion(_SHARES, products)
    for category, quota in quotas.items():
        shelves = [
            (section, query, nouns)
            for section in sections()
            if section.category == category
            for query, nouns in section.queries
        ]
        rng.shuffle(shelves)
        shelves = shelves[: max(1, quota // 3)]
        weights = {index: rng.randint(2, 9) for index in range(len(shelves))}
        sizes: list[tuple[int, int]] = []
        for index, count in _apportion(weights, quota).items():
            while count > 0:
                size = min(count, _draw(rng, _MEMBERS))
                size += count - size == 1  # nobody is left alone
                sizes.append((index, size))
                count -= size
        groups = _deal(rng, GROUPS[category], len(sizes))
        turn: dict[int, int] = {}
        for (index, size), wanted in zip(sizes, groups, strict=True):
            section, query, nouns = shelves[index]
            noun = nouns[turn.get(index, 0) % len(nouns)]
            turn[index] = turn.get(index, 0) + 1
            families.append(_family(rng, section, query, noun, wanted, size))
    return families


def _family(
    rng: random.Random, section: Section, query: str, noun: str, groups: str, size: int
) -> list[_Product]:
    pool = list(section.attributes)
    rng.shuffle(pool)
    count = rng.choice((2, 3, 3, 4, 4, 5))
    spare = pool[count:]
    first = _Product(
        section=section,
        query=query,
        noun=noun,
        brand=_brand(rng),
        attributes=tuple(pool[:count]),
        contested=frozenset(),
        options=_options(rng, section, groups),
        price=_price(rng, section),
        title_words=max(6, min(38, round(rng.gauss(18, 5)))),
        look=rng.randrange(2**32),
    )
    members = [first]
    contested: set[Attribute] = set()
    for _ in range(size - 1):
        member = replace(first, title_words=max(6, first.title_words + rng.randint(-2, 2)))
        if rng.random() < 0.4:  # the same thing under another name
            member = replace(member, brand=_brand(rng))
        kinds = ["attribute", "attribute", "price"] + ["options"] * (3 if first.options else 0)
        kind = rng.choice(kinds)
        if kind == "attribute" and spare:
            old = rng.randrange(count)
            new = spare.pop()
            swapped = [*first.attributes[:old], new, *first.attributes[old + 1 :]]
            contested |= {first.attributes[old], new}
            member = replace(member, attributes=tuple(swapped))
        elif kind == "options":
            member = replace(member, options=_other_values(rng, section, first.options))
        else:
            more = max(rng.uniform(42, 60), first.price * rng.uniform(0.4, 1.0))
            member = replace(member, price=round(first.price + more) - 0.01)
        members.append(member)
    return [
        replace(member, contested=frozenset(contested.intersection(member.attributes)))
        for member in members
    ]


def _options(rng: random.Random, section: Section, groups: str) -> dict[str, tuple[str, ...]]:
    kinds = OPTIONS[section.options]
    names = list(kinds)
    if groups == "*":
        wanted = names
    else:
        places = {"first": names[0], "second": names[1]}
        wanted = [places.get(name, name) for name in groups.split(",") if name]
    return {name: _values(rng, kinds[name]) for name in wanted if name in kinds}


def _values(rng: random.Random, values: Sequence[str]) -> tuple[str, ...]:
    """Mostly 2 to 7 values in the shop's order; now and then nearly all of them."""
    size = rng.choice((2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8))
    if rng.random() < 0.16:
        size = rng.randint(8, 45)
    chosen = set(rng.sample(range(len(values)), min(size, len(values))))
    return tuple(value for index, value in enumerate(values) if index in chosen)


def _other_values(
    rng: random.Random, section: Section, options: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The same groups; one of them without some values and with some that are new."""
    name = rng.choice(list(options))
    order = OPTIONS[section.options][name]
    have = options[name]
    new = [value for value in order if value not in have]
    gone = set(rng.sample(have, max(1, len(have) // 3)))
    come = rng.sample(new, min(len(new), len(gone)))
    kept = [value for value in order if (value in have and value not in gone) or value in come]
    return {**options, name: tuple(kept)} if len(kept) > 1 else dict(options)


# -- products --------------------------------------------------------------------------------------


def _list_attributes(
    rng: random.Random, product: _Product, count: int
) -> tuple[_Product, list[Attribute]]:
    """The product, with more attributes if it lacks some, and the ``count`` that it lists."""
    own = sorted(product.attributes, key=lambda each: (each not in product.contested, each))
    if count > len(own):
        if rng.random() < 0.5 and " " in product.noun:
            own.append(("noun", product.noun))
        more = [each for each in ANYTHING if each not in own]
        more += [
            each for each in product.section.attributes if each not in own and not product.contested
        ]
        own += rng.sample(more, min(len(more), max(0, count - len(own))))
    shown = own[:count]
    rng.shuffle(shown)
    extended = (*product.attributes, *(each for each in own if each not in product.attributes))
    return replace(product, attributes=extended), shown


def _item(
    rng: random.Random, product: _Product, asin: str, pricing: str, points: int
) -> dict[str, Any]:
    said = list(product.attributes)
    about = (product.brand, product.noun, said)
    chars = 0 if rng.random() < 0.3 else min(3000, rng.lognormvariate(6.15, 0.87))
    tags = {"single": f"${product.price:.2f}", "missing": ""}
    tags["range"] = f"${product.price * 0.85:.2f}${product.price * 1.1:.2f}"
    section = product.section
    return {
        "name": title(
            random.Random(product.look),
            product.brand,
            product.noun,
            said,
            section.category,
            product.title_words,
        ),
        "full_description": description(rng, *about, int(chars)),
        "pricing": tags[pricing],
        "images": [_image(asin, number) for number in range(rng.randint(1, 4))],
        "product_category": " › ".join(
            (section.path, string.capwords(product.query), string.capwords(product.noun))
        ),
        "average_rating": rng.choice(("", round(rng.uniform(2.5, 5), 1))),
        "small_description": bullets(rng, *about, points),
        "customization_options": {
            name: [
                {"value": value, "image": _image(asin, number) if name == "Color" else None}
                for number, value in enumerate(values)
            ]
            for name, values in product.options.items()
        }
        or "",
        "asin": asin,
        "category": section.category,
        "query": product.query,
        "page": rng.randint(1, 300),
    }


def _human_goal(
    rng: random.Random,
    asin: str,
    product: _Product,
    nameable: Sequence[Attribute],
    listed: Sequence[str],
) -> dict[str, Any]:
    chosen = _name(rng, nameable, product.contested, rng.choice((1, 2, 2, 3)))
    wanted = {name: rng.choice(values) for name, values in product.options.items()}
    if len(wanted) > 1 and rng.random() < 0.3:  # not everybody cares for everything
        wanted.pop(rng.choice(list(wanted)))
    return {
        "asin": asin,
        "instruction": human_instruction(rng, product.noun, chosen, wanted),
        "attributes": list(listed),
        "options": [f"{name.lower()}: {_shown(value)}" for name, value in wanted.items()],
        "instruction_attributes": [phrase for _, phrase in chosen],
        "instruction_options": [_shown(value) for value in wanted.values()],
    }


def _shown(value: str) -> str:
    return value.replace("/", " | ").lower()


def _name(
    rng: random.Random, nameable: Sequence[Attribute], contested: frozenset[Attribute], count: int
) -> list[Attribute]:
    """``count`` attributes to ask for, first of all those that tell the family's members apart."""
    ranked = rng.sample(nameable, len(nameable))
    ranked.sort(key=lambda each: each not in contested)
    chosen = ranked[:count]
    rng.shuffle(chosen)
    return chosen


# -- drawing ---------------------------------------------------------------------------------------


def _price(rng: random.Random, section: Section) -> float:
    return max(1.0, round(section.price * rng.lognormvariate(-0.45, 0.8)) - 0.01)


def _brand(rng: random.Random) -> str:
    return rng.choice(BRAND_STARTS) + rng.choice(BRAND_ENDS)


def _image(asin: str, number: int) -> str:
    return f"https://shop.example/{asin}/{number}.jpg"


def _asins(rng: random.Random, count: int) -> list[str]:
    made: dict[str, None] = {}
    while len(made) < count:
        made["B0" + "".join(rng.choices(string.ascii_uppercase + string.digits, k=8))] = None
    return list(made)


def _draw(rng: random.Random, weights: Mapping[_T, int]) -> _T:
    return rng.choices(list(weights), list(weights.values()))[0]


def _deal(rng: random.Random, weights: Mapping[_T, int], count: int) -> list[_T]:
    """``count`` draws in random order whose frequencies are as near to the weights as possible."""
    dealt = [value for value, times in _apportion(weights, count).items() for _ in range(times)]
    rng.shuffle(dealt)
    return dealt


def _apportion(weights: Mapping[_T, int], count: int) -> dict[_T, int]:
    """``count`` split in proportion to the weights, by largest remainders."""
    total = sum(weights.values())
    parts = {value: divmod(weight * count, total) for value, weight in weights.items()}
    left = count - sum(whole for whole, _ in parts.values())
    most = sorted(parts, key=lambda value: -parts[value][1])[:left]
    return {value: whole + (value in most) for value, (whole, _) in parts.items()}
