"""A worker hosts many episodes, for many callers, and outlives those that hang."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rough_env
from doubles import Corridor, SilentStudent, assert_replays, drifting, saying, spec_of, timeless

from step_ray.config_deadlines import Deadlines
from step_ray.envs import ENVIRONMENTS
from step_ray.envs.base import EnvError, Observation, Task
from step_ray.faults import Fault, FaultPlan
from step_ray.models.base import ChatModel, ModelError
from step_ray.schema import from_row
from step_ray.synthesis.filters import Filter
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.worker import EpisodeWorker, WorkerSettings
from step_ray.teacher.base import ReviewRequest, Teacher
from step_ray.teacher.expert import ExpertTeacher
from step_ray.trajectory import Review

TASKS = [Task(f"corridor-{n}", "corridor", "train", "leave") for n in range(4)]
SETTINGS = WorkerSettings(
    env="corridor",
    env_options={},
    students={"student": "folder", "silent": "nowhere"},
    filter=Filter(max_errors=1),
    envs=4,
)
HASTY = replace(SETTINGS, deadlines=Deadlines(close=0.2))
PHASES = {"env", "student", "teacher", "queue"}

Make = Callable[..., EpisodeWorker]


class Listed(Corridor):
    """A corridor that is remembered, with everything that was made before."""

    made: list[Corridor] = []  # noqa: RUF012

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.made.append(self)


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[Corridor]:
    """All the worlds that a test has made; ``make_env("corridor")`` makes them."""
    monkeypatch.setitem(ENVIRONMENTS, "corridor", (__name__, "Listed"))
    monkeypatch.setattr(Listed, "made", [])
    return Listed.made


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes workers that are closed in the end."""
    opened: list[EpisodeWorker] = []

    def worker(
        settings: WorkerSettings = SETTINGS,
        load: Callable[[str], ChatModel] = lambda folder: drifting(),
        teacher: Teacher | None = None,
        **others: Any,
    ) -> EpisodeWorker:
        opened.append(EpisodeWorker(settings, load, teacher or ExpertTeacher(), **others))
        return opened[-1]

    yield worker
    for one in opened:
        one.close()


def specs(count: int, **settings: Any) -> list[EpisodeSpec]:
    return [spec_of(TASKS[n % len(TASKS)], rollout=n, **settings) for n in range(count)]


def test_rows_come_in_order_with_times_and_reasons(make: Make) -> None:
    asked, told = specs(12), list[tuple[str, str]]()

    rows = make().run_block(asked, lambda row: told.append((row["id"], row["drop_reason"])))
    assert [row["id"] for row in rows] == [spec.id for spec in asked]
    assert sorted(told) == sorted((row["id"], row["drop_reason"]) for row in rows)
    assert {row["drop_reason"] for row in rows} >= {"", "too_many_errors"}
    for row, spec in zip(rows, asked, strict=True):
        assert row["keep"] == (not row["drop_reason"])
        assert row["phase_seconds"].keys() == PHASES
        assert all(seconds >= 0 for seconds in row["phase_seconds"].values())
        trajectory = from_row(row)
        assert_replays(trajectory, Corridor(), Task(spec.task, spec.env, spec.split, ""))


def test_nothing_depends_on_how_many_run_side_by_side(make: Make) -> None:
    asked = specs(10, on_error="veto")
    one, many = make(replace(SETTINGS, envs=1)), make(replace(SETTINGS, envs=10))
    alone = [row for spec in asked for row in one.run_block([spec])]
    together = many.run_block(asked)
    assert [timeless(from_row(row)) for row in alone] == [
        timeless(from_row(row)) for row in together
    ]


def test_several_callers_share_worlds_and_students(make: Make, made: list[Corridor]) -> None:
    loaded: list[str] = []

    def load(folder: str) -> ChatModel:
        loaded.append(folder)
        return drifting()

    worker = make(load=load)
    blocks = [specs(30)[start : start + 5] for start in range(0, 30, 5)]
    with ThreadPoolExecutor(6) as pool:
        rows = list(pool.map(worker.run_block, blocks))
    for block, found in zip(blocks, rows, strict=True):
        assert [row["id"] for row in found] == [spec.id for spec in block]
    assert loaded == ["folder"]
    assert len(made) <= SETTINGS.envs + 1
    assert sum(call == "reset" for env in made for call in env.calls) == 30
    assert not any(env.closed.is_set() for env in made)
    worker.close()
    assert all(env.closed.is_set() for env in made)


class Overrun(ExpertTeacher):
    """Answers nobody before as many ask as may play, and then waits for one too many."""

    def __init__(self, expected: int) -> None:
        super().__init__()
        self.expected, self.asking, self.most = expected, 0, 0
        self.full = asyncio.Event()

    async def review(self, request: ReviewRequest) -> Review:
        self.asking += 1
        self.most = max(self.most, self.asking)
        if self.asking == self.expected and not self.full.is_set():
            await asyncio.sleep(0.5)
            self.full.set()
        await self.full.wait()
        self.asking -= 1
        return await super().review(request)


