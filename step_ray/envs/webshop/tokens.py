"""Lucene's English analysis: the terms by which products are found.

Words are those of Unicode Standard Annex #29 as Lucene's StandardTokenizer cuts them (an emoji
and a CJK ideograph are words of their own), without a possessive 's, in lower case, without the
33 English stop words, stemmed by Porter's algorithm with Martin Porter's own extensions.
"""

from __future__ import annotations

from functools import lru_cache

import regex
from nltk.stem.porter import PorterStemmer

# Lucene's EnglishAnalyzer.ENGLISH_STOP_WORDS_SET (Apache License 2.0).
_STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such "
    "that the their then there these they this to was will with"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
_POSSESSIVES = ("'s", "'S", "’s", "’S", "＇s", "＇S")
_LONGEST = 255  # Lucene cuts longer words there

# Annex #29 in Lucene's reading: joiners between letters, between digits, and within both.
_EXTEND = r"[[\p{WB=Format}\p{WB=Extend}\p{WB=ZWJ}]--\p{Emoji_Modifier}]*+"
_LETTER = rf"(?:[\p{{WB=ALetter}}\p{{WB=Hebrew_Letter}}]{_EXTEND})"
_HEBREW = rf"(?:\p{{WB=Hebrew_Letter}}{_EXTEND})"
_DIGIT = rf"(?:[\p{{WB=Numeric}}０-９]{_EXTEND})"
_KATAKANA = rf"(?:\p{{WB=Katakana}}{_EXTEND})"
_LOW_LINE = rf"(?:\p{{WB=ExtendNumLet}}{_EXTEND})"
_IN_LETTERS = rf"(?:[\p{{WB=MidLetter}}\p{{WB=MidNumLet}}']{_EXTEND})"
_IN_DIGITS = rf"(?:[\p{{WB=MidNum}}\p{{WB=MidNumLet}}']{_EXTEND})"
_CORE = (
    rf"(?:{_KATAKANA}(?:{_LOW_LINE}*{_KATAKANA})*"
    rf"|(?:{_HEBREW}(?:'{_EXTEND}(?!{_HEBREW})|\"{_EXTEND}{_HEBREW})"
    rf"|{_DIGIT}(?:(?:{_IN_DIGITS}|{_LOW_LINE}*){_DIGIT})*"
    rf"|{_LETTER}(?:(?:{_IN_LETTERS}|{_LOW_LINE}*){_LETTER})*)+)"
)
# Extended_Pictographic as of Unicode 11, which Lucene 8 reads; later versions differ.
_PICTOGRAPH = (
    r"©®‼⁉™ℹ\u2194-\u2199↩↪⌚⌛⌨⎈⏏\u23E9-\u23F3⏸-⏺Ⓜ▪▫▶◀\u25FB-\u25FE\u2600-\u2605\u2607-\u2612"
    r"\u2614-\u2685\u2690-\u2705\u2708-\u2712✔✖✝✡✨✳✴❄❇❌❎\u2753-\u2755❗\u2763-\u2767\u2795-\u2797"
    r"➡➰➿⤴⤵\u2B05-\u2B07⬛⬜⭐⭕〰〽㊗㊙\U0001F000-\U0001F0FF\U0001F10D-\U0001F10F\U0001F12F"
    r"\U0001F16C-\U0001F171\U0001F17E\U0001F17F\U0001F18E\U0001F191-\U0001F19A"
    r"\U0001F1AD-\U0001F1E5\U0001F201-\U0001F20F\U0001F21A\U0001F22F\U0001F232-\U0001F23A"
    r"\U0001F23C-\U0001F23F\U0001F249-\U0001F3FA\U0001F400-\U0001F53D\U0001F546-\U0001F64F"
    r"\U0001F680-\U0001F6FF\U0001F774-\U0001F77F\U0001F7D5-\U0001F7FF\U0001F80C-\U0001F80F"
    r"\U0001F848-\U0001F84F\U0001F85A-\U0001F85F\U0001F888-\U0001F88F\U0001F8AE-\U0001F8FF"
    r"\U0001F90C-\U0001F93A\U0001F93C-\U0001F945\U0001F947-\U0001FFFD"
)
_EXTEND_SANS = r"[[\p{WB=Format}\p{WB=Extend}\p{WB=ZWJ}]--[\p{Emoji_Modifier}\uFE0E\uFE0F]]"
_PICTURE = rf"(?:[{_PICTOGRAPH}]{_EXTEND_SANS}*\uFE0F?|\p{{Emoji_Modifier}}{_EXTEND_SANS}*)"
_EMOJI = (
    rf"{_PICTURE}\p{{Emoji_Modifier}}?(?:\u200D?(?<=\u200D){_PICTURE}\p{{Emoji_Modifier}}?)*"
    r"|\p{WB=Regional_Indicator}{2}|[0-9#*]\uFE0F?\u20E3"
)
_WORD = regex.compile(
    rf"(?V1){_EMOJI}|{_LOW_LINE}*{_CORE}(?:{_LOW_LINE}+{_CORE})*{_LOW_LINE}*"
    rf"|(?:\p{{LB=Complex_Context}}{_EXTEND})+|[\p{{Script=Han}}\p{{Script=Hiragana}}]{_EXTEND}"
)
_ASCII_WORD = regex.compile(
    r"_*(?:[0-9]+(?:(?:[.,;']|_*)[0-9]+)*|[a-z]+(?:(?:[:.']|_*)[a-z]+)*)+"
    r"(?:_+(?:[0-9]+(?:(?:[.,;']|_*)[0-9]+)*|[a-z]+(?:(?:[:.']|_*)[a-z]+)*)+)*_*",
    regex.IGNORECASE,
)
_STEMMER = PorterStemmer(mode=PorterStemmer.MARTIN_EXTENSIONS)


def words(text: str) -> list[str]:
    """The words of a text in order, as they are written."""
    found: list[str] = (_ASCII_WORD if text.isascii() else _WORD).findall(text)
    if all(len(word) <= _LONGEST for word in found):
        return found
    return [
        word[start : start + _LONGEST] for word in found for start in range(0, len(word), _LONGEST)
    ]


def terms(text: str) -> list[str]:
    """The terms of a text in order, with repetitions."""
    return [term for word in words(text) if (term := _term(word))]


@lru_cache(maxsize=1 << 17)
def _stem(word: str) -> str:
    return str(_STEMMER.stem(word))


def _term(word: str) -> str:
    """The term of a word; "" for a stop word."""
    if word.endswith(_POSSESSIVES):
        word = word[:-2]
    word = word.lower()
    return "" if word in STOP_WORDS else _stem(word)
