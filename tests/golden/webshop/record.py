"""Writes visits.json.xz with the original environment; see README.md."""

from __future__ import annotations

import json
import lzma
import random
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))

from step_ray.envs.webshop.engine import PRICE_SEED, Engine  # noqa: E402
from step_ray.envs.webshop.generate import generate_catalogue  # noqa: E402
from step_ray.envs.webshop.tagger import rule_nouns  # noqa: E402

PRODUCTS, VISITS, STEPS = 60, 15, 14
ODD = [
    *('"red"', "a & b", "<b>x</b>", "it's", " ", "", "search", "buy now", "features"),
    *("attributes", "next >", "< prev", "back to search", "x[1]", "naïve", "ＷＩＤＥ", "İstanbul"),
    *("search_results", "item_page", "item_sub_page", "done", "a/b", "color", "1", "\\"),
    *('{"color": "red"}', "日本", "\u00a0", "\n", "two\nlines", "tab\t", "\x0b", "cafe\u0301"),
    *("&amp;", "&#39;", "-->", "<!-- x", "</script>", "red, 'blue'", "standard", "👍🏽 ★"),
]
SEARCHES = ["item_page search_results", '"red"', '"color"', "<c> beauty", "<q> 1", " ", "x"]
NONSENSE = ["hello", "click[]", "search[]", "click[nothing]", "click[search]", "Click[Buy Now]"]
NONSENSE += [" click[buy now]", "click[Back to Search] now", "click[a][b]"]


def odd_catalogue(rng: random.Random) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    items, ins, human = generate_catalogue(PRODUCTS, 0)

    def odd(text: str) -> str:
        return rng.choice(ODD) if rng.random() < 0.5 else f"{text} {rng.choice(ODD)}"

    for item in rng.sample(items, PRODUCTS // 2):
        for key in ("name", "full_description", "query"):
            if rng.random() < 0.4:
                item[key] = odd(item[key])
        bullets = item["small_description"]
        item["small_description"] = rng.choice((bullets, [odd(b) for b in bullets], odd("one")))
        options = dict(item["customization_options"] or {})
        for name in rng.sample(["Color", "Size", '"style"', "a<b", ""], rng.randint(0, 2)):
            options[name] = [{"value": value} for value in rng.sample(ODD, 3)]
        item["customization_options"] = options
        item["product_category"] = rng.choice(("", "A › B", item["product_category"]))
    for entry in rng.sample(list(ins.values()), PRODUCTS // 4):
        entry["attributes"] = [odd(name) for name in entry["attributes"]]
    return items, ins, human


def stand_in(name: str, **members: Any) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module


def tagged(title: str) -> list[SimpleNamespace]:
    return [SimpleNamespace(text=noun, pos_="NOUN") for noun in rule_nouns(title)]


class Searcher:
    """In the place of Lucene's: asks our index."""

    shop: Engine

    def __init__(self, index: str) -> None:
        pass

    def search(self, words: str, k: int) -> list[SimpleNamespace]:
        found = (self.shop.catalogue[place].asin for place in self.shop.index.search(words))
        return [SimpleNamespace(docid=asin) for asin in found]

    def doc(self, asin: str) -> SimpleNamespace:
        return SimpleNamespace(raw=lambda: json.dumps({"id": asin}))


def original(checkout: Path, folder: Path, human: bool, mode: str) -> Any:
    """The original environment on the catalogue in ``folder``."""
    for name in ("torch", "cleantext", "gym.envs", "pyserini", "pyserini.search"):
        stand_in(name)
    stand_in("gym", Env=object)
    stand_in("gym.envs.registration", register=lambda **_: None)
    stand_in("rank_bm25", BM25Okapi=object)
    stand_in("pyserini.search.lucene", LuceneSearcher=Searcher)
    stand_in("spacy", load=lambda _: tagged)
    stand_in("web_agent_site.envs.web_agent_site_env", WebAgentSiteEnv=object)
    sys.path.insert(0, str(checkout))
    from web_agent_site.engine import engine
    from web_agent_site.envs.web_agent_text_env import WebAgentTextEnv

    engine.DEFAULT_ATTR_PATH = str(folder / "items_ins_v2.json")
    engine.HUMAN_ATTR_PATH = str(folder / "items_human_ins.json")
    random.seed(PRICE_SEED)
    path = str(folder / "items_shuffle.json")
    return WebAgentTextEnv(observation_mode=mode, file_path=path, human_goals=human)


def action_on(clickables: list[str], goal: dict[str, Any], rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.2 or len(clickables) < 2:
        return f"search[{rng.choice([*SEARCHES, *ODD[:3], *[goal['instruction_text']] * 12])}]"
    if draw < 0.25:
        return rng.choice(NONSENSE)
    rare = ("back to search", "buy now", "next >")
    wanted = [name for name in clickables if name not in rare or rng.random() < 0.3]
    name = rng.choice(wanted or clickables)
    return f"click[{rng.choice((name, name, name.upper()))}]"


def visit(env: Any, number: int, rng: random.Random) -> dict[str, Any]:
    """A random visit for a random goal, in the form of the file."""
    goal, session = rng.randrange(len(env.server.goals)), f"visit{number}"
    env.session = session
    env.browser.get(f"{env.base_url}/{session}", session_id=session, session_int=goal)
    first, steps = env.observation, []
    for _ in range(STEPS):
        clickables = env.get_available_actions()["clickables"]
        action = action_on(clickables, env.server.goals[goal], rng)
        page, reward, done, _ = env.step(action)
        shown = env.get_available_actions()
        steps.append([action, page, reward, done, shown["clickables"], shown["has_search_bar"]])
        if done:
            break
    return {"goal": goal, "first": first, "steps": steps}


def main(checkout: Path) -> None:
    rng = random.Random(0)
    structures = odd_catalogue(rng)
    names = ("items_shuffle.json", "items_ins_v2.json", "items_human_ins.json")
    visits = []
    with tempfile.TemporaryDirectory() as folder:
        for name, value in zip(names, structures, strict=True):
            (Path(folder) / name).write_text(json.dumps(value), encoding="utf-8")
        Searcher.shop = Engine.from_catalogue(*structures)
        for kind in ("synthetic", "human"):
            for mode in ("text", "text_rich"):
                env = original(checkout, Path(folder), kind == "human", mode)
                for number in range(VISITS):
                    made = visit(env, number, rng)
                    visits.append({"goals": kind, "mode": mode, **made})
    text = json.dumps({"catalogue": structures, "visits": visits}, ensure_ascii=False)
    (HERE / "visits.json.xz").write_bytes(lzma.compress(text.encode(), preset=9))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
