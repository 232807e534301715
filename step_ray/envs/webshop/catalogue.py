"""Products by their place in the catalogue's order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from step_ray.envs.webshop.products import Product


class Catalogue(Protocol):
    """Products in the catalogue's order, with what the shop's special searches need."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Product]: ...

    def __getitem__(self, place: int) -> Product:
        """The product at a place."""
        ...

    def in_category(self, category: str) -> list[int]:
        """Places of the products of a category, in order."""
        ...

    def with_query(self, query: str) -> list[int]:
        """Places of the products that a query of the original's crawler found, in order."""
        ...


class MemoryCatalogue:
    """All products in memory."""

    def __init__(self, products: Iterable[Product]) -> None:
        self._products = tuple(products)

    def __len__(self) -> int:
        return len(self._products)

    def __iter__(self) -> Iterator[Product]:
        return iter(self._products)

    def __getitem__(self, place: int) -> Product:
        return self._products[place]

    def in_category(self, category: str) -> list[int]:
        return [place for place, p in enumerate(self._products) if p.category == category]

    def with_query(self, query: str) -> list[int]:
        return [place for place, p in enumerate(self._products) if p.query == query]
