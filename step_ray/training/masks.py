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

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from step_ray.models.chat import Piece, renderer
from step_ray.models.encoding import Tokenizer
from step_ray.react import Message, to_messages
from step_ray.trajectory import Trajectory, Verdict

MaskName = Literal["partial", "none", "corrections_only"]
MaskPolicy = MaskName | Mapping[Verdict, float]
"""How verdicts become weights: a name, or a weight >= 0 for each verdict (0 if left out)."""

VERSION = 2
"""Raised when the same trajectory gets other ids or weights than before."""

Overlong = Literal["truncate", "drop"]
"""What becomes of a trajectory that is too long: whole turns are left out, or all of it."""

POLICIES: dict[str, dict[Verdict, float]] = {
    "partial": {"correct": 1.0, "error": 0.0, "correction": 1.0},
    "none": {"correct": 1.0, "error": 1.0, "correction": 1.0},
    "corrections_only": {"correct": 0.0, "error": 0.0, "correction": 1.0},
}


class NothingToTrain(ValueError):  # noqa: N818 - a property of a trajectory, not a defect
    """A trajectory none of whose turns would be trained; says why."""


class TooLong(NothingToTrain):
    """Not even the last turn of a trajectory fits the length with its prompt, or it is a correction
    without its error."""


class Worthless(NothingToTrain):
    """The weights given for a trajectory's turns, or its reward, leave nothing to train."""


