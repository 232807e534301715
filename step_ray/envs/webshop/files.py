"""Where WebShop's three original files are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from step_ray.envs.base import EnvError

_CHUNK = 1 << 22  # characters
_LONGEST = 1 << 26  # of one element
_BETWEEN, _COLON = re.compile(r"[\s,]*"), re.compile(r"[\s:]*")
_DECODER = json.JSONDecoder()
_ITEMS, _INS, _HUMAN = "items_shuffle", "items_ins_v2", "items_human_ins.json"


@dataclass(frozen=True, slots=True)
class CatalogueFiles:
    """The three files of a catalogue: products, attributes, human instructions."""

    items: Path
    ins: Path
    human: Path

    @classmethod
    def find(cls, path: Path) -> CatalogueFiles:
        """The files in a folder, or those that belong to one ``items_shuffle*.json``.

        Raises EnvError if one is missing or it is not clear which are meant.
        """
        items = path
        if path.is_dir():
            found = sorted(path.glob(f"{_ITEMS}*.json"))
            if len(found) != 1:
                raise EnvError(
                    f"{path} has {len(found)} files {_ITEMS}*.json where one is needed; "
                    "give the path of the one to use, or put WebShop's three files there"
                )
            items = found[0]
        size = items.name.removeprefix(_ITEMS)
        files = cls(items, items.with_name(_INS + size), items.with_name(_HUMAN))
        for file in (files.items, files.ins, files.human):
            if not file.is_file():
                raise EnvError(
                    f"there is no file {file}; WebShop's catalogue needs {_ITEMS}*.json, "
                    f"{_INS}*.json with the same ending, and {_HUMAN}"
                )
        return files

    def load(self) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
        """The content of the three files. Raises EnvError for what is no such JSON."""
        return _json(self.items, list), _json(self.ins, dict), self.load_human()

    def load_human(self) -> dict[str, Any]:
        """The human instructions by asin."""
        return cast(dict[str, Any], _json(self.human, dict))


def _json(path: Path, kind: type[Any]) -> Any:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EnvError(f"cannot read {path}: {error}") from error
    if not isinstance(value, kind):
        raise EnvError(f"{path} should hold a JSON {kind.__name__}, not {type(value).__name__}")
    return value


def elements(path: Path) -> Iterator[Any]:
    """The objects of a JSON array, or the (key, object) pairs of a JSON object, one by one.

    For files larger than memory. Raises EnvError where the text is no such JSON.
    """
    with path.open(encoding="utf-8") as file:
        text = file.read(_CHUNK).lstrip()
        pairs, place = text.startswith("{"), 1
        while True:
            try:
                found = _element(text, place, pairs)
            except ValueError as error:  # cut off, unless nothing or too much follows
                more = file.read(_CHUNK)
                if not more or len(text) - place > _LONGEST:
                    raise EnvError(
                        f"cannot read {path} at {text[place:][:80]!r}: {error}"
                    ) from error
                text, place = text[place:] + more, 0
                continue
            if found is None:
                return
            value, place = found
            yield value


def _element(text: str, place: int, pairs: bool) -> tuple[Any, int] | None:
    """The next element and where it ends; None at the end. ValueError if it is not complete."""
    place = _skip(_BETWEEN, text, place)
    if text.startswith(("]", "}"), place):
        return None
    value, place = _DECODER.raw_decode(text, place)
    if not pairs:
        return value, place
    element, end = _DECODER.raw_decode(text, _skip(_COLON, text, place))
    return (value, element), end


def _skip(blank: re.Pattern[str], text: str, place: int) -> int:
    found = blank.match(text, place)
    return found.end() if found else place
