"""Which words of a product's title are nouns: decides whether a purchase is of the right type.

The original asks spaCy. Where that is not wanted, a rule takes every longer word that is no
function word; rewards then agree only with runs that use the same rule. Buying the goal's own
product scores the same under every tagger.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

from step_ray.envs.base import EnvError

Tagger = Callable[[str], tuple[str, ...]]
"""The nouns of a title in lower case, in order, with repetitions."""

_TOKEN = re.compile(r"[A-Za-z]+|\d+")
_FUNCTION_WORDS = (
    "the and for with from that this your are not all any our you has have its was but non set "
    "new one two"
)
_NO_NOUNS = frozenset(_FUNCTION_WORDS.split())
_SPACY_MODEL = "en_core_web_sm"
_NOUNS = ("NOUN", "PROPN")


def load_tagger(name: str) -> Tagger:
    """The tagger called ``rule`` or ``spacy``; EnvError if it is unknown or not installed."""
    if name == "rule":
        return rule_nouns
    if name == "spacy":
        return _spacy_tagger()
    raise EnvError(f"unknown tagger {name!r}; the taggers are rule, spacy")


@lru_cache(maxsize=1 << 14)
def rule_nouns(title: str) -> tuple[str, ...]:
    """Runs of more than two letters that are no function words."""
    lower = (word.lower() for word in _TOKEN.findall(title))
    return tuple(w for w in lower if len(w) > 2 and w[0].isalpha() and w not in _NO_NOUNS)


def _spacy_tagger() -> Tagger:
    try:
        model: Any = import_module("spacy").load(_SPACY_MODEL)
    except (ImportError, OSError) as error:
        raise EnvError(
            f"the tagger spacy needs spaCy and its model: pip install spacy && "
            f"python -m spacy download {_SPACY_MODEL}; or use the tagger rule ({error})"
        ) from error

    @lru_cache(maxsize=1 << 14)
    def nouns(title: str) -> tuple[str, ...]:
        return tuple(token.text.lower() for token in model(title) if token.pos_ in _NOUNS)

    return nouns
