"""One monitored episode: the student proposes, the teacher reviews, the world answers.

This is STeP's synthesis step (paper, stage 2). Without a teacher the same loop is a plain
roll-out, as evaluation and exploration need it. Pure asyncio: a worker interleaves many episodes,
and every wait has a deadline. The environment lives in a thread of its own, so that a hung engine
costs its own episode only.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from step_ray._version import __version__
from step_ray.config_deadlines import Deadlines
from step_ray.envs.base import Build, EnvError, Judgement, Observation, StepResult, Task, TextEnv
from step_ray.models.base import ChatModel, ModelError, ModelUnavailable, Sampling
from step_ray.models.traffic import Traffic
from step_ray.react import ReplyError, messages_of, neutralise_model_text, parse_reply
from step_ray.synthesis.beginning import Beginning, Beginnings
from step_ray.synthesis.calibrate import DEVIATED
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.threads import CallThread
from step_ray.teacher.base import (
    Hint,
    Refusal,
    ReviewRequest,
    Teacher,
    TeacherError,
    TeacherUnavailable,
    correction_thought,
    one_line,
)
from step_ray.trajectory import Outcome, Review, Trajectory, Turn

T = TypeVar("T")
Phase = Literal["env", "student", "teacher"]


@dataclass(slots=True)
class EpisodeResult:
    """A trajectory, where its wall time went (seconds by phase), and whether its environment
    hung or failed: then it must not be used again, and is closed as soon as it answers.
    ``student`` is what its student was asked. ``disturbed``: it was ended by what its spec says
    nothing of, a model that was gone or too late, an engine that failed, a deadline; played again,
    it may end otherwise."""

    trajectory: Trajectory
    seconds: dict[Phase, float]
    env_lost: bool
    student: Traffic
    disturbed: bool


class _Stop(Exception):  # noqa: N818 - an outcome, not a defect
    """Ends the episode with an outcome that is not the world's."""

    def __init__(self, outcome: Outcome, detail: str, disturbed: bool = False) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail
        self.disturbed = disturbed


class _TooLate(Exception):  # noqa: N818
    """A deadline has passed."""


