"""STeCa's stages in one process: the same code as on a cluster, with a small world."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from doubles import Corridor, assert_replays, drifting

from step_ray.config import parse_config
from step_ray.envs import ENVIRONMENTS
from step_ray.envs.base import Task
from step_ray.progress import Progress
from step_ray.publication import publish
from step_ray.recipes import calibration, stages
from step_ray.recipes.calibration import calibrate, explore_prefixes, select, value
from step_ray.recipes.results import asked_models
from step_ray.recipes.workshop import Workshop
from step_ray.recipes.world import World
from step_ray.run import Run, Stage
from step_ray.schema import SCHEMA, to_row
from step_ray.synthesis.chosen import CHOSEN, read_chosen
from step_ray.synthesis.golden import golden_episode
from step_ray.synthesis.pipeline import Made
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.worker import EpisodeWorker, WorkerSettings
from step_ray.teacher.base import Teacher
from step_ray.teacher.expert import ExpertTeacher
from step_ray.trajectory import Trajectory

TASKS = tuple(Task(f"corridor-{n}", "corridor", "train", "leave") for n in range(4))
STUDENT = Path("student")


class Inline(Corridor):
    inline = True


class Served(ExpertTeacher):
    def counts(self) -> dict[str, float]:
        return {}


@pytest.fixture
def shops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes workshops whose episodes are played right here."""
    monkeypatch.setitem(ENVIRONMENTS, "corridor", (__name__, "Inline"))
    monkeypatch.setattr(calibration, "model_fingerprint", lambda folder: "student")
    monkeypatch.setattr(calibration, "teacher_of", lambda *given: nullcontext(Served()))

    def play(
        specs: Sequence[EpisodeSpec],
        folder: Path,
        settings: WorkerSettings,
        load: Any,
        connect: Callable[[], Teacher] | None,
        *others: Any,
    ) -> Made:
        here = dataclasses.replace(settings, env="corridor", students={"student": "s"})
        worker = EpisodeWorker(
            here,
            lambda path: drifting(("right", "right", "right", "wait", "left", "peek")),
            connect() if connect else None,
        )
        rows = worker.run_block(specs)
        worker.close()
        publish(folder, [{name: row[name] for name in SCHEMA.names} for row in rows])
        return Made({}, {}, {"asked": len(rows), "prompt tokens": 2, "of them cached": 1})

    monkeypatch.setattr(stages, "run_episodes", play)
    monkeypatch.setattr(stages, "fingerprints", lambda models: {"student": "s"})
    opened: list[Run] = []

    def make(name: str, **steca: Any) -> tuple[Workshop, Stage, list[Trajectory]]:
        raw = {
            "recipe": "steca",
            "output": str(tmp_path / name),
            "env": {"name": "doubles:Corridor", "max_steps": 9},
            "evaluation": {"splits": ["train"]},
            "steca": {"skip_turns": 1, "explored_within": 2.0, "weight_scale": 0.5, **steca},
        }
        config = parse_config(raw)
        opened.append(Run.open(config.output, config.resolved()))
        world = World("corridor", {}, TASKS, {"train": TASKS}, "test")
        shop = Workshop(opened[-1], config, world, Progress())
        ways = []
        for task in TASKS:
            spec = EpisodeSpec("corridor", "test", "train", task.id, "leave", 0)
            ways.append(golden_episode(spec, Corridor(), task))
        with shop.run.stage("golden") as golden:
            publish(golden.path, [to_row(way, {"golden": way.task}) for way in ways])
            golden.finish({"data": golden.path})
        return shop, golden, ways

    yield make
    for run in opened:
        run.close()


