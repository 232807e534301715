"""The shop: products, prices, goals and search, made once and shared by all sessions."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from step_ray.envs.webshop import goals as goal_tables
from step_ray.envs.webshop.catalogue import Catalogue, MemoryCatalogue
from step_ray.envs.webshop.files import CatalogueFiles
from step_ray.envs.webshop.goals import Goal, GoalKind, GoalTable
from step_ray.envs.webshop.pages import PER_PAGE, Mode
from step_ray.envs.webshop.postings import build_index, open_index
from step_ray.envs.webshop.products import Product, Raw, parse_products
from step_ray.envs.webshop.reward import reward
from step_ray.envs.webshop.search import HITS, Index
from step_ray.envs.webshop.session import Session
from step_ray.envs.webshop.store import DIGEST, stored_catalogue, stored_goals, stored_shop
from step_ray.envs.webshop.tagger import Tagger, load_tagger
from step_ray.trajectory import content_hash

PRICE_SEED = 233
STORED_FROM = 50_000_000  # bytes of items_shuffle*.json, some 10,000 products


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """A shop. Immutable; ``prices`` are dollars by place in the catalogue.

    ``digest`` identifies products, prices, goals and tagger.
    """

    catalogue: Catalogue
    prices: NDArray[np.float64]
    goals: GoalTable
    index: Index
    tagger: Tagger
    digest: str

    @classmethod
    def from_folder(
        cls,
        path: Path,
        *,
        goals: GoalKind = "synthetic",
        tagger: str = "rule",
        price_seed: int = PRICE_SEED,
        prices: Mapping[str, float] | None = None,
    ) -> Engine:
        """The shop of a folder with the three original files, or of one ``items_shuffle`` file.

        Large ones are kept on disk, in the cache folder, unless ``prices`` are given.
        Raises EnvError if a file is missing or cannot be read.
        """
        files = CatalogueFiles.find(path)
        if prices is None and files.items.stat().st_size > STORED_FROM:
            return cls.from_store(files, goals=goals, tagger=tagger, price_seed=price_seed)
        return cls.from_catalogue(
            *files.load(), goals=goals, tagger=tagger, price_seed=price_seed, prices=prices
        )

    @classmethod
    def from_store(
        cls,
        files: CatalogueFiles,
        *,
        goals: GoalKind = "synthetic",
        tagger: str = "rule",
        price_seed: int = PRICE_SEED,
    ) -> Engine:
        """The same shop, on disk instead of in memory: see :mod:`step_ray.envs.webshop.store`."""
        shop = stored_shop(files)
        catalogue = stored_catalogue(shop)
        drawn, table = stored_goals(shop, catalogue, goals, price_seed)
        index = open_index(shop, catalogue.term_number)
        digest = content_hash([(shop / DIGEST).read_text(), goals, price_seed, tagger])
        return cls(catalogue, drawn, table, index, load_tagger(tagger), digest)

    @classmethod
    def from_catalogue(
        cls,
        items: Iterable[Raw],
        ins: Raw,
        human: Raw,
        *,
        goals: GoalKind = "synthetic",
        tagger: str = "rule",
        price_seed: int = PRICE_SEED,
        prices: Mapping[str, float] | None = None,
    ) -> Engine:
        """The shop of a catalogue in the original's structure.

        ``price_seed`` draws the prices of ranges and the goals' price caps; ``prices`` (dollars by
        asin) takes the place of drawn ones. Raises EnvError for what cannot be read.
        """
        catalogue = MemoryCatalogue(parse_products(items, ins, human))
        drawn, table = goal_tables.build(catalogue, goals, price_seed, prices)
        described = [dataclasses.asdict(product) for product in catalogue]
        return cls(
            catalogue,
            drawn,
            table,
            build_index((product.asin, product.document) for product in catalogue),
            load_tagger(tagger),
            content_hash([described, drawn.tolist(), goals, price_seed, tagger]),
        )

    def session(self, goal: int | Goal, mode: Mode = "text", page_size: int = PER_PAGE) -> Session:
        """A new visit for a goal, by its index or itself."""
        found = self.goals[goal] if isinstance(goal, int) else goal
        return Session(self, found, mode, page_size)

    def search(self, words: str) -> list[Product]:
        """The products that ``search[words]`` lists, best first."""
        return [self.catalogue[place] for place in self.find(words.lower().split(" "))]

    def find(self, keywords: Sequence[str]) -> tuple[int, ...]:
        """The places of what a search lists, best first.

        ``<c> category`` and ``<q> query`` list a whole category or all products of a query,
        ``<r>`` a random choice (here always the same one).
        """
        first = keywords[0]
        if first == "<r>":
            count = len(self.catalogue)
            return tuple(random.Random(0).sample(range(count), min(HITS, count)))
        if first == "<c>":
            category = keywords[1].strip() if len(keywords) > 1 else ""
            return tuple(self.catalogue.in_category(category))
        if first == "<q>":
            return tuple(self.catalogue.with_query(" ".join(keywords[1:]).strip()))
        return tuple(self.index.search(" ".join(keywords)))

    def price(self, product: Product) -> float:
        """What a product costs in this shop, in dollars."""
        return float(self.prices[product.place])

    def reward(
        self, goal: Goal, product: Product, price: float | None, options: Mapping[str, str]
    ) -> float:
        """What buying a product with these options is worth for a goal, in [0, 1].

        ``price``: dollars; None for this shop's.
        """
        cost = self.price(product) if price is None else price
        return reward(product, goal, cost, options.values(), self.tagger)
