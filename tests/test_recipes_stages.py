"""Stages in one process: the same code as on a cluster, with real models and engines."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

pytest.importorskip("torch")
pytest.importorskip("ray")

from step_ray import store
from step_ray.config import parse_config
from step_ray.evaluation.made import Ran
from step_ray.evaluation.table import rows_of
from step_ray.models.fingerprint import model_fingerprint
from step_ray.models.local import LocalModel
from step_ray.models.make import PACKAGED_MODEL
from step_ray.progress import Progress
from step_ray.publication import publish
from step_ray.recipes import results, stages
from step_ray.recipes.verify import verify
from step_ray.recipes.workshop import Workshop
from step_ray.recipes.world import open_world
from step_ray.run import Run
from step_ray.schema import SCHEMA
from step_ray.synthesis import pipeline, raw
from step_ray.synthesis.golden import golden_episode
from step_ray.synthesis.pipeline import Made
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.worker import EpisodeWorker, WorkerSettings
from step_ray.teacher.expert import ExpertTeacher
from step_ray.teacher.make import make_teacher
from step_ray.trajectory import Trajectory

ENV = {
    "games": {"train": 4, "valid_seen": 1, "valid_unseen": 1},
    "task_types": ["pick_and_place_simple"],
    "max_steps": 3,
}


def here(
    specs: Sequence[EpisodeSpec],
    folder: Path,
    settings: WorkerSettings,
    load: Any,
    connect: Any,
    *_: Any,
) -> Made:
    """What :func:`run_episodes` does, by one worker in this process."""
    worker = EpisodeWorker(settings, load, connect() if connect else None)
    try:
        rows = worker.run_block(specs)
    finally:
        worker.close()
    publish(folder, [{name: row[name] for name in SCHEMA.names} for row in rows])
    return Made({}, {}, {})


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> Iterator[Workshop]:
    """A workshop with the config that a test gives; its episodes are played right here."""
    monkeypatch.setattr(stages, "run_episodes", here)
    base = {"output": str(tmp_path / "run"), "env": ENV, "student": {"max_tokens": 16, "slots": 4}}
    config = parse_config({**base, **request.param})
    with Run.open(config.output, config.resolved()) as run:
        yield Workshop(run, config, open_world(config), Progress())


@pytest.mark.parametrize(
    "shop",
    [
        {
            "transfer": {"shop": {"env": {"name": "webshop", "products": 60}, "tasks": 2}},
            "evaluation": {"max_steps": 2, "original": True, "protocol": "own"},
        }
    ],
    indirect=True,
)
def test_students_are_evaluated_elsewhere_too(shop: Workshop) -> None:
    with shop.run.stage("base") as base:
        model = Path(shutil.copytree(PACKAGED_MODEL, base.path / "model"))
        (model / "generation_config.json").write_text("{}")
        base.finish({"model": model, "trajectories": 3})
    found = results.conclude(shop, PACKAGED_MODEL, {"base": base}, {})
    rows = {(row["student"], row["split"]): row for row in found["students"]}
    assert set(rows) == {
        (student, split)
        for student in ("original", "base")
        for split in ("valid_seen", "valid_unseen", "shop/test")
    }
    assert rows["base", "shop/test"]["transfer"] == "shop"
    assert "transfer" not in rows["base", "valid_seen"]
    assert [rows[student, "shop/test"]["n"] for student in ("original", "base")] == [2, 2]
    run = shop.run.path
    played = list(store.read(run / "evaluation_shop", kept_only=False))
    assert {one.env for one in played} == {"webshop"}
    assert {len(one.turns) for one in played} <= set(range(41)), "its own cap, not alfworld's 2"
    assert {len(one.turns) for one in store.read(run / "evaluation", kept_only=False)} <= {0, 1, 2}
    assert json.loads((run / "results.json").read_text())["students"] == found["students"]
    assert "shop/test" in (run / "report" / "index.html").read_text()
    compared = {row.split: row for row in rows_of([Ran("env", "m", 0, run)])}
    assert compared["shop/test"].n == 2
    assert verify(run) == [], "each is replayed in its own world"


@pytest.mark.parametrize(
    "shop",
    [
        {"teacher": {"type": "self", "weights": weights, "constrain": False, "max_tokens": 24}}
        for weights in ("acting", "original")
    ],
    indirect=True,
    ids=["acting", "original"],
)
def test_an_agent_is_its_own_teacher(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    @contextlib.contextmanager
    def hosted(config: Any, env: str, run: Path, engines: Any, patience: Any) -> Iterator[Any]:
        assert engines is None, "local students run in their workers"
        asked.append(config.model.model)
        with LocalModel(config.model.model, slots=4) as model:
            yield make_teacher(config, env, run, model)

    monkeypatch.setattr(stages, "teacher_of", hosted)
    agent = Path(shutil.copytree(PACKAGED_MODEL, shop.run.path / "agent" / "model"))
    (agent / "generation_config.json").write_text("{}")
    made = stages.synthesize(shop, "reflected", agent, shop.world.train[:2], PACKAGED_MODEL)
    teacher: Any = shop.config.teacher
    assert asked == [str(agent if teacher.weights == "acting" else PACKAGED_MODEL)]
    rows = list(store.read_rows(made.path, kept_only=False))
    assert len(rows) == 2
    assert {row["provenance"]["student"] for row in rows} == {model_fingerprint(agent)}
    told = made.outputs["teacher"]
    assert told["asked"] >= 2
    spoiled = [row for row in rows if row["outcome"] == "teacher_error"]
    assert told.get("unusable replies", 0) >= teacher.attempts * len(spoiled)
    summary = stages.synthesis_summary(rows)
    assert summary["kept"] + sum(summary["drop_reasons"].values()) == 2


class InterruptionError(Exception):
    """Ends a stage amid its episodes."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a stage starts on the cluster: folders of students, and ``teacher``."""
    names: list[str] = []

    @contextlib.contextmanager
    def engines(config: Any, models: Sequence[Path], *_: Any) -> Iterator[Any]:
        names.extend(model.name for model in models)
        yield lambda path: None

    @contextlib.contextmanager
    def hosted(*_: Any) -> Iterator[Any]:
        names.append("teacher")
        yield ExpertTeacher()

    monkeypatch.setattr(stages, "students_of", engines)
    monkeypatch.setattr(stages, "teacher_of", hosted)
    return names


