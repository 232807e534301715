"""Where WebShop's three original files are."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from step_ray.envs.base import EnvError

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
        return _json(self.items, list), _json(self.ins, dict), _json(self.human, dict)


def _json(path: Path, kind: type[Any]) -> Any:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EnvError(f"cannot read {path}: {error}") from error
    if not isinstance(value, kind):
        raise EnvError(f"{path} should hold a JSON {kind.__name__}, not {type(value).__name__}")
    return value