@dataclass(slots=True)
class _Episode:
    spec: EpisodeSpec
    env: TextEnv
    task: Task
    student: ChatModel | None
    teacher: Teacher | None
    sampling: Sampling
    deadlines: Deadlines
    thread: CallThread
    beginnings: Beginnings
    first: Observation = field(default_factory=lambda: Observation("", ""))
    build: Build = field(default_factory=lambda: Build("", "", ""))
    turns: list[Turn] = field(default_factory=list)
    chat: list[dict[str, str]] = field(default_factory=list)  # what the student was shown
    told: int = 0  # number of turns that are in the chat
    seconds: dict[Phase, float] = field(
        default_factory=lambda: {"env": 0.0, "student": 0.0, "teacher": 0.0}
    )
    asked: Traffic = field(default_factory=Traffic)
    reward: float = 0.0
    ended: bool = False
    env_lost: bool = False
    inline: bool = False  # whether the environment is called without its thread

    async def play(self) -> None:
        """Turns until the world ends, a budget is spent, or something stops the episode."""
        await self._begin()
        if self.spec.then != "student":
            assert self.teacher is not None, "a calibration has a teacher"
            await self._calibrate(self.teacher)
            return
        while not self.ended and self._steps() < self.spec.max_steps:
            thought, action = await self._propose()
            proposed = Turn(thought, action)
            if self.teacher is None:
                await self._execute(await self._judged(proposed) if self.spec.judged else proposed)
                continue
            hint = await self._hint(action)
            review = await self._review(self.teacher, proposed, hint)
            if not review.is_error:
                await self._execute(proposed)
                continue
            if sum(turn.verdict == "error" for turn in self.turns) >= self.spec.abort_errors:
                raise _Stop("error_limit", f"error number {self.spec.abort_errors + 1}")
            await self._err_and_correct(self.teacher, proposed, review, hint)

    async def _begin(self) -> None:
        begun = await self._world(self._start, self.deadlines.reset, "reset")
        self.env, self.first, self.build = begun.env, begun.first, begun.build
        self.turns = list(begun.turns)
        self.reward, self.ended = begun.reward, begun.ended
        self.inline = bool(getattr(self.env, "inline", False))

    async def _calibrate(self, teacher: Teacher) -> None:
        """The prefix's last turn is a deviation (STeCa, eq. 6): it is executed, the teacher words
        the thought that leads to the expert's next action, and the expert goes on."""
        author, thought, action = self.spec.prefix[-1]
        proposed = Turn(thought, action, author=author)
        judgement = (await self._hint(action)).judgement
        if not judgement.is_error:
            judgement = DEVIATED
        await self._execute(replace(proposed, verdict="error"))
        if self.ended:
            return
        hint = await self._hint(action, judgement)
        pasted = self.spec.suffix
        if pasted:
            hint = Hint(judgement, pasted[0][0], pasted[0][1])
        if not hint.expert_action:
            raise _Stop("teacher_error", "the expert has no turn after the deviation")
        review = await self._review(teacher, proposed, hint, executed=True, settled=True)
        if not review.is_error:
            raise _Stop("teacher_error", "the teacher finds no error in the deviation")
        review = replace(review, action=hint.expert_action)  # STeCa: the expert's own, always
        self.turns[-1] = replace(self.turns[-1], review=review)
        correction = self._correction(review, executed=True)
        if self.spec.then == "paste":
            self._paste(correction)
            return
        await self._execute(correction)
        while not self.ended and self._steps() < self.spec.max_steps:
            turn = await self._world(self.env.expert, self.deadlines.step, "the expert")
            if turn is None:
                return
            await self._execute(replace(turn, author="expert"))

    def _paste(self, correction: Turn) -> None:
        """The expert's way on as it was recorded, whatever the state is: nothing is executed."""
        for number, (thought, action, observation, reward) in enumerate(self.spec.suffix):
            turn = Turn(thought, action, author="expert") if number else correction
            self.turns.append(replace(turn, observation=observation, reward=reward))
            self.reward = reward
        self.ended = True

    async def _judged(self, proposed: Turn) -> Turn:
        """The turn with the verdict of the environment's judge, of which the student learns
        nothing."""
        judge = functools.partial(self.env.judge, proposed.action)
        found = await self._world(judge, self.deadlines.step, "judging")
        if not found.is_error:
            return proposed
        review = Review(True, found.kind, reason=dict(found.facts).get("why", ""))
        return replace(proposed, verdict="error", review=review)

    async def _err_and_correct(
        self, teacher: Teacher, proposed: Turn, review: Review, hint: Hint
    ) -> None:
        """The error becomes a turn of its own; the next turn is the teacher's."""
        error = replace(proposed, verdict="error", review=review)
        veto = self._vetoes(hint)
        if veto:
            self.turns.append(replace(error, executed=False))
        else:
            await self._execute(error)
            if self.ended or self._steps() >= self.spec.max_steps:
                return
            # The world may have changed: the correction must start from the state that is.
            hint = await self._hint(proposed.action, hint.judgement)
            review = await self._review(teacher, proposed, hint, executed=True)
            if not review.is_error:
                raise _Stop("teacher_error", "no error any more once the turn was executed")
        review = await self._possible(teacher, proposed, hint, review, executed=not veto)
        self.turns[-1] = replace(self.turns[-1], review=review)
        result = await self._execute(self._correction(review, executed=not veto))
        if not result.valid:
            raise _Stop("teacher_error", _not_valid(review))

    def _correction(self, review: Review, executed: bool) -> Turn:
        """The turn of the teacher's that answers an error which was ``executed``, or vetoed."""
        key = f"{self.spec.id}:{len(self.turns)}"
        thought = correction_thought(review, style=self.spec.style, executed=executed, key=key)
        return Turn(
            neutralise_model_text(thought),
            neutralise_model_text(one_line(review.action)),
            author="teacher",
            verdict="correction",
            review=review,
        )

    def _vetoes(self, hint: Hint) -> bool:
        """Whether an error is not executed."""
        return self.spec.on_error == "veto" or hint.judgement.irreversible

    async def _possible(
        self, teacher: Teacher, proposed: Turn, hint: Hint, review: Review, executed: bool
    ) -> Review:
        """The review, if its correction is valid in a copy of the world; else the one that the
        teacher gives when told so. What the world's own expert would do needs no trial."""
        for again in (True, False):
            if review.action == hint.expert_action:
                break
            action = neutralise_model_text(one_line(review.action))
            trial = functools.partial(_try, self.env, action)
            tried = await self._world(trial, self.deadlines.step, "a trial")
            if tried.valid:
                break
            if not again:
                raise _Stop("teacher_error", _not_valid(review))
            refusal = Refusal(review, tried.observation)
            review = await self._review(teacher, proposed, hint, executed, refusal)
            if not review.is_error:
                raise _Stop("teacher_error", "no error any more once it was asked again")
        return review

    async def _propose(self) -> tuple[str, str]:
        """The student's next (thought, action); a reply without a whole action proposes the
        empty one, which no environment accepts."""
        # The last turn was executed, so what the new ones add to the chat is complete.
        news = messages_of(self.first.instruction, self.first.text, self.turns[self.told :])
        self.chat += [message.as_dict() for message in news[bool(self.chat) :]]
        self.told = len(self.turns)
        sampling = replace(self.sampling, seed=self.spec.turn_seed(len(self.turns)))
        assert self.student is not None, "an episode in which a student goes on has one"
        asked = self.student.chat(list(self.chat), sampling)
        reply = await self._ask("student", asked, self.deadlines.student)
        self.asked = self.asked.and_reply(reply)
        try:
            return parse_reply(reply.text, cut=reply.finish_reason == "length")
        except ReplyError as missing:
            return missing.thought, ""

    async def _review(
        self,
        teacher: Teacher,
        proposed: Turn,
        hint: Hint,
        executed: bool = False,
        refused: Refusal | None = None,
        settled: bool = False,
    ) -> Review:
        """The teacher's review of a proposed turn, or of one just ``executed`` in error."""
        admissible = None
        if getattr(teacher, "show_admissible", False):
            found = await self._world(
                self.env.admissible, self.deadlines.step, "listing possible actions"
            )
            admissible = tuple(found)
        request = ReviewRequest(
            instruction=self.first.instruction,
            initial_observation=self.first.text,
            turns=tuple(self.turns),
            thought=proposed.thought,
            action=proposed.action,
            hint=hint,
            key=f"{self.spec.id}:{len(self.turns)}",
            executed=executed,
            verdict_only=not (executed or self._vetoes(hint)),
            admissible=admissible,
            refused=refused,
            settled=settled,
        )
        return await self._ask("teacher", teacher.review(request), self.deadlines.review)

    async def _hint(self, action: str, judgement: Judgement | None = None) -> Hint:
        """The expert's turn in the present state. ``judgement`` is that of an action executed by
        now: it was made before, and the state is another."""

        def look() -> Hint:
            expert = self.env.expert()
            words = (expert.thought, expert.action) if expert else ("", "")
            return Hint(judgement or self.env.judge(action), *words)

        return await self._world(look, self.deadlines.step, "judging")

    async def _execute(self, turn: Turn) -> StepResult:
        def step() -> tuple[StepResult, float]:
            start = time.perf_counter()
            return self.env.step(turn.action), time.perf_counter() - start

        what = f"step {turn.action!r}"
        result, seconds = await self._world(step, self.deadlines.step, what)
        self.turns.append(
            replace(
                turn,
                observation=result.observation,
                valid=result.valid,
                reward=result.reward,
                seconds=seconds,
            )
        )
        self.reward = result.reward
        self.ended = result.terminated or result.truncated
        return result

    def _start(self) -> Beginning:
        # A deviation that is to be calibrated is judged before it is executed.
        known = self.spec.prefix if self.spec.then == "student" else self.spec.prefix[:-1]
        return self.beginnings.begin(self.env, self.task, self.spec.seed, known)

    async def _world(self, call: Callable[[], T], deadline: float, what: str) -> T:
        """Makes a call of the environment; after one that hangs or fails it is lost."""
        if self.inline:
            await asyncio.sleep(0)  # others' turn, and time for deadlines to strike
        self.env_lost = True
        try:
            if self.inline:
                result = self._at_once(call, deadline)
            else:
                result = await self._timed("env", self.thread.call(call), deadline)
        except _TooLate as late:
            raise _Stop("env_timeout", f"{what} took over {deadline:g} s", True) from late
        except EnvError as failed:
            raise _Stop("env_error", f"{what}: {failed}", True) from failed
        except Exception as failed:  # engines are others' code and raise anything
            raise _Stop("env_error", f"{what}: {type(failed).__name__}: {failed}", True) from failed
        self.env_lost = False
        return result

    def _at_once(self, call: Callable[[], T], deadline: float) -> T:
        """On this thread, where nothing can end it: a call that was too slow is found out."""
        start = time.perf_counter()
        try:
            result = call()
        finally:
            took = time.perf_counter() - start
            self.seconds["env"] += took
        if took > deadline:
            raise _TooLate
        return result

    async def _ask(
        self, who: Literal["student", "teacher"], answer: Awaitable[T], deadline: float
    ) -> T:
        outcome: Outcome = "student_error" if who == "student" else "teacher_error"
        try:
            return await self._timed(who, answer, deadline)
        except _TooLate as late:
            raise _Stop(outcome, f"no answer in {deadline:g} s", True) from late
        except (ModelError, TeacherError) as failed:
            gone = isinstance(failed, ModelUnavailable | TeacherUnavailable)
            raise _Stop(outcome, str(failed), gone) from failed
        except Exception as failed:  # so are backends
            raise _Stop(outcome, f"{type(failed).__name__}: {failed}", True) from failed

    async def _timed(self, phase: Phase, wait: Awaitable[T], deadline: float) -> T:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(deadline) as limit:
                return await wait
        except TimeoutError as late:
            if limit.expired():
                raise _TooLate from late
            raise
        finally:
            self.seconds[phase] += time.perf_counter() - start

    def trajectory(self, outcome: Outcome, detail: str) -> Trajectory:
        """What happened so far, as the row that is published."""
        spec, build = self.spec, self.build
        return Trajectory(
            id=spec.id,
            task=self.task.id,
            env=spec.env,
            split=self.task.split,
            task_type=self.task.type,
            instruction=self.first.instruction,
            initial_observation=self.first.text,
            turns=tuple(self.turns),
            reward=self.reward,
            success=outcome == "success",
            outcome=outcome,
            detail=detail,
            provenance=spec.provenance(build.engine, build.data_hash, build.dialect, __version__),
        )

    def _steps(self) -> int:
        return sum(turn.executed for turn in self.turns)


