"""What to search for: the words of an instruction that count, and which of them find the goal."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from step_ray.envs.webshop.engine import Engine
from step_ray.envs.webshop.fit import goal_place, right, value_of
from step_ray.envs.webshop.goals import Goal
from step_ray.envs.webshop.products import Product
from step_ray.envs.webshop.tokens import terms

_PRICE = re.compile(r",? and price lower than [\d.]+ dollars.*$")
_WORD = re.compile(r"[^\W_]+(?:[-'’.&][^\W_]+)*%?")
_POLITE = (
    "a able about along also am an and any are as at be being below but buy by can color "
    "colored colour come comes could do dollars each find fit flavor flavored for from get "
    "give good has have having hello help hi home i i'd i'll i'm i've in interested into is it "
    "it's its like list looking lower made make me meant must my need needs nice of on one or "
    "order pair place please prefer preferably price priced product products purchase scent "
    "search set shipping shop shopping should show size sized smell so some something style "
    "suited than thanks that that's the them these they this to type under up us use used "
    "using want wanted we where which while will with would you your"
)
_DROPPED = frozenset(_POLITE.split())
_GOOD_RANK = 20  # on the first two pages of the original's size


@dataclass(frozen=True, slots=True)
class Asked:
    """The words of an instruction: of the thing, of its attributes too, and of its options."""

    thing: tuple[str, ...]
    core: tuple[str, ...]
    options: tuple[str, ...]


def asked(goal: Goal) -> Asked:
    """The words that count in a goal's instruction, without politeness and price."""
    text = _PRICE.sub("", goal.instruction.lower())
    options: list[str] = []
    for wanted in goal.options:
        value = value_of(wanted)
        options += _words(value)
        if not isinstance(wanted, str):
            text = text.replace(f"{wanted[0]}: {value}", " ")
        else:
            for written in (value, value.replace(" | ", "/")):
                text = _without(text, written)
    core = tuple(word for word in _words(text) if word not in _DROPPED)
    for attribute in goal.attributes:
        text = _without(text, attribute.lower())
    thing = tuple(word for word in _words(text) if word not in _DROPPED)
    return Asked(thing or core, core, tuple(dict.fromkeys(options)))


def thing(goal: Goal) -> str:
    """What the goal is about in a few words: its category of products, or a person's own words."""
    if goal.query in goal.instruction.lower():
        return goal.query
    words = asked(goal).thing
    return " ".join(words) if 0 < len(words) <= 5 else goal.query


def naming_terms(goal: Goal) -> frozenset[str]:
    """Terms that a title must have to name the thing; none if the task gives just a category."""
    if goal.query in goal.instruction.lower():
        return frozenset()
    return frozenset(term for word in asked(goal).thing for term in terms(word))


def right_one(goal: Goal, products: Iterable[Product], engine: Engine) -> Product | None:
    """The first product that fits in a person's eyes, see :func:`fit.right`."""
    return right(goal, products, naming_terms(goal), engine)


def good_query(goal: Goal, engine: Engine, good_rank: int = _GOOD_RANK) -> str:
    """Words of the instruction whose search lists the goal's product.

    Goals differ in how much they say; the first wording that lists the product among the first
    ``good_rank`` is taken, else the one that lists it highest, else one with words of the
    product's title.
    """
    target = goal_place(goal, engine)
    best, best_rank = "", 1 << 30
    for words in _wordings(goal):
        rank = _rank(words, target, engine)
        if rank < good_rank:
            return words
        if rank < best_rank:
            best, best_rank = words, rank
    return best or _from_title(goal, target, engine, good_rank)


def _wordings(goal: Goal) -> Iterable[str]:
    """Queries from the instruction; which kind comes first varies with the goal."""
    said = asked(goal)
    first = goal.attributes[0].split() if goal.attributes else []
    short = dict.fromkeys((*(word for word in first if word in said.core), *said.thing))
    kinds = [
        said.core,
        (*said.core, *said.options),
        tuple(short),
        (*said.thing, *said.options),
        said.thing,
    ]
    start = (0, 0, 0, 1, 2, 2, 3, 4)[zlib.crc32(goal.instruction.encode()) % 8]
    for words in (*kinds[start:], *kinds[:start]):
        if words:
            yield " ".join(words)


def _from_title(goal: Goal, target: int, engine: Engine, good_rank: int) -> str:
    """The instruction's words and then as many of the title's as it takes."""
    words = list(asked(goal).core)
    for word in dict.fromkeys(_words(engine.catalogue[target].title.lower())):
        if word in words or word in _DROPPED:
            continue
        words.append(word)
        if _rank(" ".join(words), target, engine) < good_rank:
            break
    return " ".join(words)


def _rank(words: str, target: int, engine: Engine) -> int:
    hits = engine.find(words.split(" "))
    return hits.index(target) if target in hits else 1 << 30


def _without(text: str, phrase: str) -> str:
    return re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", " ", text)


def _words(text: str) -> list[str]:
    return _WORD.findall(text)
