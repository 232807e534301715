"""Trajectory -> token ids and loss weights, both made by one function.

The loss is L(theta) = - sum_i delta_i log pi(t_i, a_i | u, tau_<i) (STeP, partially masked
imitation learning): delta_i is 0 for turns the teacher flagged as errors. They stay in the context,
so the model learns what to do after a mistake without learning the mistake. Instructions and
observations are never trained. The policy is a training option: verdicts are stored, weights are
derived from them here.

Ids are those of :func:`step_ray.models.chat.prompt_ids` at every turn, followed by what the model
is to say: the template's text, cut at the boundaries of turns. A turn's first token is predicted
from the last token of the very prompt it was, or will be, asked with. Only where one message holds
several turns (a vetoed error and its correction) can the ids inside that message differ from those
of its text tokenised at once, as no token may belong to both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from step_ray.models.chat import Piece, renderer
from step_ray.models.encoding import Tokenizer
from step_ray.react import Message, to_messages
from step_ray.trajectory import Trajectory, Verdict

MaskName = Literal["partial", "none", "corrections_only"]
MaskPolicy = MaskName | Mapping[Verdict, float]
"""How verdicts become weights: a name, or a weight >= 0 for each verdict (0 if left out)."""

POLICIES: dict[str, dict[Verdict, float]] = {
    "partial": {"correct": 1.0, "error": 0.0, "correction": 1.0},
    "none": {"correct": 1.0, "error": 1.0, "correction": 1.0},
    "corrections_only": {"correct": 0.0, "error": 0.0, "correction": 1.0},
}


class NothingToTrain(ValueError):  # noqa: N818 - a property of a trajectory, not a defect
    """A trajectory none of whose turns would be trained; says why."""


class TooLong(NothingToTrain):
    """Not even the last turn of a trajectory fits the length with its prompt."""


class Unfaithful(NothingToTrain):
    """The tokenizer has no tokens for what a trained turn says: unknown characters, most often."""


@dataclass(frozen=True, slots=True)
class TrainedSpan:
    """Tokens ``start`` to ``end`` (exclusive) of a sample: all that the model says in one turn.

    ``text`` is exactly what these tokens decode to; the last span of a message includes the
    end-of-turn token, which is trained if and only if that span is.
    """

    start: int
    end: int
    turn: int
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One trajectory as it is trained: ``loss_weights[i]`` weighs the prediction of token i.

    ``spans`` are the turns with a positive weight, in order. ``truncated_turns`` are missing from
    the beginning.
    """

    id: str
    input_ids: list[int]
    loss_weights: list[float]
    spans: list[TrainedSpan]
    truncated_turns: int = 0


@dataclass(slots=True)
class Counts:
    """What became of trajectories on their way to samples, and of their turns and tokens."""

    samples: int = 0
    nothing_to_train: int = 0
    too_long: int = 0
    unfaithful: int = 0
    truncated: int = 0
    truncated_turns: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    trained_turns: dict[str, int] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        self.samples += 1
        self.truncated += sample.truncated_turns > 0
        self.truncated_turns += sample.truncated_turns
        self.tokens += len(sample.input_ids)
        self.trained_tokens += sum(span.end - span.start for span in sample.spans)
        for span in sample.spans:
            self.trained_turns[span.verdict] = self.trained_turns.get(span.verdict, 0) + 1


def tokenize(
    trajectory: Trajectory,
    tokenizer: Tokenizer,
    mask: MaskPolicy = "partial",
    max_length: int | None = None,
) -> Sample:
    """Token ids of a trajectory in the model's chat template, and a loss weight for each.

    Over ``max_length`` tokens, whole turns are left out, the oldest after the prompt first.
    Raises :class:`NothingToTrain` if no turn with a positive weight is left, and
    :class:`~step_ray.models.chat.TemplateError` if the tokenizer's template cannot be trained on.
    """
    weights = verdict_weights(mask)
    messages = to_messages(trajectory)
    if not any(weights[trajectory.turns[turn].verdict] for turn in _turns(messages)):
        raise NothingToTrain(f"trajectory {trajectory.id}: no turn has a weight in mask {mask!r}")
    kept, pieces = _fit(messages, tokenizer, max_length, trajectory.id)
    input_ids: list[int] = []
    loss_weights: list[float] = []
    spans: list[TrainedSpan] = []
    for piece in pieces:
        weight = 0.0
        start = len(input_ids)
        input_ids.extend(piece.ids)
        if piece.message is not None and piece.span is not None:
            turn = kept[piece.message].spans[piece.span].turn
            if turn is not None and piece.ids:
                verdict = trajectory.turns[turn].verdict
                weight = weights[verdict]
                if weight:
                    spans.append(TrainedSpan(start, len(input_ids), turn, verdict, piece.text))
        loss_weights.extend([weight] * len(piece.ids))
    if not spans:
        raise NothingToTrain(
            f"trajectory {trajectory.id}: no turn among its last that fit {max_length} tokens has a"
            f" weight in mask {mask!r}"
        )
    for span, said in zip(spans, _decode(input_ids, spans, tokenizer), strict=True):
        if said != span.text:
            raise Unfaithful(
                f"trajectory {trajectory.id}: the tokenizer writes turn {span.turn} as {said!r}"
                f" where {span.text!r} is meant"
            )
    truncated = len(_turns(messages)) - len(_turns(kept))
    return Sample(trajectory.id, input_ids, loss_weights, spans, truncated)


