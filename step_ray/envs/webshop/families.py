"""Sections of the generated shop: what is sold, and which words go with it.

The tables in ``goods_home``, ``goods_tech`` and ``goods_wear`` have one block per section::

    [category | path of product_category | median price in dollars | kind of options]
    is: attributes that read "this X is ..."
    with: attributes that read "X with ..."
    for: attributes that read "X for ..."
    query = product noun, product noun
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from step_ray.envs.webshop.goods_home import GROCERY, HOME
from step_ray.envs.webshop.goods_tech import TECH
from step_ray.envs.webshop.goods_wear import CARE, WEAR

ROLES = ("is", "with", "for")


@dataclass(frozen=True, slots=True)
class Section:
    """One block. ``attributes``: (role, phrase); ``queries``: query -> its product nouns."""

    category: str
    path: str
    price: float
    options: str
    attributes: tuple[tuple[str, str], ...]
    queries: tuple[tuple[str, tuple[str, ...]], ...]


@cache
def sections() -> tuple[Section, ...]:
    """All sections, in the order of the tables."""
    blocks = "\n".join((CARE, TECH, HOME, WEAR, GROCERY)).split("\n[")[1:]
    return tuple(_section(block) for block in blocks)


def _section(block: str) -> Section:
    head, _, body = block.partition("]")
    category, path, price, options = (part.strip() for part in head.split("|"))
    attributes: list[tuple[str, str]] = []
    queries: list[tuple[str, tuple[str, ...]]] = []
    for line in filter(None, body.splitlines()):
        role, colon, rest = line.partition(": ")
        if colon and role in ROLES:
            attributes += [(role, phrase.strip()) for phrase in rest.split(",")]
        else:
            query, _, nouns = line.partition(" = ")
            queries.append((query, tuple(noun.strip() for noun in nouns.split(","))))
    return Section(category, path, float(price), options, tuple(attributes), tuple(queries))
