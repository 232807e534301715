"""Texts of generated products and their instructions.

Every text of a product is made of its own attributes, its noun and fillers that name no
attribute, so that an attribute occurs in a product exactly if the product has it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from step_ray.envs.webshop.vocabulary import (
    ATTRIBUTE_SENTENCES,
    BULLET_LEADS,
    FILLER_SENTENCES,
    TITLE_FILLERS,
)

Attribute = tuple[str, str]  # role (is, with, for, noun), phrase

_OPENERS = (
    "i am looking for {x}",
    "i need {x}",
    "i want to buy {x}",
    "i would like {x}",
    "show me {x}",
    "find me {x}",
    "can you find me {x}",
    "hello, i'm looking for {x}",
    "please help me find {x}",
    "i'm interested in {x}",
    "get me {x}",
    "i am in need of {x}",
    "i'm shopping for {x}",
    "we need {x} at home",
    "order {x} for me",
)
_TAILS: dict[str, tuple[str, ...]] = {
    "is": (
        "that {be} {a}",
        "which should be {a}",
        "and {it} {have} to be {a}",
        "and {it} must be {a}",
    ),
    "with": ("with {a}", "that {come} with {a}", "and {it} should have {a}", "that {have} {a}"),
    "for": ("for {a}", "that i can use for {a}", "and {it} {be} meant for {a}", "suited for {a}"),
}
_ONE = {"be": "is", "have": "has", "come": "comes", "it": "it"}
_MANY = {"be": "are", "have": "have", "come": "come", "it": "they"}
_OPTION_TAILS: dict[str, tuple[str, ...]] = {
    "Color": ("in {v}", "in the color {v}", "and the color should be {v}", "and i'd like {v}"),
    "Size": ("in size {v}", "and the size i need is {v}", "size {v}", "and make it {v}"),
    "Flavor Name": ("in {v} flavor", "and the flavor should be {v}", "i like {v} best"),
    "Scent": ("with the scent {v}", "and it should smell of {v}", "in {v} scent"),
    "Style": ("in the style {v}", "and i prefer the {v} style", "the {v} one"),
    "Fit Type": ("with {v} fit", "and the fit should be {v}", "in a {v} fit"),
}
_LEFT_OUT = 0.35  # share of attributes that a title leaves to the other texts
_MASS = (
    "shampoo conditioner mouthwash toothpaste water jerky salmon popcorn corn granola coffee bark "
    "leather juice oil butter tonic cheddar sausage pasta flour rice mango paper floss foam powder "
    "deodorant henna soup broth"
)


def noun_phrase(noun: str) -> str:
    """The noun with an article, or "some" for plurals and substances."""
    if _is_plural(noun) or noun.rsplit(" ", 1)[-1] in _MASS.split():
        return f"some {noun}"
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _is_plural(noun: str) -> bool:
    return noun.endswith("s") and not noun.endswith("ss")


def synthetic_instruction(query: str, attributes: Sequence[Attribute]) -> str:
    """ "Find me a, b <query> with c, d for e, f", as WebShop words it."""
    by_role = {
        role: ", ".join(phrase for kind, phrase in attributes if kind == role)
        for role in ("is", "with", "for")
    }
    words = ["Find me", by_role["is"], query]
    words += [f"{role} {by_role[role]}" for role in ("with", "for") if by_role[role]]
    return " ".join(filter(None, words))


def human_instruction(
    rng: random.Random, noun: str, attributes: Sequence[Attribute], options: Mapping[str, str]
) -> str:
    """A wish in a person's words; options are named without the slash that a shop may write."""
    adjectives = [phrase for role, phrase in attributes if role == "is"]
    forms = _MANY if _is_plural(noun) else _ONE
    front = adjectives[:2] if adjectives and rng.random() < 0.6 else []
    what = noun_phrase(", ".join(front) + " " + noun if front else noun)
    tails = [
        rng.choice(_TAILS[role]).format(a=phrase, **forms)
        for role, phrase in attributes
        if phrase not in front
    ]
    tails += [
        rng.choice(_OPTION_TAILS[name]).format(v=value.lower()) for name, value in options.items()
    ]
    rng.shuffle(tails)
    text = rng.choice(_OPENERS).format(x=what)
    joint = rng.choice((" ", ", "))
    if tails:
        tails[0] = tails[0].removeprefix("and ") if joint == ", " else tails[0]
        text += joint + ", ".join(tails)
    return text + rng.choice((".", "", "."))


def title(
    rng: random.Random,
    brand: str,
    noun: str,
    attributes: Sequence[Attribute],
    category: str,
    words: int,
) -> str:
    """A shop title of about ``words`` words: brand, attributes around the noun, fillers."""
    fillers = list(TITLE_FILLERS[category])
    rng.shuffle(fillers)
    said: dict[str, list[str]] = {"is": [], "with": [], "for": []}
    size = len(brand.split()) + len(noun.split())
    for role, phrase in attributes:
        left_out = rng.random() < _LEFT_OUT
        if role != "noun" and not left_out and size + len(phrase.split()) < words:
            said[role].append(phrase)
            size += len(phrase.split()) + (role != "is")
    behind = [f"{role} {' and '.join(said[role])}" for role in ("with", "for") if said[role]]
    extra: list[str] = []
    while fillers and size < words:
        extra.append(fillers.pop())
        size += len(extra[-1].split())
    text = " ".join([brand, *(_caps(part) for part in (*said["is"], noun, *behind))])
    return ", ".join([text, *extra])


def bullets(
    rng: random.Random, brand: str, noun: str, attributes: Sequence[Attribute], count: int
) -> list[str]:
    """``count`` bullet points that name every attribute."""
    said = [_about(rng, attribute, brand, noun) for attribute in attributes]
    rng.shuffle(said)
    leads = rng.sample(BULLET_LEADS, count)
    points = []
    for index, lead in enumerate(leads):
        own = said[index::count] or [_filler(rng, brand, noun)]
        head = lead.format(BRAND=brand.upper(), NOUN=noun.upper())
        points.append(f"{head}: {' '.join(own)} {_filler(rng, brand, noun)} ")
    return points


def description(
    rng: random.Random, brand: str, noun: str, attributes: Sequence[Attribute], chars: int
) -> str:
    """A description of about ``chars`` characters; "" for none."""
    sentences: list[str] = []
    size = 0
    while size < chars:
        if attributes and rng.random() < 0.35:
            sentences.append(_about(rng, rng.choice(attributes), brand, noun))
        else:
            sentences.append(_filler(rng, brand, noun))
        size += len(sentences[-1]) + 1
    return " ".join(sentences)


def _about(rng: random.Random, attribute: Attribute, brand: str, noun: str) -> str:
    role, phrase = attribute
    return rng.choice(ATTRIBUTE_SENTENCES[role]).format(a=phrase, brand=brand, noun=noun)


def _filler(rng: random.Random, brand: str, noun: str) -> str:
    return rng.choice(FILLER_SENTENCES).format(brand=brand, noun=noun)


def _caps(text: str) -> str:
    small = ("with", "for", "and", "in", "to")
    return " ".join(word if word in small else word[:1].upper() + word[1:] for word in text.split())
