"""A teacher made of the environment's own judge and expert: no language model is needed.

It words its review from the hint. The phrasing varies with the request's key and is reproducible.
"""

from __future__ import annotations

from step_ray.teacher.base import (
    ReviewRequest,
    TeacherError,
    choice,
    one_line,
    sentence,
)
from step_ray.trajectory import Review

# {action}: the quoted action · {do}: as an infinitive · {did}: in the past tense.
# kind -> (after it was executed, before)
_ERRORS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "invalid": (
        ("I tried to {do}, but that is not possible now.", "My action {action} had no effect."),
        ("I want to {do}, but that is not possible now.", "The action {action} has no effect."),
    ),
    "loop": (
        ("I {did} although I knew the result.", "My action {action} brought nothing new."),
        ("I am about to {do} although I know the result.", "{action} brings nothing new."),
    ),
    "wrong_object": (
        ("I {did}, which is the wrong thing.", "My action {action} was about the wrong thing."),
        ("I am about to {do}, which is the wrong thing.", "{action} is about the wrong thing."),
    ),
    "wrong_query": (
        ("I {did}, which does not describe the thing.", "{action} was a search for another thing."),
        (
            "I am about to {do}, which does not describe the thing.",
            "{action} would search for another thing.",
        ),
    ),
    "wrong_option": (
        ("I {did}, and an option is not as the task asks.", "{action} was about a wrong option."),
        (
            "I am about to {do}, and an option is not as the task asks.",
            "{action} is about a wrong option.",
        ),
    ),
    "wrong_focus": (
        ("I {did}, which is not what to focus on.", "{action} focused on the wrong thing."),
        (
            "I am about to {do}, which is not what to focus on.",
            "{action} would focus on the wrong thing.",
        ),
    ),
    "harmful": (
        ("I {did}, which cannot be undone.", "My action {action} spoiled what I need."),
        ("I am about to {do}, which could not be undone.", "{action} would spoil what I need."),
    ),
    "misplaced": (
        ("I {did}, which was too early or the wrong place.", "{action} put it in a wrong place."),
        ("I am about to {do}, too early or in the wrong place.", "{action} would misplace it."),
    ),
    "undo": (
        ("I {did}, which works against the goal.", "My action {action} was a step backwards."),
        (
            "I am about to {do}, which is a step backwards.",
            "{action} would be a step backwards.",
        ),
    ),
    "detour": (
        ("I {did}, which does not bring me closer.", "My action {action} was a detour."),
        ("I am about to {do}, which does not bring me closer.", "{action} would be a detour."),
    ),
}
_ANY_ERROR = (
    ("I {did}, which was a mistake.", "My action {action} was a mistake."),
    ("I am about to {do}, which is a mistake.", "The action {action} would be a mistake."),
)
_REFLECTIONS: dict[str, tuple[str, ...]] = {
    "invalid": (
        "I have to check where I am and what I hold before I act; I should {fix}.",
        "An action works only when its conditions are met, so the right step is to {fix}.",
        "I should look at the last observation again: what I can do is {fix}.",
    ),
    "loop": (
        "I must not repeat what is known; I should {fix} now.",
        "Something new is needed, so the better step is to {fix}.",
    ),
    "wrong_object": (
        "I should keep the task in mind and {fix} now.",
        "Only what the task names counts, so the right step is to {fix}.",
    ),
    "wrong_query": (
        "I should search with the words of the task, so the better step is to {fix}.",
        "The words have to describe what I want; I should {fix}.",
    ),
    "wrong_option": (
        "I should compare every option with the task, so the right step is to {fix}.",
        "Before I buy, each option has to be what the task names; I should {fix}.",
    ),
    "wrong_focus": (
        "I may focus only on what the task asks for, when it asks for it; I should {fix}.",
        "Focusing is a final answer, so I should be sure first and {fix}.",
    ),
    "harmful": (
        "I should think of what I still need before I act, and {fix}.",
        "What cannot be undone needs care; the right step is to {fix}.",
    ),
    "misplaced": (
        "The order and the place matter, so I should {fix}.",
        "I should think of the goal before I put anything down: the right step is to {fix}.",
    ),
    "undo": (
        "I must keep what is achieved, so I should {fix}.",
        "I should not work against the goal but {fix}.",
    ),
    "detour": (
        "I should use what I know and {fix}.",
        "The shortest way to the goal is to {fix}.",
    ),
}
_ANY_REFLECTION = ("I should {fix} now.", "The better step is to {fix}.")


class ExpertTeacher:
    """Words the environment's judgement as a review."""

    def __init__(self) -> None:
        self.fingerprint = "expert"
        self.prompt_version = "1"

    async def review(self, request: ReviewRequest) -> Review:
        """The review that the hint implies. Raises TeacherError without a usable hint."""
        hint = request.hint
        if hint is None:
            raise TeacherError(
                "the expert teacher needs the environment's judgement and got none; "
                "use an LLM teacher for an environment without a judge"
            )
        judgement = hint.judgement
        if not judgement.is_error:
            return Review(is_error=False)
        if not hint.expert_action:
            raise TeacherError(f"the environment's expert has no turn here (key {request.key})")
        facts = dict(judgement.facts)
        words = {
            "action": f'"{one_line(request.action)[:80]}"',
            "do": facts.get("do", ""),
            "did": facts.get("did", ""),
            "fix": hint.expert_action,
        }
        kind, key = judgement.kind, request.key
        errors = _ERRORS.get(kind, _ANY_ERROR)[0 if request.executed else 1]
        if not (words["do"] and words["did"]):  # no infinitive: quote the action
            errors = tuple(text for text in errors if "{action}" in text)
        reflections = _REFLECTIONS.get(kind, _ANY_REFLECTION)
        return Review(
            is_error=True,
            kind=kind,
            error=errors[choice(f"{key}|error", len(errors))].format_map(words),
            reason=sentence(facts.get("why", "")),
            reflection=reflections[choice(f"{key}|reflection", len(reflections))].format_map(words),
            thought=hint.expert_thought,
            action=hint.expert_action,
        )
