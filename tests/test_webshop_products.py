"""The original files are read as the original reads them."""

from __future__ import annotations

import json
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from webshop_shops import CHAIRS, chairs, item, official_structures, write

from step_ray.envs.base import EnvError
from step_ray.envs.webshop.catalogue import MemoryCatalogue, StoredCatalogue, store_products
from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.files import CatalogueFiles, elements
from step_ray.envs.webshop.products import Product, draw_price, parse_products
from step_ray.envs.webshop.store import _store


def one(**fields: Any) -> Product:
    return next(parse_products([item("B1", **fields)], {}, {}))


@pytest.mark.parametrize(
    ("pricing", "prices", "tag"),
    [
        ("$24.5", (24.5,), "$24.5"),
        ("$1,024", (1024.0,), "$1024.0"),
        ("$5.99$7", (5.99, 7.0), "$5.99 to $7.0"),
        ("$5$7$9", (5.0, 7.0), "$5.0 to $7.0"),
        ("", (100.0,), "$100.0"),
        (None, (100.0,), "$100.0"),
    ],
)
def test_prices_as_shown_and_as_drawn(
    pricing: str | None, prices: tuple[float, ...], tag: str
) -> None:
    product = one(pricing=pricing)
    assert (product.pricing, product.price_tag) == (prices, tag)
    assert prices[0] <= draw_price(product, random.Random(3)) <= prices[-1]


def test_options_and_texts_are_normalised() -> None:
    product = one(
        options={"Color": [" Red/Blue "], "SIZE": ["XL"]}, query=" Chairs ", small_description="one"
    )
    assert product.options == {"color": ("red | blue",), "size": ("xl",)}
    assert (product.query, product.bullets) == ("chairs", ("one",))
    assert product.attributes == ("DUMMY_ATTR",)
    assert product.document.endswith("one color: red | blue, and size: xl")
    assert one(small_description=[]).document.startswith("plain chair plain chair, to sit on.")


def test_unusable_and_repeated_asins_are_left_out() -> None:
    names = ["B1", "nan", "B1234567890", "B1", "B2"]
    found = list(parse_products([item(name) for name in names], {}, {}))
    assert [(p.asin, p.place) for p in found] == [("B1", 0), ("B2", 1)]


@pytest.mark.parametrize(
    "broken", [{"pricing": "free"}, {"name": None, "query": None}, {"customization_options": [1]}]
)
def test_a_broken_product_is_named(broken: dict[str, Any]) -> None:
    with pytest.raises(EnvError, match="product B1 of the catalogue cannot be read"):
        one(**broken)
    with pytest.raises(EnvError, match="number 0 of the catalogue has no asin"):
        list(parse_products([{}], {}, {}))


def test_prices_come_from_the_seed_or_are_given() -> None:
    drawn = chairs(price_seed=1)
    stool = drawn.catalogue[1]
    assert drawn.price(stool) == chairs(price_seed=1).price(stool)
    assert drawn.price(stool) != chairs(price_seed=2).price(stool)
    given = chairs(price_seed=1, prices={stool.asin: 12.0})
    assert given.price(stool) == 12.0
    assert given.price(given.catalogue[0]) == drawn.price(drawn.catalogue[0])
    assert len({shop.digest for shop in (drawn, given, chairs(price_seed=2))}) == 3


