"""What a teacher is: it reviews one proposed turn and, if that is an error, corrects it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal, Protocol

from step_ray.envs.base import Judgement
from step_ray.trajectory import Review, Turn

CorrectionStyle = Literal["full", "brief", "bare"]


class TeacherError(RuntimeError):
    """No review could be obtained; says why. The episode ends as ``teacher_error``."""


class TeacherUnavailable(TeacherError):  # noqa: N818 - a state of a teacher
    """The teacher's model is gone (:class:`~step_ray.models.base.ModelUnavailable`)."""


@dataclass(frozen=True, slots=True)
class Hint:
    """Privileged: what the environment says of the proposed turn, and its expert's own turn."""

    judgement: Judgement
    expert_thought: str
    expert_action: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A review whose correction is not a valid action, and what the environment says to that."""

    review: Review
    answer: str


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """Everything a teacher sees. ``key`` (episode id and turn index) seeds the wording.

    ``executed``: the proposed turn was executed already, as an error; it is the last of ``turns``.
    ``verdict_only``: an error will be executed and asked about again, so that a correction is of no
    use yet. ``admissible`` are the possible actions, for a teacher that wants to know them.
    ``refused`` is this teacher's own first try to correct the turn. ``settled``: the correction is
    what the hint's expert does, and only its words are asked for (STeCa).
    """

    instruction: str
    initial_observation: str
    turns: tuple[Turn, ...]
    thought: str
    action: str
    hint: Hint | None
    key: str
    executed: bool = False
    verdict_only: bool = False
    admissible: tuple[str, ...] | None = None
    refused: Refusal | None = None
    settled: bool = False


class Teacher(Protocol):
    """``fingerprint`` and ``prompt_version`` go into the provenance of every trajectory.

    It may say ``show_admissible = True``: then its requests hold the possible actions.
    """

    fingerprint: str
    prompt_version: str

    async def review(self, request: ReviewRequest) -> Review:
        """Judges a proposed turn. Raises :class:`TeacherError` if it cannot."""
        ...


# The opening clause of a brief correction: kind -> (after the error was executed, before).
_OPENINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "invalid": (
        (
            "Nothing happened, because {why}.",
            "That did not work: {why}.",
            "I failed, because {why}.",
        ),
        ("That cannot work, because {why}.", "Wait, {why}.", "Nothing would happen: {why}."),
    ),
    "loop": (
        ("That brought nothing new: {why}.", "I am repeating myself: {why}."),
        ("That would bring nothing new: {why}.", "I would be repeating myself: {why}."),
    ),
    "wrong_object": (
        ("That was the wrong thing: {why}.", "I chose the wrong thing, because {why}."),
        ("That is the wrong thing: {why}.", "Wait, that would not help: {why}."),
    ),
    "wrong_query": (
        ("That search was not about the right thing: {why}.", "I searched badly, because {why}."),
        ("That search is not about the right thing: {why}.", "Those are the wrong words: {why}."),
    ),
    "wrong_option": (
        ("I chose the wrong option: {why}.", "That option was not the one: {why}."),
        ("That option is not the one: {why}.", "Wait, the options are not right: {why}."),
    ),
    "wrong_focus": (
        ("I focused on the wrong thing: {why}.", "That was not what to focus on: {why}."),
        ("That is not what to focus on: {why}.", "Wait, I must not focus on that: {why}."),
    ),
    "harmful": (
        ("I spoiled something that I need: {why}.", "That cannot be made good again: {why}."),
        ("That could not be made good again: {why}.", "Wait, that would spoil the task: {why}."),
    ),
    "misplaced": (
        ("I should not have put it there: {why}.", "That was the wrong place or time: {why}."),
        ("I should not put it there: {why}.", "That is the wrong place or time: {why}."),
    ),
    "undo": (
        ("I undid what I need: {why}.", "That was a step backwards: {why}."),
        ("That would undo what I need: {why}.", "That would be a step backwards: {why}."),
    ),
    "detour": (
        ("That was a detour: {why}.", "That did not help me: {why}."),
        ("That would be a detour: {why}.", "That would not help me: {why}."),
    ),
}
_ANY_OPENING = (
    ("That was a mistake: {why}.", "I made a mistake: {why}."),
    ("That would be a mistake: {why}.", "Wait, that is a mistake: {why}."),
)


def correction_thought(
    review: Review, *, style: CorrectionStyle = "brief", executed: bool = True, key: str = ""
) -> str:
    """How the thought of the turn that corrects an error reads.

    ``full``: error, reason, reflection, corrected thought. ``brief``: one clause that names the
    concrete mistake, then the corrected thought. ``bare``: the corrected thought alone.
    ``executed`` says whether the error was carried out before (past tense) or vetoed. ``key``
    varies the wording.
    """
    thought = one_line(review.thought)
    if style == "bare":
        return thought
    if style == "full":
        parts = (review.error, review.reason, review.reflection)
        return " ".join(sentence(part) for part in (*parts, thought) if part.strip())
    why = clause(review.reason or review.error)
    if not why:
        return thought
    openings = _OPENINGS.get(review.kind, _ANY_OPENING)[0 if executed else 1]
    opening = openings[choice(f"{key}|{review.reason}|{review.thought}", len(openings))]
    # The thought often opens with the very fact that makes the reason: say it once.
    rest = thought.removeprefix(sentence(why)).strip() or thought
    return f"{opening.format(why=why)} {rest}".strip()


def one_line(text: str) -> str:
    """The text without line breaks and double blanks."""
    return " ".join(text.split())


def sentence(text: str) -> str:
    """On one line, with a capital at the start and a full stop at the end."""
    text = one_line(text)
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def clause(text: str) -> str:
    """The first sentence of a text as a subordinate clause: small initial, no full stop."""
    text = one_line(text).split(". ")[0].rstrip(".!? ")
    first = text.split(" ", 1)[0]
    if first == "I" or first.startswith("I'") or first[1:] != first[1:].lower():
        return text
    return text[:1].lower() + text[1:]


def choice(key: str, size: int) -> int:
    """A reproducible pick of one of ``size`` phrasings."""
    return zlib.crc32(key.encode()) % size
