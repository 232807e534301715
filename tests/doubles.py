"""Doubles of the protocols, for tests of what is built on them: a small world, students, teachers.

They behave as the protocols say, in every respect that matters here; what happens inside a call
can be changed with a hook.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from step_ray.envs.base import Build, EnvError, Judgement, Observation, StepResult, Task
from step_ray.models.base import Reply, Sampling
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.teacher.base import ReviewRequest
from step_ray.trajectory import Review, Trajectory, Turn

Hook = Callable[[str], None]
"""Told the name of a call of the environment, with its argument, before it happens."""


class Corridor:
    """Rooms in a row: the exit is ``length`` steps to the right, and it is the task to leave.

    ``left`` is an error as long as nothing lies there, ``wait`` a loop. ``jump`` (into a pit) and
    ``leap`` end the episode in failure, but only of ``jump`` the judge says so. ``peek`` is a way
    out that pays half.
    """

    name = "corridor"
    inline = False
    hook: Hook = staticmethod(lambda call: None)  # of all instances, unless one has its own
    made: list[Corridor]

    def __init__(self, data: Any = None, *, length: int = 3, tasks: int = 4) -> None:
        if data is not None:
            raise EnvError("a corridor has no data")
        self.length, self.count = length, tasks
        self.position = -1
        self.over = False
        self.closed = threading.Event()
        self.calls: list[str] = []
        self.threads: list[str] = []

    def _call(self, what: str) -> None:
        self.calls.append(what)
        self.threads.append(threading.current_thread().name)
        self.hook(what)
        if self.closed.is_set():
            raise EnvError("closed")

    def tasks(self, split: str) -> list[Task]:
        if split != "train":
            raise EnvError(f"unknown split {split!r}")
        return [Task(f"corridor-{n}", self.name, split, "leave") for n in range(self.count)]

    def reset(self, task: Task, seed: int = 0) -> Observation:
        self._call("reset")
        self.position, self.over = 0, False
        return Observation("Leave.", f"{task.id}, seed {seed}. You are in room 0.")

    def step(self, action: str) -> StepResult:
        self._call(f"step {action}")
        if action not in self.admissible():
            return StepResult("Nothing happens.", 0.0, self.over, False, False)
        if action in ("jump", "leap", "peek"):
            self.over = True
            return StepResult("You are out.", 0.5 * (action == "peek"), True, False, True)
        self.position += {"left": -1, "right": 1, "wait": 0}[action]
        self.over = self.position == self.length
        text = "You are outside." if self.over else f"You are in room {self.position}."
        return StepResult(text, float(self.over), self.over, False, True)

    def admissible(self) -> list[str]:
        if self.over:
            return []
        return sorted(["jump", "leap", "peek", "right", "wait"] + ["left"] * (self.position > 0))

    def expert(self) -> Turn | None:
        self._call("expert")
        if self.over:
            return None
        return Turn(f"I am in room {self.position}.", "right", author="expert")

    def judge(self, action: str) -> Judgement:
        self._call(f"judge {action}")
        why = (("why", f"room {self.position} is not outside"), ("do", action), ("did", action))
        if action not in self.admissible():
            return Judgement(True, "invalid", why)
        kinds = {"left": "undo", "wait": "loop", "jump": "trap", "leap": "trap"}
        return Judgement(action in kinds, kinds.get(action, ""), why, action == "jump")

    def build(self) -> Build:
        return Build("corridor-1", f"length {self.length}", "put")

    def fork(self) -> Corridor:
        child = copy.copy(self)
        child.closed = threading.Event()
        child.calls, child.threads = [], []
        return child

    def close(self) -> None:
        self.closed.set()


class Student:
    """Says what ``reply`` makes of the chat and the sampling; remembers what it was asked."""

    fingerprint = "student"

    def __init__(self, reply: Callable[[list[dict[str, str]], Sampling], str]) -> None:
        self.reply = reply
        self.asked: list[tuple[list[dict[str, str]], Sampling]] = []
        self.closed = False

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        chat = [dict(message) for message in messages]
        assert chat[-1]["role"] == "user"
        self.asked.append((chat, sampling))
        return Reply(self.reply(chat, sampling), "stop", 1, 1)

    def close(self) -> None:
        self.closed = True


def saying(*actions: str) -> Student:
    """A student with a fixed sequence of actions, and the last one for ever."""

    def reply(chat: list[dict[str, str]], sampling: Sampling) -> str:
        action = actions[min(len(student.asked), len(actions)) - 1]
        return f"Thought: I do it.\nAction: {action}"

    student = Student(reply)
    return student


def drifting(texts: Sequence[str] = ("right", "left", "wait", "dance")) -> Student:
    """A student whose reply is a function of the chat and the sampling's seed alone."""

    def reply(chat: list[dict[str, str]], sampling: Sampling) -> str:
        digest = hashlib.sha256(f"{chat}{sampling.seed}".encode()).digest()
        return f"Thought: number {digest[1]}\nAction: {texts[digest[0] % len(texts)]}"

    return Student(reply)


class SilentStudent:
    """A student that never answers."""

    fingerprint = "silent"

    async def chat(self, messages: Any, sampling: Any, schema: Any = None) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets")


class Critic:
    """A teacher that says what ``judge`` makes of a request; remembers what it was asked."""

    fingerprint = "critic"
    prompt_version = "1"

    def __init__(self, judge: Callable[[ReviewRequest], Review]) -> None:
        self.judge = judge
        self.asked: list[ReviewRequest] = []

    async def review(self, request: ReviewRequest) -> Review:
        self.asked.append(request)
        return self.judge(request)


class SilentTeacher:
    """A teacher that never answers."""

    fingerprint = "silent"
    prompt_version = "1"

    async def review(self, request: ReviewRequest) -> Review:
        await asyncio.Event().wait()
        raise AssertionError("an event that nobody sets")


def spec_of(task: Task, **settings: Any) -> EpisodeSpec:
    """A monitored episode, unless ``teacher`` says otherwise."""
    settings = {"data": "test", "seed": 0, "student": "student", "teacher": "expert", **settings}
    return EpisodeSpec(
        env=task.env, split=task.split, task=task.id, task_type=task.type, **settings
    )


def timeless(trajectory: Trajectory) -> Trajectory:
    """The trajectory without what differs between two runs of the same episode."""
    turns = tuple(replace(turn, seconds=0.0) for turn in trajectory.turns)
    return replace(trajectory, turns=turns)


def assert_replays(trajectory: Trajectory, env: Any, task: Task) -> None:
    """Plays the actions again in ``env``: the texts, rewards and the end have to be the same."""
    first = env.reset(task, trajectory.provenance.seed)
    assert (first.instruction, first.text) == (
        trajectory.instruction,
        trajectory.initial_observation,
    )
    reward, ended = 0.0, False
    for turn in trajectory.turns:
        if not turn.executed:
            assert (turn.observation, turn.reward) == ("", 0.0)
            continue
        assert not ended
        result = env.step(turn.action)
        reward, ended = result.reward, result.terminated or result.truncated
        assert (result.observation, reward, result.valid) == (
            turn.observation,
            turn.reward,
            turn.valid,
        )
    assert reward == trajectory.reward
    assert (ended and reward >= 1.0) == trajectory.success
    assert ended == (trajectory.outcome in ("success", "failure"))
