"""WebShop's goals: what to buy, made of the products' instructions.

A synthetic instruction gives one goal for every combination of the product's options, a human one
a single goal. Goals are described by a few numbers per instruction and made when they are asked
for: the full catalogue has millions of them.
"""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from step_ray.envs.base import EnvError
from step_ray.envs.webshop.catalogue import Catalogue
from step_ray.envs.webshop.products import Product, draw_price

GoalKind = Literal["synthetic", "human"]
Option = str | tuple[str, str]

SHUFFLE_SEED = 233  # the original's
NO_CAP = 1_000_000.0
_CAPS = tuple(10.0 * tens for tens in range(1, 100))
_TEST, _DEV = 500, 1000
_SMALL = 3000  # goals below which the original's splits would leave little to train on
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be bought.

    ``options`` are (name, value) pairs in synthetic goals and bare values in human ones; the
    reward compares them differently. ``price_upper``: dollars. ``name``: the product's title.
    ``weight``: how often the original draws the goal, relative to others.
    """

    asin: str
    category: str
    query: str
    name: str
    product_category: str
    instruction: str
    attributes: tuple[str, ...]
    price_upper: float
    options: tuple[Option, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class GoalTable(Sequence[Goal]):
    """All goals in their shuffled order.

    Source s (an instruction) belongs to the product at ``positions[s]``, is its ``parts[s]``-th
    human instruction, has a price cap and a weight, and gives the unshuffled goals
    ``ends[s-1]`` to ``ends[s] - 1``. ``order[i]`` is the unshuffled number of goal i.
    """

    kind: GoalKind
    catalogue: Catalogue
    positions: NDArray[np.int32]
    parts: NDArray[np.int32]
    caps: NDArray[np.float64]
    weights: NDArray[np.float64]
    ends: NDArray[np.int64]
    order: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.order)

    @overload
    def __getitem__(self, index: int) -> Goal: ...
    @overload
    def __getitem__(self, index: slice) -> list[Goal]: ...
    def __getitem__(self, index: int | slice) -> Goal | list[Goal]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number, source = self._source(index)
        product = self.product(index)
        options: tuple[Option, ...]
        if self.kind == "human":
            told = product.human[int(self.parts[source])]
            text, attributes, options = told.text.strip("."), told.attributes, told.options
        else:
            first = int(self.ends[source - 1]) if source else 0
            options = pairs = _combination(product.options, number - first)
            said = ", and ".join(f"{name}: {value}" for name, value in pairs)
            text = f"{product.instruction}{' with ' + said if said else ''}"
            attributes = product.wanted
        cap = float(self.caps[source])
        if cap != NO_CAP:
            text += f", and price lower than {cap:.2f} dollars"
        return Goal(
            asin=product.asin,
            category=product.category,
            query=product.query,
            name=product.title,
            product_category=product.product_category,
            instruction=text,
            attributes=attributes,
            price_upper=cap,
            options=options,
            weight=float(self.weights[source]),
        )

    def product(self, index: int) -> Product:
        """The product that a goal asks for."""
        return self.catalogue[int(self.positions[self._source(index)[1]])]

    def _source(self, index: int) -> tuple[int, int]:
        """The unshuffled number of a goal and its source."""
        number = int(self.order[index])
        return number, int(np.searchsorted(self.ends, number, side="right"))

    def split(self, name: str) -> range:
        """The indices of a split's goals.

        The original's 500 test, 1,000 dev and all other goals for training; of fewer than 3,000
        goals the first tenth (rounded up) is for test, the next one for dev.
        Raises EnvError for an unknown split.
        """
        if name not in SPLITS:
            raise EnvError(f"unknown split {name!r}; WebShop's splits are {', '.join(SPLITS)}")
        total = len(self)
        tenth = math.ceil(total / 10)
        test, dev = (_TEST, _DEV) if total >= _SMALL else (tenth, tenth)
        bounds = {"test": (0, test), "dev": (test, test + dev), "train": (test + dev, total)}
        return range(*(min(bound, total) for bound in bounds[name]))


def build(
    catalogue: Catalogue, kind: GoalKind, seed: int, prices: Mapping[str, float] | None = None
) -> tuple[NDArray[np.float64], GoalTable]:
    """The price of every product, in dollars, and the goals, both drawn from ``seed``.

    One generator draws the prices of all ranges and then the goals' price caps, in the order of
    the original; ``prices``, by asin, take the place of drawn ones.
    Raises EnvError for an instruction without attributes.
    """
    rng = random.Random(seed)
    count = range(len(catalogue))
    paid = array("d", (draw_price(catalogue[place], rng) for place in count))
    positions, parts, caps, sizes = array("i"), array("i"), array("d"), array("q")
    wanted: list[tuple[str, ...]] = []
    goals_with: Counter[str] = Counter()
    for place in count:
        product = catalogue[place]
        if prices is not None:
            paid[place] = prices.get(product.asin, paid[place])
        for part, attributes in _instructions(product, kind):
            size = math.prod(map(len, product.options.values())) if kind == "synthetic" else 1
            positions.append(place)
            parts.append(part)
            caps.append(_cap(paid[place], rng))
            sizes.append(size)
            wanted.append(attributes)
            for attribute in attributes:
                goals_with[attribute] += size
    ends = np.cumsum(np.array(sizes, dtype=np.int64))
    order = list(range(int(ends[-1]) if len(ends) else 0))
    random.Random(SHUFFLE_SEED).shuffle(order)
    table = GoalTable(
        kind,
        catalogue,
        np.array(positions, dtype=np.int32),
        np.array(parts, dtype=np.int32),
        np.array(caps, dtype=np.float64),
        np.array([_weight(names, goals_with, kind) for names in wanted], dtype=np.float64),
        ends,
        np.array(order, dtype=np.int32),
    )
    return np.array(paid, dtype=np.float64), table


def _weight(attributes: tuple[str, ...], goals_with: Mapping[str, int], kind: GoalKind) -> float:
    """Goals with rarer attributes weigh more; one without any goal weighs nothing."""
    if kind == "human":
        return 1.0
    shares = [1.0 / goals_with[name] for name in attributes if goals_with[name]]
    return sum(shares) / len(attributes)


def _instructions(product: Product, kind: GoalKind) -> list[tuple[int, tuple[str, ...]]]:
    """The product's instructions of a kind: number and wanted attributes."""
    if kind == "human":  # the original skips those without attributes
        told = enumerate(product.human)
        return [(part, human.attributes) for part, human in told if human.attributes]
    if product.instruction is None:
        return []
    if not product.wanted:
        raise EnvError(
            f"product {product.asin} has an instruction without attributes; "
            "add instruction_attributes in items_ins_v2*.json or remove the instruction"
        )
    return [(0, product.wanted)]


def _cap(price: float, rng: random.Random) -> float:
    """The larger of two of the next four multiples of ten above the price."""
    above = [cap for cap in _CAPS if cap > price][:4]
    return max(rng.sample(above, 2)) if len(above) >= 2 else NO_CAP


def _combination(options: dict[str, tuple[str, ...]], number: int) -> tuple[tuple[str, str], ...]:
    """The number-th combination of option values; the last of the sorted names varies fastest."""
    chosen: list[tuple[str, str]] = []
    for name in sorted(options, reverse=True):
        number, place = divmod(number, len(options[name]))
        chosen.append((name, options[name][place]))
    return tuple(reversed(chosen))
