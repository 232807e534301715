"""Shops too large for memory: built once into the cache folder, then shared by all processes.

A shop's folder holds ``products.sqlite``, the index as ``.npy`` files that are mapped into memory,
``digest`` (of the three files), and a folder of prices and goals for each kind and seed.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from step_ray.envs.cache import cache_folder
from step_ray.envs.webshop import goals as goal_tables
from step_ray.envs.webshop.catalogue import StoredCatalogue, store_products, store_terms
from step_ray.envs.webshop.files import CatalogueFiles, elements
from step_ray.envs.webshop.goals import GoalKind, GoalTable
from step_ray.envs.webshop.postings import mapped, store_index
from step_ray.envs.webshop.products import parse_products
from step_ray.files import sha256_file
from step_ray.trajectory import content_hash

_FORMAT = 1  # raise it when a shop is stored differently
DIGEST = "digest"
_PRODUCTS = "products.sqlite"
_TABLE = ("positions", "parts", "caps", "weights", "ends", "order")


def stored_shop(files: CatalogueFiles) -> Path:
    """The folder of the shop that these files describe, built if it is not there yet.

    Minutes for a million products, in less than a gigabyte. The folder is chosen by the files'
    paths, sizes and times. Raises EnvError for files that cannot be read.
    """
    parts = (files.items, files.ins, files.human)
    seen = [[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in parts]
    folder = cache_folder() / "webshop" / f"{_FORMAT}-{content_hash(seen, 16)}"

    def build(path: Path) -> None:
        _store(files, path)
        (path / DIGEST).write_text(content_hash([sha256_file(part) for part in parts]))

    return _once(folder, build)


def stored_catalogue(shop: Path) -> StoredCatalogue:
    """The products of a stored shop."""
    return StoredCatalogue(shop / _PRODUCTS)


def stored_goals(
    shop: Path, catalogue: StoredCatalogue, kind: GoalKind, seed: int
) -> tuple[NDArray[np.float64], GoalTable]:
    """Prices and goals as :func:`goals.build` makes them, kept with the shop."""

    def build(path: Path) -> None:
        prices, table = goal_tables.build(catalogue, kind, seed)
        np.save(path / "prices.npy", prices)
        for name in _TABLE:
            np.save(path / f"{name}.npy", getattr(table, name))

    folder = _once(shop / f"goals-{kind}-{seed}", build)
    prices, *table = (mapped(folder / f"{name}.npy") for name in ("prices", *_TABLE))
    return prices, GoalTable(kind, catalogue, *table)


def _store(files: CatalogueFiles, folder: Path) -> None:
    path = folder / _PRODUCTS
    with _attributes(files.ins, folder) as ins:
        store_products(path, parse_products(elements(files.items), ins, files.load_human()))
    catalogue = StoredCatalogue(path)
    positions: list[int] = []

    def documents() -> Iterator[str]:
        for product in catalogue.by_asin():
            positions.append(product.place)
            yield product.document

    store_terms(path, store_index(folder, documents(), positions))


class _Rows:
    """A JSON object too large for memory, by key."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, key: str, default: Any, /) -> Any:
        row = self._connection.execute("SELECT value FROM rows WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else default


@contextmanager
def _attributes(path: Path, folder: Path) -> Iterator[_Rows]:
    """The attributes file by asin, while the shop is built."""
    rows = folder / "rows.sqlite"
    with closing(sqlite3.connect(rows)) as connection:
        connection.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE rows (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;"
        )
        pairs = ((key, json.dumps(value)) for key, value in elements(path))
        connection.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?)", pairs)
        yield _Rows(connection)
    rows.unlink()


def _once(folder: Path, build: Callable[[Path], None]) -> Path:
    """A folder that ``build`` fills, once for all processes; it is there wholly or not at all."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # others wait here until it is built
        if not folder.is_dir():
            made = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
            try:
                build(made)
                made.rename(folder)
            except BaseException:
                shutil.rmtree(made, ignore_errors=True)
                raise
    return folder
