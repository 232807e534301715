"""Products by their place in the catalogue's order."""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from step_ray.envs.webshop.products import HumanInstruction, Product

_RECENT = 4096  # products kept decoded, some 6 kB each
_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE products (place INTEGER PRIMARY KEY, asin TEXT, category TEXT, query TEXT,
                       product BLOB);
CREATE TABLE terms (term TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID;
"""
_INDICES = """
CREATE UNIQUE INDEX by_asin ON products (asin);
CREATE INDEX by_category ON products (category);
CREATE INDEX by_query ON products (query);
"""


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


class StoredCatalogue:
    """Products in a read-only SQLite file: processes share what the system has read of it.

    Besides the products it holds the numbers of the index's terms.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process = -1
        self._connection: sqlite3.Connection | None = None
        self._length = int(self._rows("SELECT count(*) FROM products")[0][0])
        self._read = lru_cache(maxsize=_RECENT)(self._read_product)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Product]:
        rows = self._open().execute("SELECT place, product FROM products ORDER BY place")
        return (_unpack(place, packed) for place, packed in rows)

    def __getitem__(self, place: int) -> Product:
        return self._read(place)

    def in_category(self, category: str) -> list[int]:
        return self._places(
            "SELECT place FROM products WHERE category = ? ORDER BY place", category
        )

    def with_query(self, query: str) -> list[int]:
        return self._places("SELECT place FROM products WHERE query = ? ORDER BY place", query)

    def by_asin(self) -> Iterator[Product]:
        """All products in the order of their asins."""
        rows = self._open().execute("SELECT place, product FROM products ORDER BY asin")
        return (_unpack(place, packed) for place, packed in rows)

    def term_number(self, term: str) -> int | None:
        """The number of an index term, None for one that no product has."""
        found = self._places("SELECT number FROM terms WHERE term = ?", term)
        return found[0] if found else None

    def _read_product(self, place: int) -> Product:
        rows = self._rows("SELECT product FROM products WHERE place = ?", place)
        if not rows:
            raise IndexError(f"no product at place {place}")
        return _unpack(place, rows[0][0])

    def _places(self, query: str, value: str) -> list[int]:
        text = value.encode("utf-8", "replace").decode()  # SQLite takes no lone surrogates
        return [place for (place,) in self._rows(query, text)]

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._open().execute(query, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        """This process's connection; one must not be used by a forked child."""
        if self._connection is None or self._process != os.getpid():
            uri = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
            self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            self._process = os.getpid()
        return self._connection


def store_products(path: Path, products: Iterable[Product]) -> None:
    """Writes the products into a new SQLite file for :class:`StoredCatalogue`."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(_TABLES)
        connection.executemany(
            "INSERT INTO products VALUES (?, ?, ?, ?, ?)",
            ((p.place, p.asin, p.category, p.query, _pack(p)) for p in products),
        )
        connection.executescript(_INDICES)


def store_terms(path: Path, numbers: Mapping[str, int]) -> None:
    """Adds the numbers of the index's terms."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO terms VALUES (?, ?)", sorted(numbers.items()))


def _pack(product: Product) -> bytes:
    fields = dataclasses.astuple(product)[1:]
    return zlib.compress(json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _unpack(place: int, packed: bytes) -> Product:
    text = zlib.decompress(packed).decode("utf-8", "surrogatepass")
    asin, title, description, bullets, pricing, tag, options, *rest = json.loads(text)
    attributes, category, query, product_category, instruction, wanted, human = rest
    return Product(
        place,
        *(asin, title, description, tuple(bullets), tuple(pricing), tag),
        {name: tuple(values) for name, values in options.items()},
        *(tuple(attributes), category, query, product_category, instruction, tuple(wanted)),
        tuple(HumanInstruction(said, tuple(a), tuple(o)) for said, a, o in human),
    )