def test_from_expert_prefixes_to_weights(shops: Any) -> None:
    shop, golden, ways = shops("execute")
    explored, probes = explore_prefixes(shop, STUDENT, ways, golden)
    assert len(probes) == sum(len(way.turns) for way in ways)
    for probe in probes:
        assert [turn.author for turn in probe.explored.turns[: probe.turns]] == (
            ["expert"] * probe.turns
        )
    valued, values = value(shop, STUDENT, probes, explored)
    assert values
    assert all(0 <= found <= 1 for found in values.values())
    calibrated, paste = calibrate(shop, probes, values, valued, shop.config.teacher)
    found = calibrated.outputs["deviations"]
    assert found > 0
    assert paste["trajectories"] == found
    chosen, data = select(shop, probes, values, calibrated, valued)
    listed = read_chosen(chosen.path / CHOSEN)
    assert [one.id for one in listed] == [one.trajectory.id for one in data]
    asked = asked_models(shop.run.path)
    assert set(asked) == {"explored", "valued", "calibrated"}
    assert asked["explored"]["student"]["asked"] == len(probes)
    assert asked["valued"]["student"]["prefix_cache_hit_rate"] == 0.5
    kinds = {one.kind for one in listed}
    assert kinds == {"calibration", "explored", "expert"}
    for one, made in zip(listed, data, strict=True):
        trajectory = made.trajectory
        assert_replays(trajectory, Corridor(), Task(trajectory.task, "corridor", "train", "leave"))
        assert made.weights[: one.start] == (0.0,) * one.start
        assert set(made.weights[one.start :]) == {one.weight}
        if one.kind == "calibration":
            assert trajectory.turns[one.start].verdict == "correction"
            assert one.weight > 1
        elif one.kind == "explored":
            assert one.start == 0
            assert {turn.author for turn in trajectory.turns} == {"student"}
            assert one.weight <= 1
        else:
            assert {turn.author for turn in trajectory.turns} == {"expert"}
    lost = {p.golden.task for p in probes if p.turns == 0 and not p.explored.success}
    wholes = {one.id for one in listed if (one.kind, one.start) == ("expert", 0)}
    assert wholes == {way.id for way in ways if way.task in lost}


def test_a_second_time_everything_is_there(shops: Any) -> None:
    shop, golden, ways = shops("again")

    def all_of_it() -> tuple[object, ...]:
        explored, probes = explore_prefixes(shop, STUDENT, ways, golden)
        valued, values = value(shop, STUDENT, probes, explored)
        calibrated, paste = calibrate(shop, probes, values, valued, shop.config.teacher)
        _, data = select(shop, probes, values, calibrated, valued)
        return probes, values, paste, data

    assert all_of_it() == all_of_it()


def test_pasted_ones_are_counted_and_not_executed(shops: Any) -> None:
    shop, golden, ways = shops("paste", splice="paste")
    explored, probes = explore_prefixes(shop, STUDENT, ways, golden)
    valued, values = value(shop, STUDENT, probes, explored)
    calibrated, paste = calibrate(shop, probes, values, valued, shop.config.teacher)
    _, data = select(shop, probes, values, calibrated, valued)
    untrue = 0
    for made in data:
        trajectory = made.trajectory
        if "error" not in {turn.verdict for turn in trajectory.turns}:
            continue
        try:
            task = Task(trajectory.task, "corridor", "train", "leave")
            assert_replays(trajectory, Corridor(), task)
        except AssertionError:
            untrue += 1
    # A deviation that ended the episode has nothing to be trained behind it, but counts.
    assert 0 < untrue <= paste["not_executable"] <= paste["trajectories"]


def test_the_papers_rule_asks_about_won_episodes_too(shops: Any) -> None:
    shop, golden, ways = shops("code")
    explored, probes = explore_prefixes(shop, STUDENT, ways, golden)
    by_code, _ = value(shop, STUDENT, probes, explored)
    other, golden, ways = shops("paper", rule="paper")
    explored, probes = explore_prefixes(other, STUDENT, ways, golden)
    by_paper, _ = value(other, STUDENT, probes, explored)
    assert by_paper.outputs["continuations"] > by_code.outputs["continuations"]
