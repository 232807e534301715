"""How good a teacher is: its judgements against the expert's, on turns that students really took.

The recorded episodes are played again, and before every turn of the student the teacher is asked as
it would have been then. This is the check that STeP makes with teachers of two sizes, for any.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from step_ray.envs.base import EnvError, Task, TextEnv
from step_ray.teacher.base import Hint, ReviewRequest, Teacher, TeacherError, one_line
from step_ray.trajectory import Trajectory, Turn


@dataclass(frozen=True, slots=True)
class TurnScore:
    """One turn of a student: what the environment's judge and expert say of it, and the teacher.

    ``said`` is None if the teacher gave no review. ``valid`` and ``progress`` are about the
    teacher's correction, tried in a copy of the world: whether it is a valid action, and whether
    the judge finds no error in it; None if there is none.
    """

    is_error: bool
    kind: str
    expert_action: str
    said: bool | None
    action: str = ""
    valid: bool | None = None
    progress: bool | None = None


async def score(
    trajectories: Sequence[Trajectory],
    make: Callable[[], TextEnv],
    teacher: Teacher,
    *,
    at_once: int = 16,
    on_episode: Callable[[list[TurnScore]], None] = lambda scores: None,
) -> list[TurnScore]:
    """Scores every turn of a student in ``trajectories``, of ``at_once`` episodes side by side.

    ``make`` makes an environment with their tasks. Raises EnvError if an episode does not go as it
    is recorded.
    """
    envs: list[TextEnv] = []
    slots = asyncio.Semaphore(at_once)
    scores: list[TurnScore] = []

    async def one(trajectory: Trajectory) -> None:
        async with slots:
            env = envs.pop() if envs else make()
            made = await _score_episode(trajectory, env, teacher)
            envs.append(env)
        scores.extend(made)
        on_episode(made)

    try:
        async with asyncio.TaskGroup() as group:
            for trajectory in trajectories:
                group.create_task(one(trajectory))
    except* EnvError as failed:
        raise failed.exceptions[0] from None
    finally:
        for env in envs:
            env.close()
    return scores


async def _score_episode(trajectory: Trajectory, env: TextEnv, teacher: Teacher) -> list[TurnScore]:
    task = Task(trajectory.task, trajectory.env, trajectory.split, trajectory.task_type)
    first = env.reset(task, trajectory.provenance.seed)
    if first.text != trajectory.initial_observation:
        raise EnvError(f"trajectory {trajectory.id} begins differently; use the run's own data")
    scores = []
    for number, turn in enumerate(trajectory.turns):
        if turn.author == "student":
            request = _request(trajectory, number, env, teacher)
            scores.append(await _score_turn(request, env, teacher))
        if turn.executed and env.step(turn.action).observation != turn.observation:
            raise EnvError(
                f"trajectory {trajectory.id}, turn {number + 1}: {turn.action!r} has another "
                "result than recorded; use the data and version that the run was made with"
            )
    return scores


def _request(trajectory: Trajectory, number: int, env: TextEnv, teacher: Teacher) -> ReviewRequest:
    turn = trajectory.turns[number]
    expert = env.expert() or Turn("", "")
    shown = tuple(env.admissible()) if getattr(teacher, "show_admissible", False) else None
    return ReviewRequest(
        instruction=trajectory.instruction,
        initial_observation=trajectory.initial_observation,
        turns=trajectory.turns[:number],
        thought=turn.thought,
        action=turn.action,
        hint=Hint(env.judge(turn.action), expert.thought, expert.action),
        key=f"{trajectory.id}:{number}",
        admissible=shown,
    )


async def _score_turn(request: ReviewRequest, env: TextEnv, teacher: Teacher) -> TurnScore:
    assert request.hint is not None
    truth, expert_action = request.hint.judgement, request.hint.expert_action
    try:
        review = await teacher.review(request)
    except TeacherError:
        return TurnScore(truth.is_error, truth.kind, expert_action, None)
    action = one_line(review.action)
    valid = progress = None
    if review.is_error and action:
        child = env.fork()
        valid = child.step(action).valid
        child.close()
        progress = valid and not env.judge(action).is_error
    return TurnScore(
        truth.is_error, truth.kind, expert_action, review.is_error, action, valid, progress
    )


def summary(scores: Sequence[TurnScore]) -> dict[str, Any]:
    """Counts and shares; a share of nothing is None.

    ``precision`` and ``recall`` are those of finding errors; ``agreement`` is the share of the
    expert's own action among corrections of real errors; ``valid`` and ``progress`` are shares of
    all corrections.
    """
    judged = [one for one in scores if one.said is not None]
    cells = Counter((one.is_error, one.said) for one in judged)
    true_positives, false_negatives = cells[True, True], cells[True, False]
    false_positives, true_negatives = cells[False, True], cells[False, False]
    corrections = [one for one in judged if one.valid is not None]
    of_errors = [one for one in corrections if one.is_error]
    same = sum(one.action.casefold() == one.expert_action.casefold() for one in of_errors)
    kinds: dict[str, list[bool]] = {}
    for one in judged:
        if one.is_error:
            kinds.setdefault(one.kind, []).append(bool(one.said))
    return {
        "turns": len(scores),
        "no_review": len(scores) - len(judged),
        "true_positives": true_positives,
        "false_positives": false_positives,
        "false_negatives": false_negatives,
        "true_negatives": true_negatives,
        "precision": _share(true_positives, true_positives + false_positives),
        "recall": _share(true_positives, true_positives + false_negatives),
        "accuracy": _share(true_positives + true_negatives, len(judged)),
        "corrections": len(corrections),
        "agreement": _share(same, len(of_errors)),
        "valid": _share(sum(bool(one.valid) for one in corrections), len(corrections)),
        "progress": _share(sum(bool(one.progress) for one in corrections), len(corrections)),
        "recall_by_kind": {
            kind: {"errors": len(found), "recall": _share(sum(found), len(found))}
            for kind, found in sorted(kinds.items())
        },
    }


def as_text(found: Mapping[str, Any]) -> str:
    """A summary as a table for a person."""
    lines = [
        f"turns {found['turns']}, without a review {found['no_review']}",
        f"{'':18}{'said error':>12}{'said right':>12}",
        f"{'expert: error':18}{found['true_positives']:>12}{found['false_negatives']:>12}",
        f"{'expert: right':18}{found['false_positives']:>12}{found['true_negatives']:>12}",
        "",
    ]
    for name, what in (
        ("precision", "of what it called errors are errors"),
        ("recall", "of the errors are found"),
        ("accuracy", "of the turns are judged as by the expert"),
        ("agreement", "of its corrections of errors are the expert's"),
        ("valid", f"of its {found['corrections']} corrections are valid actions"),
        ("progress", "of its corrections are no errors themselves"),
    ):
        lines.append(f"{name:12}{_percent(found[name]):>8}  {what}")
    for kind, row in found["recall_by_kind"].items():
        lines.append(f"  {kind:16}{_percent(row['recall']):>8}  of {row['errors']} found")
    return "\n".join(lines)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
