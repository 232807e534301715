"""Which rules a game file plays by: its domain and grammar, recognised by their text.

The rules themselves are written out in the engine, so a file whose domain or grammar differs from
the known ones in more than comments and the task's sentence must be refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from step_ray.envs.alfworld.pddl import CorruptGame, UnknownDomain, strip_comments

__all__ = ["Dialect", "recognise"]

# sha256 of the domain without comments -> (receptacle types that clean, whether it knows help)
DOMAINS = {
    "2bb2c5c7591ba4452d38c74721bd09a10c9d72c9ec3f5b2fb7cd8f9b57ae6a64": (
        ("sinktype", "sinkbasintype"),
        False,
    ),  # nearly all games of json_2.1.1
    "6eca02b13b273d84ef7f20bb79d194d4e0542ba3127af5a257c0115ebb5c1930": (
        ("sinkbasintype",),
        False,
    ),  # a few games of json_2.1.1
    "da18d44ab1bcf831f61e90b88a99ad5766d8bbb562b6f87839b4b6ace4f796fe": (
        ("sinkbasintype",),
        True,
    ),  # the wheel's, since alfworld 0.4
}
# sha256 of the grammar without the task's sentence -> (dialect, whether it knows help)
GRAMMARS: dict[str, tuple[Literal["put", "move"], bool]] = {
    "01b08e82e84eaab5897d35b747cdba348fd67553971d82b781acb7891d5245c4": (
        "put",
        False,
    ),  # json_2.1.1
    "d0ceb176e47b8ecf359c02e76cccd9c41ee8014f8600f271a93b01a5f6e2c18c": (
        "move",
        True,
    ),  # the wheel's, since alfworld 0.4
}
HELP = """Available commands:
  look:                             look around your current location
  inventory:                        check your current inventory
  go to (receptacle):               move to a receptacle
  open (receptacle):                open a receptacle
  close (receptacle):               close a receptacle
  take (object) from (receptacle):  take an object from a receptacle
  move (object) to (receptacle):  place an object in or on a receptacle
  examine (something):              examine a receptacle or an object
  use (object):                     use an object
  heat (object) with (receptacle):  heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle):  cool an object using a receptacle
  slice (object) with (object):     slice an object using a sharp object
"""
_SENTENCE = re.compile(r'("Your task is to: )((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Dialect:
    """The variant of the rules: verb to put a thing down, what cleans, and whether help exists."""

    verb: Literal["put", "move"]
    cleaners: tuple[str, ...]
    help: bool


def recognise(domain: str, grammar: str) -> tuple[Dialect, str]:
    """The dialect of a game and the sentence of its task, without "Your task is to: ".

    Raises UnknownDomain for rules that this engine does not implement.
    """
    cleaners, domain_help = _domain(domain)
    found = _SENTENCE.findall(grammar)
    if len(found) != 1:
        raise CorruptGame('the grammar has no sentence "Your task is to: ..."')
    verb, grammar_help = _grammar(_SENTENCE.sub(r'\1"', grammar))
    return Dialect(verb, cleaners, domain_help and grammar_help), json.loads(f'"{found[0][1]}"')


# Nearly all games of a data set embed the same text.
@lru_cache(maxsize=8)
def _domain(text: str) -> tuple[tuple[str, ...], bool]:
    digest = hashlib.sha256(strip_comments(text).encode()).hexdigest()
    if digest not in DOMAINS:
        raise UnknownDomain(_refusal("PDDL domain", digest))
    return DOMAINS[digest]


@lru_cache(maxsize=8)
def _grammar(text: str) -> tuple[Literal["put", "move"], bool]:
    digest = hashlib.sha256(" ".join(text.split()).encode()).hexdigest()
    if digest not in GRAMMARS:
        raise UnknownDomain(_refusal("grammar", digest))
    return GRAMMARS[digest]


def _refusal(what: str, digest: str) -> str:
    return (
        f"the game's {what} (sha256 {digest[:12]}) is not one of the ALFWorld versions known to "
        "the native engine; play it with the stock engine, or download json_2.1.1 anew"
    )