class Unfaithful(NothingToTrain):
    """The tokenizer has no tokens for what a trained turn says: unknown characters, most often."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """A trajectory with a weight >= 0 for each of its turns (a reward or advantage of each step).

    It is multiplied with the weight of the turn's verdict. As a loss is divided by the sum of all
    weights of its step, only their ratios matter.
    """

    trajectory: Trajectory
    weights: tuple[float, ...]


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
class MaskedSpan:
    """Tokens ``start`` to ``end`` (exclusive) of a turn that is not trained, only watched."""

    start: int
    end: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Sample:
    """One trajectory as it is trained: ``loss_weights[i]`` weighs the prediction of token i.

    ``spans`` are the turns with a positive weight, in order; ``masked`` those without one.
    ``truncated_turns`` are missing from the beginning.
    """

    id: str
    input_ids: list[int]
    loss_weights: list[float]
    spans: list[TrainedSpan]
    truncated_turns: int = 0
    masked: list[MaskedSpan] = field(default_factory=list)


@dataclass(slots=True)
class Counts:
    """What became of trajectories on their way to samples, and of their turns and tokens.

    ``worthless`` ones have weights of 0 in every turn that the mask would train.
    """

    samples: int = 0
    nothing_to_train: int = 0
    too_long: int = 0
    worthless: int = 0
    unfaithful: int = 0
    truncated: int = 0
    truncated_turns: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    trained_turns: dict[str, int] = field(default_factory=dict)

    @contextlib.contextmanager
    def refusals(self) -> Iterator[None]:
        """Counts what the block refuses to make a sample of."""
        try:
            yield
        except TooLong:
            self.too_long += 1
        except Worthless:
            self.worthless += 1
        except Unfaithful:
            self.unfaithful += 1
        except NothingToTrain:
            self.nothing_to_train += 1

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
    overlong: Overlong = "truncate",
    turn_weights: Sequence[float] | None = None,
) -> Sample:
    """Token ids of a trajectory in the model's chat template, and a loss weight for each.

    Over ``max_length`` tokens, whole turns are left out, the oldest after the prompt first (and
    corrections whose errors were), or the trajectory is refused as :class:`TooLong`.
    ``turn_weights``, one for each turn, are multiplied with the weights of the turns' verdicts.
    Raises :class:`NothingToTrain` if no turn with a positive weight is left, and
    :class:`~step_ray.models.chat.TemplateError` if the tokenizer's template cannot be trained on.
    """
    by_verdict = verdict_weights(mask)
    weights = [by_verdict[turn.verdict] for turn in trajectory.turns]
    messages = to_messages(trajectory)
    if not any(weights[turn] for turn in _turns(messages)):
        raise NothingToTrain(f"trajectory {trajectory.id}: no turn has a weight in mask {mask!r}")
    if turn_weights is not None:
        weights = _times(weights, turn_weights, trajectory.id)
        if not any(weights[turn] for turn in _turns(messages)):
            raise Worthless(f"trajectory {trajectory.id}: its weights leave nothing to train")
    kept, pieces = _fit(messages, tokenizer, max_length, trajectory, overlong)
    input_ids: list[int] = []
    loss_weights: list[float] = []
    spans: list[TrainedSpan] = []
    masked: list[MaskedSpan] = []
    for piece in pieces:
        weight = 0.0
        start = len(input_ids)
        input_ids.extend(piece.ids)
        if piece.message is not None and piece.span is not None:
            turn = kept[piece.message].spans[piece.span].turn
            if turn is not None and piece.ids:
                verdict = trajectory.turns[turn].verdict
                weight = weights[turn]
                if weight:
                    spans.append(TrainedSpan(start, len(input_ids), turn, verdict, piece.text))
                else:
                    masked.append(MaskedSpan(start, len(input_ids), verdict))
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
    return Sample(trajectory.id, input_ids, loss_weights, spans, truncated, masked)


def tokenize_all(
    trajectories: Iterable[Trajectory | Weighted],
    tokenizer: Tokenizer,
    mask: MaskPolicy = "partial",
    max_length: int | None = None,
    counts: Counts | None = None,
    overlong: Overlong = "truncate",
    by_reward: bool = False,
) -> Iterator[Sample]:
    """The samples of the trajectories that have something to train; ``counts`` is filled along.

    ``by_reward`` weighs the turns of a trajectory that comes without weights by its reward.
    """
    counts = Counts() if counts is None else counts
    for given in trajectories:
        weights: Sequence[float] | None = None
        if isinstance(given, Weighted):
            trajectory, weights = given.trajectory, given.weights
        else:
            trajectory = given
            if by_reward:
                weights = [trajectory.reward] * len(trajectory.turns)
        with counts.refusals():
            sample = tokenize(trajectory, tokenizer, mask, max_length, overlong, weights)
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


def _times(weights: list[float], factors: Sequence[float], name: str) -> list[float]:
    if len(factors) != len(weights):
        raise ValueError(
            f"trajectory {name}: {len(factors)} weights for {len(weights)} turns; give one each"
        )
    if not all(math.isfinite(factor) and factor >= 0 for factor in factors):
        raise ValueError(f"trajectory {name}: weights of turns are finite and at least 0")
    return [weight * factor for weight, factor in zip(weights, factors, strict=True)]


def _fit(
    messages: list[Message],
    tokenizer: Tokenizer,
    max_length: int | None,
    trajectory: Trajectory,
    overlong: Overlong,
) -> tuple[list[Message], list[Piece]]:
    """The longest chat of the prompt and the last turns that fits, and its pieces. If turns are
    left out, the first one kept is no correction: its error would be out of sight."""
    while True:
        pieces = renderer(tokenizer).render(messages)
        over = sum(len(piece.ids) for piece in pieces) - (max_length or math.inf)
        if over <= 0:
            return messages, pieces
        if overlong == "drop":
            raise TooLong(
                f"trajectory {trajectory.id}: it has {over} tokens more than {max_length}"
            )
        first = _first_reply(messages)
        ends = [
            i
            for i in range(first + 1, len(messages))
            if messages[i].role == "assistant" and not _corrects(messages[i], trajectory)
        ]
        if not ends:
            raise TooLong(
                f"trajectory {trajectory.id}: its last turn, with its error if it is a correction,"
                f" does not fit {max_length} tokens with the prompt"
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


def _corrects(message: Message, trajectory: Trajectory) -> bool:
    """Whether a reply begins with a correction: of an error that is not in it."""
    turn = message.spans[0].turn
    return turn is not None and trajectory.turns[turn].verdict == "correction"


def _first_reply(messages: list[Message]) -> int:
    return next(i for i, message in enumerate(messages) if message.role == "assistant")


def _turns(messages: list[Message]) -> list[int]:
    return [span.turn for message in messages for span in message.spans if span.turn is not None]
