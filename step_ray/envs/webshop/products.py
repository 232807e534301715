"""WebShop's products: the three original files, read as the original reads them.

``items_shuffle*.json`` holds the products, ``items_ins_v2*.json`` their attributes and synthetic
instructions, ``items_human_ins.json`` the instructions that people wrote.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from step_ray.envs.base import EnvError

DEFAULT_PRICE = 100.0
_LONGEST_ASIN = 10

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HumanInstruction:
    """What a person asked for: the text, and the attributes and option values meant by it."""

    text: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """One product. ``pricing``: one price or the two ends of a range, in dollars.

    ``place``: its number in the catalogue's order. ``options`` maps an option's name to its
    values, all in lower case. ``instruction`` and its ``wanted`` attributes make synthetic goals;
    ``human`` makes human ones.
    """

    place: int
    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    pricing: tuple[float, ...]
    price_tag: str
    options: dict[str, tuple[str, ...]]
    attributes: tuple[str, ...]
    category: str
    query: str
    product_category: str
    instruction: str | None = None
    wanted: tuple[str, ...] = ()
    human: tuple[HumanInstruction, ...] = ()

    @property
    def document(self) -> str:
        """The text by which the product is found."""
        options = ", and ".join(
            f"{name}: {', '.join(values)}" for name, values in self.options.items()
        )
        first = self.bullets[0] if self.bullets else ""
        return f"{self.title} {self.description} {first} {options}".lower()


class Rows(Protocol):
    """Something looked up by asin: a dictionary, or a table on disk."""

    def get(self, key: str, default: Any, /) -> Any: ...


def parse_products(items: Iterable[Raw], ins: Rows, human: Rows) -> Iterator[Product]:
    """The products of a catalogue in its order.

    As in the original, an asin that is "nan", longer than 10 characters or repeated is left out.
    Raises EnvError for an item that lacks a field or whose price cannot be read.
    """
    seen = set()
    for number, item in enumerate(items):
        asin = item.get("asin")
        if not isinstance(asin, str):
            raise EnvError(f"product number {number} of the catalogue has no asin")
        if asin == "nan" or len(asin) > _LONGEST_ASIN or asin in seen:
            continue
        seen.add(asin)
        yield parse_product(len(seen) - 1, item, ins.get(asin, {}), human.get(asin, ()))


def parse_product(place: int, item: Raw, ins: Raw, human: Iterable[Raw]) -> Product:
    """One product of the original files. Raises EnvError as :func:`parse_products` does."""
    try:
        pricing, tag = _pricing(item.get("pricing"))
        bullets = item["small_description"]
        return Product(
            place=place,
            asin=item["asin"],
            title=str(item["name"]),
            description=str(item["full_description"]),
            bullets=tuple(map(str, bullets if isinstance(bullets, list) else [bullets])),
            pricing=pricing,
            price_tag=tag,
            options=_options(item["customization_options"]),
            attributes=tuple(ins.get("attributes", ("DUMMY_ATTR",))),
            category=item["category"],
            query=item["query"].lower().strip(),
            product_category=item["product_category"],
            instruction=ins.get("instruction"),
            wanted=tuple(ins.get("instruction_attributes") or ()),
            human=tuple(
                HumanInstruction(
                    told["instruction"],
                    tuple(told["instruction_attributes"]),
                    tuple(told["instruction_options"]),
                )
                for told in human
            ),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise EnvError(
            f"product {item['asin']} of the catalogue cannot be read: {error!r}; "
            "compare it with WebShop's items_shuffle_1000.json"
        ) from error


def _pricing(text: str | None) -> tuple[tuple[float, ...], str]:
    """Prices in dollars and how they are shown; "$5.0" or "$5.0$7.5" as in the files."""
    if not text:
        return (DEFAULT_PRICE,), f"${DEFAULT_PRICE}"
    prices = tuple(float(re.sub(r"[^\d.]", "", part)) for part in text.split("$")[1:])
    if len(prices) == 1:
        return prices, f"${prices[0]}"
    return prices[:2], f"${prices[0]} to ${prices[1]}"


def _options(groups: Raw | str | None) -> dict[str, tuple[str, ...]]:
    options = {}
    for name, values in (groups or {}).items():  # type: ignore[union-attr]
        if values is not None:
            options[name.lower()] = tuple(
                value["value"].strip().replace("/", " | ").lower() for value in values
            )
    return options


def draw_price(product: Product, rng: random.Random) -> float:
    """What the product costs in this shop, in dollars; a range is drawn uniformly."""
    if len(product.pricing) == 1:
        return product.pricing[0]
    return rng.uniform(*product.pricing)