def playing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Stages write the rows of the next ``number`` episodes, then are interrupted; one whose rows
    are all there ends."""

    def play(specs: Sequence[EpisodeSpec], folder: Path, *rest: Any) -> Made:
        left = pipeline.unfinished(specs, folder, print)
        assert rest[-1] == left
        if not left:
            return Made({}, {}, {})
        ids = [spec.id for spec in left[:number]]
        block = raw.Block(folder, ids, pa.schema([pa.field("id", pa.string())]), lambda rows: None)
        for one in ids:
            block.add({"id": one})
        block.close()
        raise InterruptionError

    monkeypatch.setattr(stages, "run_episodes", play)


def agents(shop: Workshop, *names: str) -> dict[str, Path]:
    made = {}
    for name in names:
        made[name] = Path(shutil.copytree(PACKAGED_MODEL, shop.run.path / "agents" / name))
        (made[name] / "generation_config.json").write_text(json.dumps({"name": name}))
    return made


@pytest.mark.parametrize("shop", [{}], indirect=True)
def test_a_synthesis_without_episodes_left_starts_nobody(
    shop: Workshop, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    student = agents(shop, "student")["student"]
    for number, expected in ((1, ["teacher", "student"]), (99, ["teacher", "student"])):
        playing(monkeypatch, number)
        with pytest.raises(InterruptionError):
            stages.synthesize(shop, "reflected", student, shop.world.train[:2], PACKAGED_MODEL)
        assert started == expected
        started.clear()
    made = stages.synthesize(shop, "reflected", student, shop.world.train[:2], PACKAGED_MODEL)
    assert made.done
    assert started == []
    assert "teacher" in made.outputs, "it had one, if not now"


@pytest.mark.parametrize("shop", [{}], indirect=True)
def test_only_students_with_episodes_left_are_evaluated(
    shop: Workshop, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    students = agents(shop, "a", "b")
    first, second = sorted(students, key=lambda name: model_fingerprint(students[name]))
    own = sum(map(len, shop.world.held_out.values())) * len(shop.config.evaluation.seeds)
    for number, expected in ((own, {first, second}), (own, {second})):
        playing(monkeypatch, number)
        with pytest.raises(InterruptionError):
            stages.evaluate(shop, students)
        assert set(started) == expected
        started.clear()
    assert stages.evaluate(shop, students).done
    assert started == []


@pytest.mark.parametrize("share", [True, False])
def test_an_engine_of_all_is_started_whole(share: bool) -> None:
    student = {"backend": "vllm", "share_engine": share}
    config = parse_config({"output": "x", "student": student, "training": {"lora": {"r": 4}}})
    students = {"one": "1", "two": "2"}
    left = [EpisodeSpec("alfworld", "d", "train", "t", "x", 0, student="two")]
    expected = [Path("1"), Path("2")] if share else [Path("2")]
    assert stages.acting(config.student, students, left) == expected
    assert stages.acting(config.student, students, []) == []


@pytest.mark.parametrize("shop", [{}], indirect=True)
def test_an_interrupted_expert_goes_on_where_it_was(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def plays(spec: EpisodeSpec, *given: Any) -> Trajectory:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(spec.task)
        return golden_episode(spec, *given)

    monkeypatch.setattr(stages, "WRITTEN_EVERY", 0.0)
    monkeypatch.setattr(stages, "golden_episode", plays)
    with pytest.raises(KeyboardInterrupt):
        stages.golden(shop)
    before, asked[:] = [*asked], []
    stage = stages.golden(shop)
    assert [*before, *asked] == [task.id for task in shop.world.train]
    assert [one.task for one in store.read(stage.path)] == [*before, *asked]
