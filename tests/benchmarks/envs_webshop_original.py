"""The original WebShop (princeton-nlp/WebShop), for an interpreter that has what it needs.

Runs from an untouched checkout. What is given to it from outside:

- the paths of the catalogue's three files, which it fixes in its own ``data`` folder;
- the Lucene index, made by its own script and Anserini from that catalogue (``prepare``);
- ``random.seed(233)`` before it draws prices and then price caps, for it sets none;
- empty stand-ins for packages that it imports but needs only for training, pictures or its web
  site, whether installed or not: they would cost it memory and time;
- a rule for nouns in place of spaCy's model, the one of our ``rule`` tagger, so that rewards can
  be compared. It is faster than spaCy.

No imports from step_ray: that interpreter does not have it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import random
import re
import runpy
import subprocess
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

from measure import timed

_SEED = 233
_OPTIONAL = (
    "cleantext",
    "faiss",
    "onnxruntime",
    "pandas",
    "pyserini.encode",
    "pyserini.search.faiss",
    "requests",
    "selenium",
    "sklearn",
    "spacy",
    "torch",
    "transformers",
)
_WORD = re.compile(r"[A-Za-z]+|\d+")
_NO_NOUNS = frozenset(
    re.findall(
        r"\w+",
        "the and for with from that this your are not all any our you has have its was but non "
        "set new one two",
    )
)


class Original:
    """One server, as many environments as wanted around it; the option of its own code."""

    lists = "asked"

    def __init__(self, checkout: str, data: str, index: str) -> None:
        sys.meta_path.insert(0, _StandIns())
        sys.path.insert(0, checkout)
        _use_files(data)
        sys.modules["spacy"] = types.SimpleNamespace(load=lambda name: _nouns)  # type: ignore[assignment]
        engine: Any = importlib.import_module("web_agent_site.engine.engine")
        engine.BASE_DIR = str(Path(index) / "search_engine")
        self._shop = engine
        self._make: Any = importlib.import_module("web_agent_site.envs").WebAgentTextEnv
        draw_prices = engine.generate_product_prices

        def draw_seeded_prices(products: Any) -> Any:
            random.seed(_SEED)  # at the last moment: its prints consume random numbers too
            return draw_prices(products)

        engine.generate_product_prices = draw_seeded_prices
        self._first = self._make(
            observation_mode="text", file_path=_items(data), num_products=1000, human_goals=0
        )

    def load(self, goal: int) -> Any:
        env = self._make(observation_mode="text", server=self._first.server)
        env.reset(session=goal)
        return env

    def reset(self, env: Any, goal: int) -> None:
        env.reset(session=goal)

    def step(self, env: Any, action: str) -> tuple[str, float, bool]:
        text, reward, done, _ = env.step(action)
        return text, reward, done

    def admissible(self, env: Any) -> list[str]:
        return list(env.get_available_actions()["clickables"])

    def close(self, env: Any) -> None:
        pass

    def search(self, queries: list[str]) -> dict[str, Any]:
        """The asins that searches list, and the CPU seconds that each of them takes."""
        server = self._first.server
        arguments = (server.search_engine, server.all_products, server.product_item_dict)
        search = self._shop.get_top_n_product_from_keywords
        costs, found = timed([partial(search, words.split(" "), *arguments) for words in queries])
        return {"costs": costs, "asins": [[product["asin"] for product in each] for each in found]}

    def versions(self) -> dict[str, str]:
        names = ("pyserini", "flask", "beautifulsoup4", "thefuzz", "rapidfuzz", "gym")
        found = {name: importlib.metadata.version(name) for name in names}
        return {"goals": str(len(self._first.server.goals)), **found}


def prepare(checkout: str, data: str, index: str) -> None:
    """Makes the Lucene index below ``index`` unless it is there, with the original's own script."""
    home = Path(index) / "search_engine"
    if (home / "indexes_1k").is_dir():
        return
    sys.meta_path.insert(0, _StandIns())
    sys.path.insert(0, checkout)
    _use_files(data)
    script = Path(checkout, "search_engine", "convert_product_file_format.py").resolve()
    for size in ("", "_100", "_1k", "_100k"):
        (home / f"resources{size}").mkdir(parents=True, exist_ok=True)
    os.chdir(home)
    runpy.run_path(str(script), run_name="__main__")
    package = importlib.util.find_spec("pyserini")
    assert package
    assert package.origin
    (jar,) = Path(package.origin).parent.glob("resources/jars/anserini-*-fatjar.jar")
    subprocess.run(
        [
            *("java", "-cp", str(jar), "io.anserini.index.IndexCollection"),
            *("-collection", "JsonCollection", "-generator", "DefaultLuceneDocumentGenerator"),
            *("-input", "resources_1k", "-index", "indexes_1k.part", "-threads", "1"),
            *("-storePositions", "-storeDocvectors", "-storeRaw"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    Path("indexes_1k.part").rename("indexes_1k")


def _items(data: str) -> str:
    return str(Path(data, "items_shuffle_1000.json").resolve())


def _use_files(data: str) -> None:
    """Points the original's fixed paths to the folder of the three files."""
    paths: Any = importlib.import_module("web_agent_site.utils")
    paths.DEFAULT_FILE_PATH = _items(data)
    paths.DEFAULT_ATTR_PATH = str(Path(data, "items_ins_v2_1000.json").resolve())
    paths.HUMAN_ATTR_PATH = str(Path(data, "items_human_ins.json").resolve())


def _nouns(title: str) -> list[Any]:
    """A title's words as spaCy would give them, tagged by a rule."""
    return [
        types.SimpleNamespace(
            text=word,
            pos_="NOUN"
            if word.isalpha() and len(word) > 2 and word.lower() not in _NO_NOUNS
            else "X",
        )
        for word in _WORD.findall(title)
    ]


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports of packages that are not needed, as modules whose every name is an empty class."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if any(name == each or name.startswith(f"{each}.") for each in _OPTIONAL):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__getattr__ = _empty_class  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _empty_class(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


if __name__ == "__main__":
    prepare(*sys.argv[1:])
