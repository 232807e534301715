"""Rounds of STeP: which tasks they play, what a student is trained on, where they end. Games and
experts are real; who is watched or trained, and how, is left to the drills."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from step_ray.config import RunConfig, parse_config
from step_ray.envs.base import Task
from step_ray.progress import Progress
from step_ray.publication import publish
from step_ray.recipes import step
from step_ray.recipes.plan import plan
from step_ray.recipes.resources import needs
from step_ray.recipes.stages import spec_of
from step_ray.recipes.workshop import Workshop
from step_ray.recipes.world import World
from step_ray.run import Run, Stage
from step_ray.schema import to_row
from step_ray.synthesis.golden import golden_episode
from step_ray.trajectory import Trajectory

ENV = {
    "games": {"train": 8, "valid_seen": 2, "valid_unseen": 2},
    "task_types": ["pick_and_place_simple"],
}


def config(folder: Path, **raw: Any) -> RunConfig:
    return parse_config({"output": str(folder / "run"), "env": ENV, **raw})


class Recorded:
    """What the recipe asked for, and in which order."""

    def __init__(self, kept: Callable[[int, Sequence[Task]], Sequence[Task]]) -> None:
        """``kept``: of which tasks of a round (from 1) a trajectory is kept."""
        self.kept = kept
        self.played: dict[str, tuple[str, list[str]]] = {}  # stage -> agent, tasks
        self.trained: dict[str, tuple[str, list[str]]] = {}  # stage -> start, tasks in its data
        self.authors: dict[str, set[str]] = {}  # stage -> students in its data, "" for the expert
        self.concluded: tuple[list[str], Mapping[str, Any]] | None = None

    def synthesize(
        self, shop: Workshop, name: str, agent: Path, tasks: Sequence[Task], original: Path
    ) -> Stage:
        assert not original.is_relative_to(shop.run.path), "the packaged one"
        self.played[name] = (agent.parent.name, [task.id for task in tasks])
        kept = {task.id for task in self.kept(len(self.played), tasks)}
        with shop.run.stage(name, {}, {}) as stage:
            env, rows = shop.world.make(), []
            for task in tasks:
                spec = spec_of(shop.world, task, seed=0, student=name)
                made = golden_episode(spec, env, task)
                made = replace(made, provenance=replace(made.provenance, student=name))
                reason = "" if task.id in kept else "clean"
                rows.append(to_row(made, spec.to_dict(), reason))
            env.close()
            publish(stage.path, rows)
            stage.finish({"data": stage.path})
        return stage

    def train(
        self,
        shop: Workshop,
        name: str,
        start: Path,
        data: Sequence[Trajectory],
        inputs: Mapping[str, Any],
    ) -> Stage:
        origin = start.parent.name if start.is_relative_to(shop.run.path) else "llm"
        self.trained[name] = (origin, [one.task for one in data])
        self.authors[name] = {one.provenance.student for one in data}
        with shop.run.stage(name, inputs, {}) as stage:
            (stage.path / "model").mkdir()
            stage.finish({"model": stage.path / "model", "trajectories": len(data)})
        return stage

    def conclude(
        self, shop: Workshop, llm: Path, trained: Mapping[str, Stage], facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        self.concluded = (list(trained), facts)
        return dict(facts)


Play = Callable[..., Recorded]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Play:
    @contextlib.contextmanager
    def opened(
        config: RunConfig, world: World, progress: Progress, fresh: bool
    ) -> Iterator[Workshop]:
        with Run.open(config.output, config.resolved(), fresh) as run:
            yield Workshop(run, config, world, progress)

    def run(
        kept: Callable[[int, Sequence[Task]], Sequence[Task]], until: Any = None, **raw: Any
    ) -> Recorded:
        recorded = Recorded(kept)
        for name in ("synthesize", "train", "conclude"):
            monkeypatch.setattr(step, name, getattr(recorded, name))
        monkeypatch.setattr(step, "opened", opened)
        found = step.run(config(tmp_path, **raw), Progress(), until=until)
        assert bool(found) == (until is None)
        return recorded

    return run


def test_one_round_is_the_papers(play: Play) -> None:
    made = play(lambda number, tasks: tasks[:2])
    assert list(made.trained) == ["base", "step", "golden_only"]
    start, tasks = made.trained["step"]
    u1, u2 = made.trained["base"][1], made.played["reflected"][1]
    assert (start, made.played["reflected"][0]) == ("llm", "base")
    assert tasks == [*u1, *tasks[4:]]
    assert set(tasks[4:]) < set(u2)
    assert made.concluded is not None
    assert made.concluded[0] == ["base", "golden_only", "step"]
    assert set(made.concluded[1]) == {"synthesis"}


def test_later_rounds_watch_the_student_on_what_is_in_no_data(play: Play) -> None:
    made = play(lambda number, tasks: tasks[:2] if number < 3 else [], step={"rounds": 5})
    u2 = made.played["reflected"][1]
    first, second = ({*made.trained[name][1][4:]} for name in ("step", "step_2"))
    assert made.played["reflected_2"] == ("step", [task for task in u2 if task not in first])
    assert first < second == set(u2), "D_r of all rounds so far"
    assert made.trained["step_2"][0] == "llm", "the original model, every time"
    assert list(made.played) == ["reflected", "reflected_2"], "of U_2 nothing is left"
    assert made.concluded is not None
    names, facts = made.concluded
    assert names == ["base", "golden_only", "step", "step_2"]
    assert [one["kept"] for one in facts["rounds"]] == [2, 2]
    assert facts["synthesis"]["kept"] == 4
    assert facts["synthesis"]["episodes"] == 6


def test_a_round_that_adds_nothing_is_the_last(play: Play) -> None:
    made = play(
        lambda number, tasks: tasks if number == 1 else [], step={"rounds": 4, "revisit": "all"}
    )
    assert made.played["reflected_2"] == ("step", made.played["reflected"][1]), "all of U_2 again"
    assert list(made.trained) == ["base", "step", "golden_only"]
    assert made.concluded is not None
    assert [one["kept"] for one in made.concluded[1]["rounds"]] == [4, 0]


def test_sequential_rounds_go_on_from_each_other(play: Play) -> None:
    made = play(lambda number, tasks: tasks[:2], step={"rounds": 2}, training={"sequential": True})
    assert [made.trained[name][0] for name in ("step", "step_2")] == ["base", "step"]
    assert not set(made.trained["step"][1]) & set(made.trained["step_2"][1])


@pytest.mark.parametrize(
    ("until", "stages"),
    [("synthesis", ["base", "step"]), ("training", ["base", "step", "step_2", "golden_only"])],
)
def test_it_can_end_early(play: Play, until: str, stages: list[str]) -> None:
    made = play(lambda number, tasks: tasks[:2], until=until, step={"rounds": 2})
    assert list(made.trained) == stages
    assert list(made.played) == ["reflected", "reflected_2"]
    assert made.concluded is None


def test_a_rival_has_the_experts_trajectories_of_the_same_tasks(play: Play) -> None:
    made = play(lambda number, tasks: tasks[:2], step={"golden_same": True})
    assert list(made.trained) == ["base", "step", "golden_only", "golden_same"]
    assert made.trained["golden_same"] == made.trained["step"], "tasks, from the original model"
    assert (made.authors["step"], made.authors["golden_same"]) == ({"", "reflected"}, {""})
    assert made.concluded is not None
    assert made.concluded[0] == ["base", "golden_only", "golden_same", "step"]
    said = plan(config(Path("x"), step={"golden_same": True}))
    assert "golden_same" in said
    assert "evaluation   4 students" in said


def test_where_no_expert_won_there_is_nothing_to_take() -> None:
    def of(task: str, student: str = "") -> Trajectory:
        return Trajectory(
            f"{student}{task}", task, "e", "train", "", "", "", (), 1.0, True, "success"
        )

    golden = [of("1"), of("2")]
    made = [of("2", "a"), of("3", "a"), of("2", "b")]
    assert step.instead_of(made, golden) == [golden[1], golden[1]]


def test_a_plan_names_the_rounds(tmp_path: Path) -> None:
    vllm = {"backend": "vllm", "model": str(tmp_path)}
    raw: dict[str, Any] = {"output": str(tmp_path / "run"), "env": ENV, "step": {"rounds": 3}}
    said = plan(parse_config(raw))
    assert "reflected_2  up to 4 monitored episodes of step (what of U_2 is in no D_r)" in said
    assert "step_3       the original model on D_1 and all D_r so far, mask partial" in said
    assert "evaluation   5 students" in said
    engines = list(needs(parse_config({**raw, "student": vllm}, planning=True)))
    assert max(need.count for need in engines if "engine" in need.what) == 5