def tokenize_all(
    trajectories: Iterable[Trajectory],
    tokenizer: Tokenizer,
    mask: MaskPolicy = "partial",
    max_length: int | None = None,
    counts: Counts | None = None,
) -> Iterator[Sample]:
    """The samples of the trajectories that have something to train; ``counts`` is filled along."""
    counts = Counts() if counts is None else counts
    for trajectory in trajectories:
        try:
            sample = tokenize(trajectory, tokenizer, mask, max_length)
        except TooLong:
            counts.too_long += 1
        except Unfaithful:
            counts.unfaithful += 1
        except NothingToTrain:
            counts.nothing_to_train += 1
        else:
            counts.add(sample)
            yield sample


def decode_spans(sample: Sample, tokenizer: Tokenizer) -> list[str]:
    """What the trained tokens say, span by span: equal to the spans' ``text``."""
    return _decode(sample.input_ids, sample.spans, tokenizer)


def _decode(ids: list[int], spans: list[TrainedSpan], tokenizer: Tokenizer) -> list[str]:
    encoder = renderer(tokenizer).encoder
    # Some decoders drop a blank at the beginning of a text, so the span is not put there.
    lead = encoder.encode(["a"])[0]
    skip = len(encoder.decode(lead))
    return [encoder.decode([*lead, *ids[span.start : span.end]])[skip:] for span in spans]


def verdict_weights(mask: MaskPolicy) -> dict[Verdict, float]:
    """The weight of each verdict. Raises ``ValueError`` for an unknown policy or bad weights."""
    if isinstance(mask, str):
        if mask not in POLICIES:
            raise ValueError(f"unknown mask {mask!r}: choose {', '.join(POLICIES)}, or weights")
        return dict(POLICIES[mask])
    known: tuple[Verdict, ...] = get_args(Verdict)
    unknown = sorted(set(mask) - set(known))
    if unknown:
        raise ValueError(f"unknown verdicts {unknown} in the mask: choose from {list(known)}")
    weights = {verdict: float(mask.get(verdict, 0.0)) for verdict in known}
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights.values()):
        raise ValueError(f"weights of a mask are finite and at least 0, not {dict(mask)}")
    if not any(weights.values()):
        raise ValueError("all weights of the mask are 0: nothing would be trained")
    return weights


def _fit(
    messages: list[Message], tokenizer: Tokenizer, max_length: int | None, name: str
) -> tuple[list[Message], list[Piece]]:
    """The longest chat of the prompt and the last turns that fits, and its pieces."""
    while True:
        pieces = renderer(tokenizer).render(messages)
        over = sum(len(piece.ids) for piece in pieces) - (max_length or math.inf)
        if over <= 0:
            return messages, pieces
        first = _first_reply(messages)
        ends = [i for i in range(first + 1, len(messages)) if messages[i].role == "assistant"]
        if not ends:
            raise TooLong(
                f"trajectory {name}: its last turn does not fit {max_length} tokens with the prompt"
            )
        # What goes with a reply is all up to the next one: its observation and the template's text.
        for end in ends:
            over -= sum(len(piece.ids) for piece in _between(pieces, first, end))
            if over <= 0:
                break
        messages = messages[:first] + messages[end:]


def _between(pieces: list[Piece], first: int, end: int) -> list[Piece]:
    at = {piece.message: i for i, piece in reversed(list(enumerate(pieces)))}
    return pieces[at[first] : at[end]]


def _first_reply(messages: list[Message]) -> int:
    return next(i for i, message in enumerate(messages) if message.role == "assistant")


def _turns(messages: list[Message]) -> list[int]:
    return [span.turn for message in messages for span in message.spans if span.turn is not None]
