"""A teacher's reply -> a review, or a reason why it is none. Nothing is guessed.

Strict JSON is tried first. What else is understood are the ways in which models miss it: a fence or
prose around the object, thinking before it, trailing commas, single or typographic quotes, Python's
names for constants, raw line breaks and inner quotes in texts. A reply that is cut, contradicts
itself or lacks a part is rejected. Time is linear in the length of a reply, and that is bounded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from step_ray.react import neutralise_model_text
from step_ray.teacher.base import one_line
from step_ray.teacher.schemas import ACTION_LIMIT, KINDS, TEXT_LIMIT, Form
from step_ray.trajectory import Review

MAX_REPLY = 100_000  # characters
MAX_TEXT = 4_000  # of one part of a review
MAX_ACTION = 400
_MAX_STARTS = 16  # braces in a reply that are tried as the beginning of the object

_PARTS = ("error", "reason", "reflection", "thought", "action")
_NOT_EMPTY = ("reason", "thought", "action")
_TRUE, _FALSE = ("true", "yes"), ("false", "no")

_THINKING = re.compile(r"\A.*</think(?:ing)?>", re.DOTALL)
_STILL_THINKING = re.compile(r"<think(?:ing)?>")
_LABEL = re.compile(r"\A(?:action|thought)\s*:\s*", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CLOSES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u201e": "\u201c", "`": "`"}
_BLANK = re.compile(r"\s*")
_WORD = re.compile(r"[A-Za-z_]\w{0,40}")
_AFTER_TEXT = re.compile(r"\s*(?:[,:}]|\Z)")
_OTHER = object()  # a value that is neither text nor constant: what it holds is not looked at
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


REASONS = (
    "empty",
    "too_long",
    "cut",
    "no_object",
    "not_json",
    "ambiguous",  # two objects, or one key twice, that say different things
    "missing",
    "wrong_type",
    # What a teacher finds out, not the parser:
    "unchanged",  # it corrects an action to itself
    "other_action",  # the corrected action was settled, and is not that
)


class ReplyRejected(ValueError):  # noqa: N818
    """A reply that is no review. ``reason`` is one of :data:`REASONS`, the text says more; ``raw``
    is the reply."""

    def __init__(self, reason: str, what: str, raw: str) -> None:
        super().__init__(what)
        self.reason = reason
        self.raw = raw

    def __reduce__(self) -> Any:
        return type(self), (self.reason, str(self), self.raw)


class _Flaw(Exception):  # noqa: N818
    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason


def parse_review(
    reply: str, form: Form = "review", *, cut: bool = False, bounded: bool = False
) -> Review:
    """The review in a model's reply; its texts are on one line and neutral.

    ``reflect`` is about a known error: the review says so. Of a ``judge`` the assessment becomes
    the review's ``error``. ``cut``: the backend says that the reply ended before its end.
    ``bounded``: a schema cut its texts at their limits, so that one of that length has no end.

    Raises :class:`ReplyRejected` and nothing else, whatever the reply.
    """
    try:
        return _review(_object(reply, form), form, reply, bounded)
    except _Flaw as flaw:
        if cut and flaw.reason in ("no_object", "not_json", "missing"):
            flaw = _Flaw("cut", "the reply was cut before its end")
        raise ReplyRejected(flaw.reason, str(flaw), reply) from None


# --- the object in a reply


def _object(reply: str, form: Form) -> dict[str, Any]:
    """The one object in the reply with the keys of the form, keys normalised."""
    if len(reply) > MAX_REPLY:
        raise _Flaw("too_long", f"the reply has {len(reply)} characters, over {MAX_REPLY}")
    text = _THINKING.sub("", reply, count=1).strip("\ufeff \t\r\n")
    if not text:
        raise _Flaw("empty", "the reply is empty")
    if _STILL_THINKING.match(text):
        raise _Flaw("no_object", "the reply never stops thinking")
    found: list[dict[str, Any]] = []
    wanted = _PARTS if form == "reflect" else ("is_error",)
    flaw = _Flaw("no_object", "the reply holds no JSON object")
    for candidate in _candidates(text):
        try:
            value = _normal(candidate() if callable(candidate) else candidate)
        except _Flaw as wrong:
            flaw = wrong
            continue
        if not value.keys() & set(wanted):
            flaw = _Flaw("missing", f"an object without {wanted[0]}")
        elif value not in found:
            found.append(value)
    if len(found) > 1:
        raise _Flaw("ambiguous", f"the reply holds {len(found)} different objects")
    if not found:
        raise flaw
    return found[0]


def _candidates(text: str) -> Iterator[Any]:
    """Lists of (key, value), or what makes one: of every object in the text, from left to right."""
    decoder = json.JSONDecoder(strict=False, object_pairs_hook=_Pairs)
    position, starts = 0, 0
    while (position := text.find("{", position)) >= 0:
        starts += 1
        if starts > _MAX_STARTS:
            raise _Flaw("no_object", f"the reply has over {_MAX_STARTS} places to begin")
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            reader = _Tolerant(text, position)
            try:
                value = reader.read()
                end = reader.position
            except _Flaw as flaw:
                yield _raising(flaw)
                position += 1
                continue
        yield value
        position = end


def _raising(flaw: _Flaw) -> Any:
    def fail() -> Any:
        raise flaw

    return fail


class _Pairs(list[tuple[str, Any]]):
    """An object's pairs in order: a key that comes twice must not be lost silently."""


