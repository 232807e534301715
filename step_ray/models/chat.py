"""Chats as token ids: one function for training and for inference, from the model's own template.

The rendered text is always the template's. It is cut where a model begins and ends to speak (and
where a span of a message ends), and each piece is tokenised by itself in its context. So the ids of
a prompt are, by construction, a prefix of the ids that are trained on, and every cut lies between
two tokens. That this equals what an engine makes of the whole text in one go is checked on the
first chats of every tokenizer; the only difference left is inside a message of several spans, whose
inner boundaries are forced here.

Text of messages is data: no stretch of it becomes a control token, whatever the tokenizer's are.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from step_ray.models.encoding import Encoder, TemplateError, Tokenizer
from step_ray.react import Message, Span

_CHECKED_CHATS = 3  # real chats of a tokenizer whose every prefix is compared; then one render each


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the rendered chat and its ids.

    ``message`` and ``span`` say which span of which assistant message it is (with what the template
    puts around it for the model to say, such as the end-of-turn token); None for everything that a
    model is given.
    """

    text: str
    ids: tuple[int, ...]
    message: int | None = None
    span: int | None = None


def prompt_ids(messages: Sequence[Mapping[str, str]], tokenizer: Tokenizer) -> list[int]:
    """The ids a model is asked with: the chat, then the template's call for an answer.

    Answering does not need a template that training accepts: with any other, the whole text is
    tokenised at once. Raises :class:`TemplateError` if there is no template or it refuses the chat.
    """
    chat = [Message(_role(message), (Span(message["content"]),)) for message in messages]
    rendering = renderer(tokenizer)
    if rendering.problem is None:
        try:
            pieces = rendering.render(chat, generation_prompt=True)
        except TemplateError:  # what these messages say makes the template do something else
            return rendering.whole_prompt(chat)
        return [token for piece in pieces for token in piece.ids]
    return rendering.whole_prompt(chat)


def end_of_turn(tokenizer: Tokenizer) -> int:
    """The id of the token that ends an assistant's message in the chat template: where to stop.

    Raises :class:`TemplateError` if the template is not one that can be trained on.
    """
    rendering = renderer(tokenizer)
    if rendering.problem is not None:
        raise rendering.problem
    return rendering.end


def clean(text: str, tokenizer: Tokenizer) -> str:
    """``text`` as it is rendered: nothing in it is a control token of the tokenizer."""
    return renderer(tokenizer).encoder.clean((text,))[0]


def renderer(tokenizer: Tokenizer) -> Renderer:
    """The (cached) renderer of a tokenizer; a changed chat template gets a new one."""
    with _LOCK:
        found = _RENDERERS.get(tokenizer)
        if found is None or found.state != _state(tokenizer):
            found = Renderer(tokenizer)
            _RENDERERS[tokenizer] = found
        return found


@dataclass(frozen=True, slots=True)
class _Skeleton:
    """What a template writes around the contents of a sequence of roles.

    ``glue[i]`` stands before content i, ``glue[-1]`` after the last. ``own[i]`` is how much of the
    end of ``glue[i]`` an assistant says itself, ``end[i]`` how much of the start of
    ``glue[i + 1]``, up to and including its end-of-turn token.
    """

    glue: tuple[str, ...]
    own: dict[int, int]
    end: dict[int, int]