def test_no_more_reviews_wait_for_a_slow_teacher_than_episodes_play(make: Make) -> None:
    """However many episodes the blocks in flight hold."""
    teacher = Overrun(3)
    worker = make(replace(SETTINGS, envs=3), teacher=teacher)
    blocks = [specs(20)[start : start + 4] for start in range(0, 20, 4)]
    with ThreadPoolExecutor(len(blocks)) as callers:
        rows = [row for block in callers.map(worker.run_block, blocks) for row in block]
    assert len(rows) == 20
    assert teacher.most == 3


def test_unmonitored_episodes_have_no_teacher(make: Make, made: list[Corridor]) -> None:
    rows = make(load=lambda folder: saying("left", "right")).run_block(specs(2, teacher=""))
    assert [row["errors"] for row in rows] == [0, 0]
    assert [row["drop_reason"] for row in rows] == ["no_correction"] * 2
    assert not any(call.startswith("judge") for env in made for call in env.calls)


def test_a_task_that_this_machine_does_not_have(make: Make) -> None:
    worker = make()
    lost = replace(specs(1)[0], task="corridor-99")
    with pytest.raises(EnvError, match=r"'corridor-99' is not in the train split.*other data"):
        worker.run_block([*specs(2), lost])
    with pytest.raises(EnvError, match="unknown split 'test'"):
        worker.run_block([replace(lost, split="test")])
    assert len(worker.run_block(specs(3))) == 3, "others go on"


def test_a_student_that_this_machine_does_not_have(make: Make) -> None:
    def load(folder: str) -> ChatModel:
        raise ModelError(f"no weights in {folder}")

    with pytest.raises(ModelError, match="'stranger'"):
        make().run_block(specs(1, student="stranger"))
    with pytest.raises(ModelError, match="no weights in folder"):
        make(load=load).run_block(specs(1))


class Announced(SilentStudent):
    """Silent, but says when it is asked and when nobody waits any more."""

    def __init__(self) -> None:
        self.asked, self.left = threading.Event(), threading.Event()

    async def chat(self, messages: Any, sampling: Any, schema: Any = None) -> Any:
        self.asked.set()
        try:
            return await super().chat(messages, sampling, schema)
        finally:
            self.left.set()