def test_files_are_found_by_folder_or_by_name(tmp_path: Path) -> None:
    write(tmp_path, size="_1000")
    assert len(Engine.from_folder(tmp_path).catalogue) == len(CHAIRS[0])
    write(tmp_path)
    with pytest.raises(EnvError, match="has 2 files items_shuffle"):
        Engine.from_folder(tmp_path)
    assert CatalogueFiles.find(tmp_path / "items_shuffle_1000.json").ins.name.endswith("1000.json")
    (tmp_path / "items_human_ins.json").unlink()
    with pytest.raises(EnvError, match=r"there is no file .*items_human_ins\.json"):
        Engine.from_folder(tmp_path / "items_shuffle.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EnvError, match="has 0 files"):
        Engine.from_folder(tmp_path / "empty")


@pytest.mark.parametrize("text", ["{", "[1, 2", '"no"', "\xff"])
def test_what_is_no_catalogue_is_refused(text: str, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "items_shuffle.json").write_text(text, encoding="latin-1")
    with pytest.raises(EnvError, match=r"items_shuffle\.json"):
        Engine.from_folder(tmp_path)


@pytest.mark.parametrize("indent", [None, 2])
def test_large_files_are_read_piece_by_piece(
    indent: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("step_ray.envs.webshop.files._CHUNK", 37)
    path = tmp_path / "a.json"
    for value in CHAIRS[:2]:
        path.write_text(json.dumps(value, indent=indent), encoding="utf-8")
        found = list(elements(path))
        assert found == (list(value.items()) if isinstance(value, dict) else value)
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(EnvError, match=r"cannot read .*a\.json"):
        list(elements(path))


def test_stored_products_are_the_same(tmp_path: Path) -> None:
    kept = MemoryCatalogue(parse_products(*CHAIRS))
    store_products(tmp_path / "p.sqlite", kept)
    stored = StoredCatalogue(tmp_path / "p.sqlite")
    assert list(stored) == list(kept) == [stored[place] for place in range(len(stored))]
    assert stored.in_category("garden") == kept.in_category("garden") == list(range(24))
    assert stored.with_query("bar stools") == kept.with_query("bar stools") == [1]
    assert [p.asin for p in stored.by_asin()] == sorted(p.asin for p in kept)
    assert stored.with_query("\ud800") == stored.in_category("\0") == []
    with pytest.raises(IndexError):
        stored[24]


def test_a_stored_shop_is_the_same_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEP_RAY_CACHE", str(tmp_path / "cache"))
    files = CatalogueFiles.find(write(tmp_path))
    for kind in ("synthetic", "human"):
        kept, stored = chairs(kind), Engine.from_store(files, goals=kind)
        assert list(stored.goals) == list(kept.goals)
        assert stored.prices.tolist() == kept.prices.tolist()
        for words in ("red chair", "folding chair number 7", "<q> bar stools", "nothing like it"):
            assert stored.search(words) == kept.search(words)
    left = [p.name for p in (tmp_path / "cache" / "webshop").iterdir() if p.is_dir()]
    monkeypatch.setattr("step_ray.envs.webshop.store._store", lambda *_: pytest.fail("built again"))
    again = Engine.from_store(files)
    assert again.digest == Engine.from_store(files).digest != stored.digest
    assert [name[0] for name in left] == ["1"]


def test_a_shop_is_stored_once_however_many_want_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_RAY_CACHE", str(tmp_path / "cache"))
    built = []

    def counting(files: CatalogueFiles, folder: Path) -> None:
        built.append(folder)
        _store(files, folder)

    monkeypatch.setattr("step_ray.envs.webshop.store._store", counting)
    files = CatalogueFiles.find(write(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        shops = list(pool.map(lambda _: Engine.from_store(files), range(4)))
    assert len(built) == 1
    assert len({shop.digest for shop in shops}) == 1


def test_a_store_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEP_RAY_CACHE", str(tmp_path / "cache"))
    files = CatalogueFiles.find(write(tmp_path, ([item("B1"), {"asin": "B2"}], {}, {})))
    with pytest.raises(EnvError, match="product B2"):
        Engine.from_store(files)
    assert [p.suffix for p in (tmp_path / "cache" / "webshop").iterdir()] == [".lock"]


def test_a_forked_process_reads_for_itself(tmp_path: Path) -> None:
    store_products(tmp_path / "p.sqlite", parse_products(*CHAIRS))
    stored = StoredCatalogue(tmp_path / "p.sqlite")
    child = os.fork()
    if child == 0:
        os._exit(0 if stored[3].asin == "B000000004" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert stored[3].asin == "B000000004"


def test_the_official_catalogue_loads() -> None:
    products = list(parse_products(*official_structures()))
    assert len(products) == 1000
    ranges = sum(len(p.pricing) == 2 for p in products)
    assert (ranges, sum(p.instruction is not None for p in products)) == (93, 415)
    assert {p.category for p in products} >= {"beauty", "fashion", "grocery"}
