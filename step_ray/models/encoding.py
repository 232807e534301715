"""Text to token ids where text is data: nothing in it is a control token, and pieces join exactly.

A piece of a text is tokenised by itself, but as it reads after the piece before it: some tokenizers
put a blank before every text, or swallow blanks after a control token.
"""

from __future__ import annotations

import itertools
import re
import threading
import unicodedata
import weakref
from collections.abc import Sequence
from typing import Any, Literal

from step_ray.models.base import ModelError

Tokenizer = Any
"""A Hugging Face tokenizer with a chat template."""

_BLANK = "\u2581"  # what many tokenizers write for a blank, and then cannot tell from one
_Form = Literal["NFC", "NFKC"]
_CACHED_PIECES = 50_000
_SURROGATE = re.compile("[\ud800-\udfff]")


class TemplateError(ModelError):
    """A chat template or tokenizer that cannot be trained on; shows where it goes wrong."""


class Encoder:
    """Encodes text with one tokenizer, which it does not keep alive. Safe to share by threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = weakref.ref(tokenizer)
        self._lock = threading.RLock()
        self._cache: dict[tuple[str, str], tuple[int, ...]] = {}
        self.controls = _controls(tokenizer)
        """Texts that the tokenizer turns into tokens with a meaning, longest first."""
        self.control_in = re.compile("|".join(map(re.escape, self.controls)) or r"(?!)")
        rests: dict[str, list[str]] = {}
        for control in self.controls:
            rests.setdefault(control[0], []).append(re.escape(control[1:]))
        firsts = (f"{re.escape(first)}(?={'|'.join(rest)})" for first, rest in rests.items())
        self._break = re.compile("|".join(firsts) or r"(?!)")
        self._form = _unicode_form(tokenizer)
        for control in self.controls:
            if self.control_in.search(self._break.sub(lambda found: found[0] + " ", control)):
                raise TemplateError(f"control token {control!r} cannot be kept out of messages")
        self._plain = self._is_plain()
        self._blank = _BLANK not in self.decode(self.encode([_BLANK])[0])

    @property
    def tokenizer(self) -> Tokenizer:
        tokenizer = self._tokenizer()
        assert tokenizer is not None  # the caller holds it
        return tokenizer

    def clean(self, texts: Sequence[str]) -> list[str]:
        """Consecutive texts (spans) such that their concatenation has no control token."""
        made = [_SURROGATE.sub("\ufffd", text) for text in texts]
        if self._blank:
            made = [text.replace(_BLANK, " ") for text in made]
        if self._form is not None:
            made = [unicodedata.normalize(self._form, text) for text in made]
        whole = "".join(made)
        places = [found.end() for found in self._break.finditer(whole)]
        if not places:
            return made
        cleaned, start = [], 0
        for text in made:
            inside = [p - start for p in places if start < p <= start + len(text)]
            edges = [0, *inside, len(text)]
            cleaned.append(" ".join(text[a:b] for a, b in itertools.pairwise(edges)))
            start += len(text)
        return cleaned

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of independent texts, control tokens recognised, nothing put around them."""
        if not texts:
            return []
        with self._lock:  # fast tokenizers are not safe to share
            out = self.tokenizer(
                list(texts),
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                truncation=False,
                padding=False,
                verbose=False,
            )
        return [list(ids) for ids in out["input_ids"]]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens included."""
        with self._lock:
            text = self.tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        return str(text)

    def _is_plain(self) -> bool:
        """Whether pieces need no context: no blank is put before text, none is swallowed."""
        after = next(iter(self.controls), "")
        probes = ["a", " a", "\n", "\na", "\n a", after, after + "a", after + "\na"]
        a, blank_a, line, line_a, line_blank_a, control, control_a, control_line_a = self.encode(
            probes
        )
        return (
            line + a == line_a
            and line + blank_a == line_blank_a
            and control + a == control_a
            and control + line_a == control_line_a
            and not any(
                token.rstrip for token in _added_tokens(self.tokenizer) if str(token.content)
            )
        )

    def ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of consecutive pieces of one text, each as it reads after the one before."""
        keys: list[tuple[str, str]] = []
        before = ""
        for text in texts:
            keys.append(("" if self._plain else self._context(before), text))
            before = text or before
        with self._lock:
            missing = list(dict.fromkeys(key for key in keys if key not in self._cache))
            found = dict(zip(missing, self._encode_after(missing), strict=True))
            out = [found[key] if key in found else self._cache[key] for key in keys]
            if len(self._cache) + len(found) > _CACHED_PIECES:
                self._cache.clear()
            self._cache.update(found)
        return out

    def _context(self, before: str) -> str:
        """What of the text before a piece matters: its last control token or last character."""
        for control in self.controls:  # longest first
            if before.endswith(control):
                return control
        return before[-1:]

    def _encode_after(self, keys: Sequence[tuple[str, str]]) -> list[tuple[int, ...]]:
        """Ids of (context, text) pairs: those of both together less those of the context.

        Where a token would reach across, a line break stands in for the context, then nothing.
        """
        out: dict[int, tuple[int, ...]] = {i: () for i, (_, text) in enumerate(keys) if not text}
        for stand_in in (None, "\n", ""):
            todo = [index for index in range(len(keys)) if index not in out]
            anchors = [
                context if stand_in is None or not context else stand_in
                for context in (keys[index][0] for index in todo)
            ]
            whole = self.encode([a + keys[i][1] for a, i in zip(anchors, todo, strict=True)])
            known = [anchor for anchor in dict.fromkeys(anchors) if anchor]
            heads = {"": [], **dict(zip(known, self.encode(known), strict=True))}
            for index, anchor, ids in zip(todo, anchors, whole, strict=True):
                head = heads[anchor]
                if ids[: len(head)] == head:  # a token ends where the context ends
                    out[index] = tuple(ids[len(head) :])
        return [out[index] for index in range(len(keys))]


def _added_tokens(tokenizer: Tokenizer) -> list[Any]:
    return list(tokenizer.added_tokens_decoder.values())


def _controls(tokenizer: Tokenizer) -> list[str]:
    """Texts the tokenizer turns into tokens that mean something, longest first.

    That is every special token and every added one that looks like markup; added words and runs of
    blanks are ordinary text.
    """
    found = {str(token) for token in tokenizer.all_special_tokens}
    for token in _added_tokens(tokenizer):
        text = str(token.content)
        word = all(char.isalnum() or char.isspace() or char in "_'-" for char in text)
        if token.special or not (word or len(text) == 1):
            found.add(text)
    for text in found:
        if len(text.strip()) < 2:
            raise TemplateError(f"control token {text!r} is a blank or one character long")
    return sorted(found, key=lambda text: (-len(text), text))


def _unicode_form(tokenizer: Tokenizer) -> _Form | None:
    """The Unicode form a tokenizer turns text into, if any: the same is done to messages."""
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    if normalizer is None:
        return None
    composed, compatible = "\u00e9", "fi"
    if compatible in normalizer.normalize_str("\ufb01"):
        return "NFKC"
    return "NFC" if composed in normalizer.normalize_str("e\u0301") else None
