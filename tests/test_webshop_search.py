"""Search: the terms of texts, BM25 as Lucene counts it, and the shop's special searches."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webshop_shops import chairs, item

from step_ray.envs.webshop import postings
from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.search import Index, norms
from step_ray.envs.webshop.tokens import terms, words

VOCABULARY = [f"word{n}" for n in range(30)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Red-Oak chair, 3x large!", ["Red", "Oak", "chair", "3x", "large"]),
        (
            "don't o’neil's a.b.c 3.5 1,000 4;5 6:7",
            ["don't", "o’neil's", "a.b.c", "3.5", "1,000", "4;5", "6", "7"],
        ),
        ("foo_bar _x_ __ - .5 end.", ["foo_bar", "_x_", "5", "end"]),
        ("日本 カタカナ ひら", ["日", "本", "カタカナ", "ひ", "ら"]),
        (
            "½ ❶ ♥♥★ ☞ 👍🏽 👨‍💼 1️⃣ ™ 🇩🇪🇫🇷",
            ["♥", "♥", "★", "☞", "👍🏽", "👨‍💼", "1️⃣", "™", "🇩🇪", "🇫🇷"],
        ),
        ("naïve cafe\u0301 x\u00adray", ["naïve", "cafe\u0301", "x\u00adray"]),
        ("กขค 한국어", ["กขค", "한국어"]),
        ("a" * 300, ["a" * 255, "a" * 45]),
        ("", []),
    ],
)
def test_words_as_unicode_and_lucene_cut_them(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@settings(deadline=None)
@given(st.text(alphabet="ab1_2.,;:'’ -", max_size=40))
def test_plain_text_has_the_same_words_among_other_scripts(text: str) -> None:
    mixed = words(text + " é")
    assert mixed.pop() == "é"
    assert words(text) == mixed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The women's running shoes", ["women", "run", "shoe"]),
        ("to be or not to be", []),
        ("Technology assembly", ["technolog", "assembl"]),
        ("IT’S HERS", ["her"]),
    ],
)
def test_terms_are_stemmed_without_stop_words(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_terms(text: str) -> None:
    assert all(term and term == term.lower() for term in terms(text))


def coded(length: int) -> int:
    """Lucene's SmallFloat.intToByte4 and back, bit by bit as its documentation describes it."""
    if length < 40:
        return length
    bits = (length - 24).bit_length()
    return 24 + ((length - 24) >> (bits - 4) << (bits - 4)) if bits > 4 else length


def bm25(documents: dict[str, list[str]], query: list[str]) -> dict[str, float]:
    """Scores straight from the formula, with Lucene's lengths."""
    mean = sum(map(len, documents.values())) / len(documents)
    scores = Counter[str]()
    for term, times in Counter(query).items():
        df = sum(term in document for document in documents.values())
        idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
        for asin, document in documents.items():
            tf = document.count(term)
            norm = 0.9 * (1 - 0.4 + 0.4 * coded(len(document)) / mean)
            scores[asin] += times * idf * tf / (tf + norm)
    return +scores


def random_documents(rng: random.Random, count: int) -> dict[str, list[str]]:
    return {
        f"B{n:03}": rng.choices(VOCABULARY, weights=range(1, 31), k=rng.randint(1, 120))
        for n in rng.sample(range(1000), count)
    }


def index_of(documents: dict[str, list[str]]) -> Index:
    return postings.build_index((asin, " ".join(text)) for asin, text in documents.items())


@pytest.mark.parametrize("seed", range(8))
def test_ranking_is_bm25s(seed: int) -> None:
    rng = random.Random(seed)
    documents = random_documents(rng, 200)
    index, asins = index_of(documents), list(documents)
    for _ in range(20):
        query = rng.choices(VOCABULARY, k=rng.randint(1, 4))
        found = [asins[place] for place in index.search(" ".join(query))]
        scores = bm25(documents, query)
        best = sorted(scores.values(), reverse=True)[:50]
        assert [scores[asin] for asin in found] == pytest.approx(best, rel=1e-5)


def test_equal_scores_are_ordered_by_asin() -> None:
    names = [f"B{n}" for n in random.Random(0).sample(range(100, 200), 80)]
    shop = Engine.from_catalogue([item(name) for name in names], {}, {})
    assert [p.asin for p in shop.search("plain chair")] == sorted(names)[:50]


def test_lengths_are_coded_in_a_byte() -> None:
    lengths = np.array([1, 39, 40, 41, 57, 100, 1000, 65_535])
    mean = lengths.mean()
    expected = [1 / (0.9 * (0.6 + 0.4 * coded(int(n)) / mean)) for n in lengths]
    assert norms(lengths) == pytest.approx(expected, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), batch=st.integers(1, 50))
def test_an_index_on_disk_finds_the_same(
    seed: int, batch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    documents = random_documents(rng, rng.randint(1, 60))
    folder = tmp_path_factory.mktemp("index")
    asins = sorted(documents)
    places = [list(documents).index(asin) for asin in asins]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "_BATCH", batch)
        numbers = postings.store_index(folder, (" ".join(documents[a]) for a in asins), places)
    stored = postings.open_index(folder, numbers.get)
    assert {path.suffix for path in Path(folder).iterdir()} == {".npy"}
    kept = index_of(documents)
    for _ in range(5):
        query = " ".join(rng.choices(VOCABULARY, k=rng.randint(1, 4)))
        assert stored.search(query) == kept.search(query)


def test_nothing_found_and_special_searches() -> None:
    shop = chairs()
    assert shop.search("the") == shop.search("zeppelin") == shop.search(" ") == []
    assert shop.search("steel stool")[0].asin == "B000000002"
    assert len(shop.search("<c> garden")) == 24
    assert shop.search("<c>") == shop.search("<c> moon") == []
    assert [p.asin for p in shop.search("<q> Bar Stools")] == ["B000000002"]
    drawn = shop.search("<r>")
    assert drawn == shop.search("<r> again")
    assert len({p.asin for p in drawn}) == 24


def test_an_empty_shop_finds_nothing() -> None:
    shop = Engine.from_catalogue([], {}, {})
    assert shop.search("chair") == shop.search("<r>") == []
    assert len(shop.goals) == 0
