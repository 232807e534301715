"""Small catalogues for the tests, and the official one where it is given."""

from __future__ import annotations

import json
import lzma
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.goals import GoalKind

FILES = ("items_shuffle_1000.json.xz", "items_ins_v2_1000.json", "items_human_ins.json")
Structures = tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]


def item(asin: str, name: str = "Plain Chair", **fields: Any) -> dict[str, Any]:
    """A product as in items_shuffle*.json."""
    options = fields.pop("options", None)
    return {
        "asin": asin,
        "name": name,
        "full_description": f"{name}, to sit on.",
        "pricing": "$24.5",
        "images": [""],
        "product_category": "Home › Furniture › Chairs",
        "small_description": ["sturdy", "easy to clean"],
        "customization_options": options
        and {key: [{"value": value} for value in values] for key, values in options.items()},
        "category": "garden",
        "query": "chairs",
        **fields,
    }


def wish(*attributes: str, text: str = "Find me a chair") -> dict[str, Any]:
    """A product's entry in items_ins_v2*.json, with a synthetic instruction."""
    return {
        "attributes": list(attributes),
        "instruction": text,
        "instruction_attributes": list(attributes),
    }


def told(asin: str, text: str, attributes: list[str], options: list[str]) -> dict[str, Any]:
    """An instruction in items_human_ins.json."""
    return {
        "asin": asin,
        "instruction": text,
        "instruction_attributes": attributes,
        "instruction_options": options,
    }


CHAIRS: Structures = (
    [
        item(
            "B000000001",
            "Red Oak Chair",
            options={"Color": ["Red", "Light Blue"], "Size": ["Small", "L/XL"]},
        ),
        item("B000000002", "Steel Stool", pricing="$10.0$20.0", query=" Bar Stools "),
        item("B000000003", "Blue Armchair <b>& more</b>", pricing="", full_description=""),
        item("B000000004", "Garden Bench", options={"Size": ["red", "[odd]", "search"]}),
        *(item(f"C{number:09}", f"Folding Chair Number {number}") for number in range(20)),
    ],
    {
        "B000000001": wish("solid wood", "easy clean"),
        "B000000002": wish("steel frame", text="Find me a stool"),
        "B000000004": {"attributes": ["water proof"]},
    },
    {
        "B000000003": [
            told("B000000003", "i need a blue armchair.", ["blue"], ["blue", "x-large"]),
            told("B000000003", "nothing asked", [], []),
        ]
    },
)


def chairs(goals: GoalKind = "synthetic", **options: Any) -> Engine:
    """A shop of 24 seats: 5 synthetic goals or 1 human one."""
    return Engine.from_catalogue(*CHAIRS, goals=goals, **options)


def write(folder: Path, structures: Structures = CHAIRS, size: str = "") -> Path:
    """Puts the three files of a catalogue into a folder."""
    names = (f"items_shuffle{size}.json", f"items_ins_v2{size}.json", "items_human_ins.json")
    for name, value in zip(names, structures, strict=True):
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return folder


def official_folder() -> Path:
    """The folder of the official files; skips the test without it."""
    named = os.environ.get("STEP_RAY_TEST_DATA")
    if not named or not (Path(named) / "webshop" / FILES[0]).is_file():
        pytest.skip(
            f"set STEP_RAY_TEST_DATA to a folder with webshop/{FILES[0]} and its companions"
        )
    return Path(named) / "webshop"


def read(path: Path) -> Any:
    """The content of a JSON file, compressed or not."""
    raw = path.read_bytes()
    return json.loads(lzma.decompress(raw) if path.suffix == ".xz" else raw)


@cache
def official_structures() -> Structures:
    items, ins, human = (read(official_folder() / name) for name in FILES)
    return items, ins, human


@cache
def official(goals: GoalKind = "synthetic") -> Engine:
    """The shop of the official 1,000 products, with the prices of the recorded runs."""
    prices = read(official_folder() / "recorded_prices.json.xz")
    return Engine.from_catalogue(*official_structures(), goals=goals, prices=prices)