def test_one_bad_spec_ends_the_whole_block(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs the others any more: the block is made again as a whole."""
    student = Announced()

    def tasks(self: Corridor, split: str) -> list[Task]:
        assert split == "train" or student.asked.wait(60)
        return Corridor.tasks(self, split)

    monkeypatch.setattr(Listed, "tasks", tasks)
    bad = replace(specs(1)[0], split="test")
    with pytest.raises(EnvError, match="unknown split 'test'"):
        make(load=lambda folder: student).run_block([bad, *specs(1)][::-1])
    assert student.left.wait(30)


def test_episodes_go_on_while_another_student_is_loaded(make: Make) -> None:
    loading, go = threading.Event(), threading.Event()

    def load(folder: str) -> ChatModel:
        if folder == "nowhere":
            loading.set()
            assert go.wait(60)
        return drifting()

    worker = make(load=load)
    worker.run_block(specs(4))
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(worker.run_block, specs(2, student="silent"))
        assert loading.wait(60)
        assert len(worker.run_block(specs(8))) == 8
        assert not slow.done()
        go.set()
        assert len(slow.result(60)) == 2


def test_worlds_that_hang_cost_nobody_else_anything(
    make: Make, made: list[Corridor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than a thread pool would have threads, and none of them used again."""
    event = threading.Event()

    def reset(self: Corridor, task: Task, seed: int = 0) -> Observation:
        first = Corridor.reset(self, task, seed)
        if task.id == "corridor-0":
            event.wait(60)
        return first

    monkeypatch.setattr(Listed, "reset", reset)
    worker = make(replace(SETTINGS, envs=40, deadlines=Deadlines(reset=1.0)))
    rows = worker.run_block([spec_of(TASKS[n % 2], rollout=n) for n in range(80)])
    assert [row["outcome"] for row in rows] == ["env_timeout", "success"] * 40
    worker.close()
    hung = [env for env in made if env.calls[-1:] == ["reset"]]
    assert len(hung) == 40
    assert not any(env.closed.is_set() for env in hung)
    event.set()
    for env in made:
        assert env.closed.wait(30), "what hung is closed when it answers"


@pytest.mark.parametrize("failures", [2, 3])
def test_an_environment_that_does_not_start_is_tried_again(
    make: Make, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    left = [EnvError("no memory")] * failures
    begin = Listed.__init__

    def init(self: Listed, *args: Any, **options: Any) -> None:
        if left:
            raise left.pop()
        begin(self, *args, **options)

    monkeypatch.setattr(Listed, "__init__", init)
    worker = make()
    if failures == 3:
        with pytest.raises(EnvError, match="no memory"):
            worker.run_block(specs(4))
    assert len(worker.run_block(specs(4))) == 4


def test_closing_gives_up_what_runs(make: Make, made: list[Corridor]) -> None:
    student = Announced()
    worker = make(load=lambda folder: student)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(worker.run_block, specs(8))
        assert student.asked.wait(60)
        worker.close()
        with pytest.raises(CancelledError):
            running.result(60)
    worker.close()  # a second time is nothing
    with pytest.raises(RuntimeError, match="closed"):
        worker.run_block(specs(1))
    for env in made:
        assert env.closed.wait(30)


def test_closing_closes_students(make: Make) -> None:
    student = saying("right")
    worker = make(load=lambda folder: student)
    worker.run_block(specs(2))
    assert not student.closed
    worker.close()
    assert student.closed


def test_what_is_made_while_the_worker_closes_is_closed_too(
    make: Make, made: list[Corridor], monkeypatch: pytest.MonkeyPatch
) -> None:
    making, go = threading.Event(), threading.Event()
    student = saying("right")

    def load(folder: str) -> ChatModel:
        making.set()
        assert go.wait(60)
        return student

    closing, closed = Corridor.close, threading.Event()

    def close(self: Corridor) -> None:
        closing(self)
        closed.set()

    monkeypatch.setattr(Listed, "close", close)
    worker = make(HASTY, load=load)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(worker.run_block, specs(1))
        assert making.wait(60)
        worker.close()
        with pytest.raises(CancelledError):
            running.result(60)
    assert not student.closed
    go.set()
    assert closed.wait(30)
    assert student.closed
    assert [env.closed.is_set() for env in made] == [True]


def test_nobody_waits_for_a_world_that_does_not_close(
    make: Make, made: list[Corridor], monkeypatch: pytest.MonkeyPatch
) -> None:
    event, student = threading.Event(), saying("right")
    monkeypatch.setattr(Listed, "close", lambda self: event.wait(60))
    worker = make(HASTY, load=lambda folder: student)
    worker.run_block(specs(1))
    worker.close()
    assert student.closed
    event.set()


def test_the_process_ends_with_a_hung_world_in_it() -> None:
    code = """
import sys, threading
sys.path.insert(0, sys.argv[1])
from dataclasses import replace
import doubles
from step_ray.envs import ENVIRONMENTS
from step_ray.config_deadlines import Deadlines
from step_ray.synthesis.worker import EpisodeWorker, WorkerSettings

ENVIRONMENTS["corridor"] = ("doubles", "Corridor")
doubles.Corridor.hook = lambda self, call: call == "reset" and threading.Event().wait()
settings = WorkerSettings("corridor", {}, {"student": ""}, deadlines=Deadlines(reset=0.05))
worker = EpisodeWorker(settings, lambda folder: doubles.saying("right"), None)
task = doubles.Corridor().tasks("train")[0]
rows = worker.run_block([doubles.spec_of(task, teacher="")])
worker.close()
print(rows[0]["outcome"])
"""
    said = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert (said.stdout, said.stderr) == ("env_timeout\n", "")


def test_processes_that_crash_hang_or_leak_are_replaced(tmp_path: Path) -> None:
    """Their neighbours win, and the rows say how many environments were given up, and why."""
    asked = specs(10)
    planned = (Fault("crash-env", episode=1, step=1), Fault("hang-env", episode=4, step=2))
    settings = WorkerSettings(
        env=rough_env.NAME,
        env_options={"woes": {"reset": "leak"}, "task": "corridor-3"},
        students={"student": "folder"},
        deadlines=Deadlines(step=5.0),
        envs=2,
        isolated=True,
        memory_mb=150.0,
        faults=FaultPlan(str(tmp_path), planned).of_episodes([spec.id for spec in asked]),
    )
    worker = EpisodeWorker(settings, lambda folder: saying("right"), ExpertTeacher())
    rows = worker.run_block(asked)
    worker.close()
    outcomes = [row["outcome"] for row in rows]
    assert (outcomes.pop(4), outcomes.pop(1)) == ("env_timeout", "env_error")
    assert set(outcomes) == {"success"}
    assert "SIGKILL" in rows[1]["detail"]
    assert sum(row["env_fates"]["replaced"] for row in rows) == 2
    assert sum(row["env_fates"]["recycled"] for row in rows) == 2, "corridor-3, twice"


def test_settings_travel_between_processes() -> None:
    assert pickle.loads(pickle.dumps(SETTINGS)) == SETTINGS


def test_a_planned_fault_strikes_one_episode_once(make: Make, tmp_path: Path) -> None:
    asked = specs(6)
    crash, hang = Fault("crash-env", episode=1, step=1), Fault("hang-env", episode=4, step=0)
    faults = FaultPlan(str(tmp_path), (crash, hang)).of_episodes([spec.id for spec in asked])
    settings = replace(SETTINGS, faults=faults, deadlines=Deadlines(step=5.0))
    rows = make(settings).run_block(asked)
    assert [row["outcome"] for row in rows if row["outcome"] != "success"] == [
        "env_error",
        "env_timeout",
    ]
    assert (rows[1]["outcome"], rows[4]["outcome"]) == ("env_error", "env_timeout")
    again = make(settings).run_block(asked)
    assert {row["outcome"] for row in again} == {"success"}
