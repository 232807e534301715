"""One monitored episode: the student proposes, the teacher reviews, the world answers.

This is STeP's synthesis step (paper, stage 2). Without a teacher the same loop is a plain
roll-out, as evaluation and exploration need it. Pure asyncio: a worker interleaves many episodes,
and every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from step_ray import __version__
from step_ray.envs.base import Build, EnvError, Judgement, Observation, StepResult, Task, TextEnv
from step_ray.models.base import ChatModel, ModelError, Sampling
from step_ray.react import ReplyError, messages_of, neutralise_model_text, parse_reply
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.teacher.base import Hint, ReviewRequest, Teacher, TeacherError, correction_thought
from step_ray.trajectory import Outcome, Review, Trajectory, Turn

T = TypeVar("T")
Phase = Literal["env", "student", "teacher"]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds allowed for each kind of wait and for the whole episode."""

    reset: float = 60.0
    step: float = 30.0
    student: float = 300.0
    review: float = 120.0
    episode: float = 3600.0


@dataclass(slots=True)
class EpisodeResult:
    """A trajectory, where its wall time went (seconds by phase), and whether its environment
    passed a deadline and so must not be used again."""

    trajectory: Trajectory
    seconds: dict[Phase, float]
    env_lost: bool


class _Stop(Exception):
    """Ends the episode with an outcome that is not the world's."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


@dataclass(slots=True)
class _Episode:
    spec: EpisodeSpec
    env: TextEnv
    task: Task
    student: ChatModel
    teacher: Teacher | None
    sampling: Sampling
    deadlines: Deadlines
    first: Observation = Observation("", "")
    turns: list[Turn] = field(default_factory=list)
    seconds: dict[Phase, float] = field(
        default_factory=lambda: {"env": 0.0, "student": 0.0, "teacher": 0.0}
    )
    reward: float = 0.0
    ended: bool = False
    env_lost: bool = False
    judgement: Judgement = Judgement(False)  # the environment's, of the last proposed action

    async def play(self) -> None:
        """Turns until the world ends, a budget is spent, or something stops the episode."""
        self.first = await self._world(
            lambda: self.env.reset(self.task, self.spec.seed), self.deadlines.reset, "reset"
        )
        while not self.ended and self._steps() < self.spec.max_steps:
            thought, action = await self._propose()
            if self.teacher is None:
                await self._execute(Turn(thought, action))
                continue
            review = await self._review(self.teacher, thought, action)
            if not review.is_error:
                await self._execute(Turn(thought, action))
                continue
            if sum(turn.verdict == "error" for turn in self.turns) >= self.spec.abort_errors:
                raise _Stop("error_limit", f"error number {self.spec.abort_errors + 1}")
            await self._err_and_correct(self.teacher, Turn(thought, action), review)

    async def _err_and_correct(self, teacher: Teacher, proposed: Turn, review: Review) -> None:
        """The error becomes a turn of its own; the next turn is the teacher's."""
        error = replace(proposed, verdict="error", review=review)
        veto = self.spec.on_error == "veto" or self.judgement.irreversible
        if veto:
            self.turns.append(replace(error, executed=False))
        else:
            await self._execute(error)
            if self.ended or self._steps() >= self.spec.max_steps:
                return
            # The world may have changed: the correction must start from the state that is.
            review = await self._review(teacher, proposed.thought, proposed.action, error)
            self.turns[-1] = replace(self.turns[-1], review=review)
        thought = correction_thought(review, style=self.spec.style, executed=not veto)
        correction = Turn(
            thought, review.action, author="teacher", verdict="correction", review=review
        )
        result = await self._execute(correction)
        if not result.valid:
            raise _Stop("teacher_error", f"the correction {review.action!r} is not a valid action")

    async def _propose(self) -> tuple[str, str]:
        """The student's next (thought, action); a reply without an action proposes the empty one,
        which no environment accepts."""
        chat = [
            message.as_dict()
            for message in messages_of(self.first.instruction, self.first.text, self.turns)
        ]
        sampling = replace(self.sampling, seed=self.spec.turn_seed(len(self.turns)))
        try:
            reply = await self._timed(
                "student", self.student.chat(chat, sampling), self.deadlines.student
            )
        except TimeoutError as late:
            raise _Stop(
                "student_error", f"no reply in {self.deadlines.student:g} s"
            ) from late
        except ModelError as failed:
            raise _Stop("student_error", str(failed)) from failed
        try:
            return parse_reply(reply.text)
        except ReplyError:
            return neutralise_model_text(reply.text.strip()), ""

    async def _review(
        self, teacher: Teacher, thought: str, action: str, executed: Turn | None = None
    ) -> Review:
        """The teacher's review of a proposed turn, or of one just ``executed`` in error."""
        request = ReviewRequest(
            instruction=self.first.instruction,
            initial_observation=self.first.text,
            turns=tuple(self.turns),
            thought=thought,
            action=action,
            hint=await self._world(lambda: self._hint(action, executed), self.deadlines.step, "hint"),
            key=self._key(),
        )
        try:
            return await self._timed("teacher", teacher.review(request), self.deadlines.review)
        except TimeoutError as late:
            raise _Stop("teacher_error", f"no review in {self.deadlines.review:g} s") from late
        except TeacherError as failed:
            raise _Stop("teacher_error", str(failed)) from failed

    def _hint(self, action: str, executed: Turn | None) -> Hint | None:
        expert = self.env.expert()
        if expert is None:
            return None
        if executed is None:  # afterwards the state is another: the judgement was made before
            self.judgement = self.env.judge(action)
        return Hint(self.judgement, expert.thought, expert.action)

    async def _execute(self, turn: Turn) -> StepResult:
        start = time.perf_counter()
        result = await self._world(
            lambda: self.env.step(turn.action), self.deadlines.step, f"step {turn.action!r}"
        )
        self.turns.append(
            replace(
                turn,
                observation=result.observation,
                valid=result.valid,
                reward=result.reward,
                seconds=time.perf_counter() - start,
            )
        )
        self.reward = result.reward
        self.ended = result.terminated or result.truncated
        return result

    async def _world(self, call: Callable[[], T], deadline: float, what: str) -> T:
        """Runs an engine call in a thread, so that a hung engine costs its own episode only."""
        try:
            return await self._timed("env", asyncio.to_thread(call), deadline)
        except TimeoutError as late:
            self.env_lost = True
            raise _Stop("env_timeout", f"{what} took over {deadline:g} s") from late
        except EnvError as failed:
            raise _Stop("env_error", f"{what}: {failed}") from failed

    async def _timed(self, phase: Phase, wait: Awaitable[T], deadline: float) -> T:
        start = time.perf_counter()
        try:
            return await asyncio.wait_for(wait, deadline)
        finally:
            self.seconds[phase] += time.perf_counter() - start

    def trajectory(self, outcome: Outcome, detail: str) -> Trajectory:
        """What happened so far, as the row that is published."""
        spec, build = self.spec, Build("", "", "")
        if self.first.text and not self.env_lost:
            build = self.env.build()
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

    def _key(self) -> str:
        return f"{self.spec.id}:{len(self.turns)}"


async def run_episode(
    spec: EpisodeSpec,
    env: TextEnv,
    task: Task,
    student: ChatModel,
    teacher: Teacher | None,
    sampling: Sampling,
    deadlines: Deadlines,
) -> EpisodeResult:
    """Runs the episode that ``spec`` describes; never raises for what the world, the student or
    the teacher does: that becomes the trajectory's outcome.

    ``teacher`` None means an unmonitored roll-out. ``sampling.seed`` is replaced by the spec's.
    """
    episode = _Episode(spec, env, task, student, teacher, sampling, deadlines)
    outcome: Outcome = "step_limit"
    detail = ""
    try:
        await asyncio.wait_for(episode.play(), deadlines.episode)
        if episode.ended:
            outcome = "success" if episode.reward >= 1.0 else "failure"
    except _Stop as stop:
        outcome, detail = stop.outcome, stop.detail
    except TimeoutError:
        outcome, detail = "episode_timeout", f"over {deadlines.episode:g} s"
    return EpisodeResult(episode.trajectory(outcome, detail), episode.seconds, episode.env_lost)