class _Tolerant:
    """Reads one flat object of texts and constants at a place of a text."""

    def __init__(self, text: str, position: int) -> None:
        self.text, self.position = text, position + 1

    def read(self) -> _Pairs:
        pairs = _Pairs()
        while self._next() != "}":
            key = self._text() if self._next() in _CLOSES else self._word()
            self._expect(":")
            pairs.append((key, self._value()))
            if self._next() == ",":
                self.position += 1
            elif self._next() != "}":
                raise _Flaw("not_json", f"not JSON at {self._here()}")
        self.position += 1
        return pairs

    def _value(self) -> Any:
        char = self._next()
        if char in _CLOSES:
            return self._text()
        if char in "{[":
            raise _Flaw("not_json", f"a nested value at {self._here()}, which has to be text")
        word = self._word()
        constants = {"true": True, "false": False, "null": None, "none": None}
        if word.lower() not in constants:
            raise _Flaw("not_json", f"the bare word {word!r} for a value")
        return constants[word.lower()]

    def _text(self) -> str:
        """A quoted text: it ends at a closing quote that is followed by what may follow a text."""
        opening = self._next()
        closing = {_CLOSES[opening], '"'} if opening == "\u201c" else {_CLOSES[opening]}
        made: list[str] = []
        at = self.position + 1
        while at < len(self.text):
            char = self.text[at]
            if char == "\\" and at + 1 < len(self.text):
                following = self.text[at + 1]
                made.append(_ESCAPES.get(following, following))
                at += 2
                continue
            if char in closing and _AFTER_TEXT.match(self.text, at + 1):
                self.position = at + 1
                return "".join(made)
            made.append(char)
            at += 1
        raise _Flaw("not_json", f"a text without an end at {self._here()}")

    def _word(self) -> str:
        self._next()
        found = _WORD.match(self.text, self.position)
        if found is None:
            raise _Flaw("not_json", f"not JSON at {self._here()}")
        self.position = found.end()
        return found[0]

    def _expect(self, char: str) -> None:
        if self._next() != char:
            raise _Flaw("not_json", f"no {char!r} at {self._here()}")
        self.position += 1

    def _next(self) -> str:
        blank = _BLANK.match(self.text, self.position)
        self.position = blank.end() if blank else self.position
        if self.position >= len(self.text):
            raise _Flaw("not_json", "the object has no end")
        return self.text[self.position]

    def _here(self) -> str:
        return repr(self.text[self.position : self.position + 20])


def _normal(pairs: Any) -> dict[str, Any]:
    """An object's pairs by normalised keys ("is error", "isError" and "is_error" are one)."""
    value: dict[str, Any] = {}
    names = {name.replace("_", ""): name for name in ("assessment", "is_error", "kind", *_PARTS)}
    for key, item in pairs:
        name = names.get("".join(char for char in key.lower() if char.isalpha()))
        if name is None:
            continue
        item = item if isinstance(item, str | bool | None) else _OTHER
        if name in value and value[name] != item:
            raise _Flaw("ambiguous", f"the key {name} comes twice with different values")
        value[name] = item
    return value


# --- from an object to a review


def _review(value: dict[str, Any], form: Form, raw: str, bounded: bool) -> Review:
    raw = _SURROGATE.sub("\ufffd", raw)
    if form != "reflect" and not _is_error(value):
        return Review(is_error=False, raw=raw)
    kind = _part(value, "kind").lower() if "kind" in value else ""
    kind = kind if kind in KINDS else "other"
    if form == "judge":
        assessment = _part(value, "assessment") if "assessment" in value else ""
        return Review(is_error=True, kind=kind, error=assessment, raw=raw)
    parts = {name: _part(value, name) for name in _PARTS}
    for name in _PARTS if bounded else ():
        if len(value[name] or "") >= (ACTION_LIMIT if name == "action" else TEXT_LIMIT):
            raise _Flaw("cut", f"{name} was cut at {len(value[name])} characters: say less")
    for name in _NOT_EMPTY:
        if not parts[name]:
            raise _Flaw("missing", f"{name} is empty")
    if len(parts["action"]) > MAX_ACTION:
        raise _Flaw("too_long", f"the action has {len(parts['action'])} characters")
    return Review(is_error=True, kind=kind, **parts, raw=raw)


def _is_error(value: dict[str, Any]) -> bool:
    said = value.get("is_error")
    if isinstance(said, bool):
        return said
    word = said.strip().lower() if isinstance(said, str) else ""
    if word in (*_TRUE, *_FALSE):
        return word in _TRUE
    raise _Flaw("wrong_type", "is_error is neither true nor false")


def _part(value: dict[str, Any], name: str) -> str:
    if name not in value:
        raise _Flaw("missing", f"the key {name} is missing")
    text = "" if value[name] is None else value[name]
    if not isinstance(text, str):
        raise _Flaw("wrong_type", f"{name} is not a text")
    if len(text) > MAX_TEXT:
        raise _Flaw("too_long", f"{name} has {len(text)} characters, over {MAX_TEXT}")
    if name == "action" and len(text.strip().splitlines()) > 1:
        raise _Flaw("wrong_type", "action has several lines")
    text = one_line(_SURROGATE.sub("\ufffd", text))
    return neutralise_model_text(_LABEL.sub("", text) if name in ("action", "thought") else text)