def _try(env: TextEnv, action: str) -> StepResult:
    """What an action would come to, found out in a copy."""
    child = env.fork()
    try:
        return child.step(action)
    finally:
        child.close()


def _not_valid(review: Review) -> str:
    return f"the correction {review.action!r} is not a valid action"


async def run_episode(
    spec: EpisodeSpec,
    env: TextEnv,
    task: Task,
    student: ChatModel | None,
    teacher: Teacher | None,
    sampling: Sampling,
    deadlines: Deadlines,
    thread: CallThread | None = None,
    beginnings: Beginnings | None = None,
) -> EpisodeResult:
    """Runs the episode that ``spec`` describes; never raises for what the world, the student or
    the teacher does: that becomes the trajectory's outcome.

    ``teacher`` None means an unmonitored roll-out, ``student`` None that nobody is asked to act.
    ``sampling.seed`` is replaced by the spec's.
    ``env`` belongs to the episode until it is over; one that is cancelled keeps and closes it.
    So does ``thread``, where its calls are made; one is made if none is given. ``beginnings`` are
    shared by episodes that begin after the same turns.
    """
    own = thread is None
    thread = thread or CallThread("step-ray-env")
    episode = _Episode(
        spec, env, task, student, teacher, sampling, deadlines, thread, beginnings or Beginnings()
    )
    outcome: Outcome = "step_limit"
    detail, disturbed = "", False
    try:
        async with asyncio.timeout(deadlines.episode):
            await episode.play()
        if episode.ended:
            outcome = "success" if episode.reward >= 1.0 else "failure"
    except _Stop as stop:
        outcome, detail, disturbed = stop.outcome, stop.detail, stop.disturbed
    except TimeoutError:
        outcome, detail, disturbed = "episode_timeout", f"over {deadlines.episode:g} s", True
    except BaseException:  # cancelled: nobody gets the environment back
        episode.env_lost = True
        raise
    finally:
        if episode.env_lost and hasattr(env, "kill"):
            env.kill()  # it has a process of its own: nobody waits for what hangs in there
        if own or episode.env_lost:
            thread.end(env.close if episode.env_lost else None)
    made = episode.trajectory(outcome, detail)
    return EpisodeResult(made, episode.seconds, episode.env_lost, episode.asked, disturbed)