class Renderer:
    """Renders chats with one tokenizer. Use :func:`renderer`; safe to share between threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.state = _state(tokenizer)
        self._skeletons: dict[tuple[tuple[str, ...], bool], _Skeleton] = {}
        self._unchecked = _CHECKED_CHATS
        if not self.state[0]:
            raise TemplateError(
                "the tokenizer has no chat template: set tokenizer.chat_template to the one the"
                " model was trained with, or use a chat model"
            )
        self.encoder = Encoder(tokenizer)
        self.end = -1
        """The id of the end-of-turn token, if there is no problem."""
        self.problem: TemplateError | None = None
        """Why nothing can be trained with this template."""
        try:
            self.end = self._check_template()
        except TemplateError as error:
            self.problem = error

    def _text(self, messages: Sequence[Mapping[str, str]], generation_prompt: bool) -> str:
        try:
            text = self.encoder.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=generation_prompt
            )
        except Exception as error:  # a template is a program and raises anything
            roles = ", ".join(message["role"] for message in messages[:4])
            raise TemplateError(
                f"the chat template refuses a chat of {len(messages)} messages ({roles}, ...):"
                f" {error}"
            ) from error
        return str(text)

    def render(
        self, messages: Sequence[Message], *, generation_prompt: bool = False
    ) -> list[Piece]:
        """The chat cut into pieces; their texts joined are the template's text of the chat.

        Raises :class:`TemplateError` if the template cannot be trained on.
        """
        if not messages:
            raise ValueError("a chat needs at least one message")
        if self.problem is not None:
            raise self.problem
        spans = [self.encoder.clean([span.text for span in message.spans]) for message in messages]
        contents = ["".join(texts) for texts in spans]
        pieces = self._pieces(messages, spans, contents, generation_prompt)
        if self._unchecked and not generation_prompt:
            self._check_prefixes(messages, contents, pieces)
            self._unchecked -= 1
        return pieces

    def whole_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a prompt as one text: for models that answer but are not trained."""
        contents = [self.encoder.clean([message.content])[0] for message in messages]
        return self.encoder.encode([self._text(_dicts(messages, contents), True)])[0]

    def _pieces(
        self,
        messages: Sequence[Message],
        spans: Sequence[Sequence[str]],
        contents: Sequence[str],
        generation_prompt: bool,
    ) -> list[Piece]:
        dicts = _dicts(messages, contents)
        skeleton = self._skeleton(tuple(message.role for message in messages), generation_prompt)
        text = self._text(dicts, generation_prompt)
        cuts: list[tuple[int, int | None, int | None]] = []  # (end, message, span)
        position = 0
        for index, content in enumerate(contents):
            before, after = skeleton.glue[index], skeleton.glue[index + 1]
            start = position + len(before)
            shown = self._shown(text, start, content, after, index)
            if index in skeleton.own:
                cuts.append((start - skeleton.own[index], None, None))
                taken = 0 if content.startswith(shown) else len(content) - len(content.lstrip())
                cut = start - taken
                last = len(spans[index]) - 1
                for number, span in enumerate(spans[index]):
                    cut += len(span)
                    edge = min(max(cut, start), start + len(shown))
                    if number == last:
                        edge = start + len(shown) + skeleton.end[index]
                    cuts.append((edge, index, number))
            position = start + len(shown)
        cuts.append((len(text), None, None))
        texts, begin = [], 0
        for end, _, _ in cuts:
            texts.append(text[begin:end])
            begin = end
        return [
            Piece(part, ids, message, span)
            for part, ids, (_, message, span) in zip(
                texts, self.encoder.ids(texts), cuts, strict=True
            )
        ]

    def _shown(self, text: str, start: int, content: str, after: str, index: int) -> str:
        """The content as the template shows it: as it is, or without blanks around it."""
        for shown in (content, content.strip(), content.lstrip(), content.rstrip()):
            if text.startswith(shown + after, start):
                return shown
        raise TemplateError(
            f"the chat template changes message {index}: at character {start} it writes"
            f" {text[start : start + 40]!r} for {content[:40]!r}; set"
            " tokenizer.chat_template to one that writes contents as they are"
        )

    def _skeleton(self, roles: tuple[str, ...], generation_prompt: bool) -> _Skeleton:
        key = (roles, generation_prompt)
        if key not in self._skeletons:
            self._skeletons[key] = self._learn(roles, generation_prompt)
        return self._skeletons[key]

    def _learn(self, roles: tuple[str, ...], generation_prompt: bool) -> _Skeleton:
        """Reads off a chat of unmistakable words what the template writes around them."""
        words = [f"qz{index}zq" for index in range(len(roles))]
        dicts = [{"role": r, "content": word} for r, word in zip(roles, words, strict=True)]
        text = self._text(dicts, generation_prompt)
        glue: list[str] = []
        starts: list[int] = []
        position = 0
        for index, word in enumerate(words):
            at = text.find(word, position)
            if at < 0:
                raise TemplateError(
                    f"the chat template leaves out message {index} ({roles[index]})"
                )
            glue.append(text[position:at])
            starts.append(at)
            position = at + len(word)
        glue.append(text[position:])
        own, end = {}, {}
        for index, role in enumerate(roles):
            if role != "assistant":
                continue
            asked = self._text(dicts[:index], True) if index else ""
            said = self._text(dicts[: index + 1], False)
            for name, part in (("prompt before", asked), ("chat up to", said)):
                self._same_text(part, text, f"{name} message {index} of {len(roles)}")
            own[index] = starts[index] - len(asked)
            if own[index] < 0 or len(said) < starts[index] + len(words[index]):
                raise TemplateError(f"the chat template writes message {index} in its own prompt")
            found = self.encoder.control_in.search(glue[index + 1])
            if found is None:
                raise TemplateError(
                    "the chat template ends an assistant message without a control token (it"
                    f" writes {glue[index + 1]!r}): a model could not learn to stop there"
                )
            end[index] = found.end()
        return _Skeleton(tuple(glue), own, end)

    # --- checks ---

    def _check_template(self) -> int:
        """Tries the template on a chat of the project's form; returns the end-of-turn id."""
        turn = "Thought: I look for it, 12 times.\nAction: go to shelf 12"
        seen = "Observation: You see a mug 1.\nNothing else."
        texts = ["Do it.\n\nYou are in a room.", turn, seen, turn, seen, "Action: look"]
        chat = [
            Message("assistant" if index % 2 else "user", (Span(text),))
            for index, text in enumerate(texts)
        ]
        contents = [message.content for message in chat]
        pieces = self._pieces(chat, [[content] for content in contents], contents, False)
        self._check_prefixes(chat, contents, pieces)
        return self._last_control(pieces[1])

    def _last_control(self, piece: Piece) -> int:
        name = self.encoder.tokenizer.convert_tokens_to_ids
        controls = {int(name(control)) for control in self.encoder.controls}
        if not piece.ids or piece.ids[-1] not in controls:
            raise TemplateError(f"{piece.text[-20:]!r} does not end with a token of its own")
        return piece.ids[-1]

    def _check_prefixes(
        self, messages: Sequence[Message], contents: Sequence[str], pieces: Sequence[Piece]
    ) -> None:
        """Every prompt and every shorter chat is a prefix of the whole, as text and as ids."""
        dicts = _dicts(messages, contents)
        text = "".join(piece.text for piece in pieces)
        for count in range(1, len(messages) + 1):
            last = messages[count - 1].role
            name = f"of {count} of {len(messages)} messages"
            if last != "assistant":
                if count < len(messages):
                    self._same_text(self._text(dicts[:count], True), text, f"prompt {name}")
                continue
            self._same_text(self._text(dicts[:count], False), text, f"chat {name}")
        # As ids: an engine tokenises the whole text of a prompt at once. Boundaries of spans inside
        # one message are ours alone, so they are left out of the comparison.
        plain = self._pieces(messages, [[content] for content in contents], contents, False)
        asked, ours = "", list[int]()
        prompts, expected = list[str](), list[list[int]]()
        for piece in plain:
            if piece.message is not None:
                prompts.append(asked)
                expected.append(list(ours))
            asked += piece.text
            ours.extend(piece.ids)
        for whole, mine in zip(self.encoder.encode(prompts), expected, strict=True):
            if whole != mine:
                self._refuse_ids(whole, mine)

    def _refuse_ids(self, whole: Sequence[int], mine: Sequence[int]) -> None:
        at, names = self._differing(whole, mine)
        raise TemplateError(
            f"the chat template is not stable as tokens: token {at} of a prompt is {names[0]} when"
            f" its text is tokenised at once and {names[1]} when a model has said the turns before"
            " it one by one; end the template's generation prompt with a control token, or with"
            " text that never joins what follows"
        )

    def _same_text(self, part: str, whole: str, name: str) -> None:
        """Refuses a template whose ``part`` of a chat is no beginning of the ``whole``."""
        if whole.startswith(part):
            return
        at = _first_difference(part, whole)
        token, names = self._differing(*self.encoder.encode([part, whole]))
        raise TemplateError(
            f"the chat template is not stable: the text of the {name} is no beginning of the whole"
            f" chat's; token {token} is {names[0]}, that of the whole chat {names[1]} (character"
            f" {at}: {part[at : at + 40]!r}, {whole[at : at + 40]!r}). Set tokenizer.chat_template"
            " to one that renders a message the same whatever follows it"
        )

    def _differing(self, first: Sequence[int], second: Sequence[int]) -> tuple[int, list[str]]:
        """The place of the first differing token, and its name in both: empty past an end."""
        at = _first_difference(first, second)
        name = self.encoder.tokenizer.convert_ids_to_tokens
        return at, [repr("".join(name(list(ids[at : at + 1])))) for ids in (first, second)]


_LOCK = threading.RLock()
_RENDERERS: weakref.WeakKeyDictionary[Any, Renderer] = weakref.WeakKeyDictionary()


def _state(tokenizer: Tokenizer) -> tuple[str, int]:
    return str(getattr(tokenizer, "chat_template", None) or ""), len(tokenizer)


def _role(message: Mapping[str, str]) -> Any:
    role = message["role"]
    if role not in ("system", "user", "assistant"):
        raise ValueError(f"a message's role is system, user or assistant, not {role!r}")
    return role


def _dicts(messages: Sequence[Message], contents: Iterable[str]) -> list[dict[str, str]]:
    return [
        {"role": message.role, "content": content}
        for message, content in zip(messages, contents, strict=True)
    ]


def _first_difference(first: Sequence[Any], second: Sequence[Any]) -> int:
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))
