"""What students cost: which stages they were made of, and what these had reserved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from step_ray.evaluation.costs import Cost, ancestry, costs, reserved, spent
from step_ray.files import write_json_atomic
from step_ray.run import Run

CONFIG: dict[str, Any] = {
    "training": {"workers": 4, "threads_per_worker": 2, "use_gpu": True},
    "student": {"backend": "vllm", "replicas": 2, "gpus_per_replica": 0.5},
    "teacher": {"type": "llm", "model": {"replicas": 1, "gpus_per_replica": 4}},
    "synthesis": {"workers": 3},
    "evaluation": {"workers": 5},
}


def a_run(path: Path, share: Path | None = None, mask: str = "partial") -> Path:
    """The stages of STeP, each said to have taken an hour; models are known by fingerprints."""
    models = {"base": "f-base", "step": "f-step", "golden_only": "f-golden"}

    def train(name: str, inputs: dict[str, Any], how: dict[str, Any]) -> None:
        with run.stage(name, inputs, {"epochs": 3, **how}) as stage:
            if not stage.done:
                (stage.path / "model").mkdir()
                (stage.path / "model" / "w").write_text(name)
                stage.finish({"model": stage.path / "model", "tokens": 100, "trajectories": 10})

    with Run.open(path, {**CONFIG, "mask": mask}) as run:
        run.shared = share
        with run.stage("golden") as golden:
            if not golden.done:
                golden.finish({"rows": 5})
        train("base", {"golden": golden, "start": "f-llm"}, {})
        with run.stage("reflected", {"student": "f-base", "tasks": ["t"]}) as reflected:
            if not reflected.done:
                reflected.finish({"environments": {}, "teacher": {}, "student": {}})
        train("step", {"reflected": reflected, "start": "f-llm"}, {"mask": mask})
        train("golden_only", {"golden": golden, "start": "f-llm"}, {})
        with run.stage("evaluation", {"students": models, "mask": mask}) as evaluation:
            evaluation.finish({"environments": {}, "student": {}})
    for name in ("golden", "base", "reflected", "step", "golden_only", "evaluation"):
        record = run.path / name / "stage.json"
        write_json_atomic(record, {**_read(record), "seconds": 3600.0})
    return path


def _read(path: Path) -> dict[str, Any]:
    from step_ray.lineage import read_json

    return read_json(path)


def test_a_student_costs_what_all_it_came_from_took(tmp_path: Path) -> None:
    found = costs(a_run(tmp_path / "run"))
    assert found["base"] == Cost(100, 300, 2.0, 1 + 8, 4)
    assert found["golden_only"] == found["base"]
    # golden (1 CPU), base and step (8 CPUs, 4 GPUs each), reflected (3 workers, 2 + 1 engines)
    assert found["step"] == Cost(100, 600, 4.0, 1 + 8 + 8 + 3 + 3, 4 + 4 + 2 * 0.5 + 4)
    assert "evaluation" not in found


def test_a_shared_stage_costs_each_student_in_full_and_all_of_them_once(tmp_path: Path) -> None:
    one = a_run(tmp_path / "one", tmp_path / "shared")
    other = a_run(tmp_path / "other", tmp_path / "shared", mask="none")
    assert costs(other) == costs(one)
    assert spent([one, other]) == pytest.approx(8.0), "a student and a test more, not a run"


def record(name: str, outputs: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    return {"name": name, "outputs": outputs, "identity": {"inputs": inputs}}


def test_ancestry_goes_by_stages_and_by_models() -> None:
    records = {
        "a": record("a", {}),
        "b": record("b", {}, golden={"stage": "a"}, start="elsewhere"),
        "c": record("c", {}, student="fb", tasks=["fb", "fx"]),
        "d": record("d", {}, start="fb", pairs={"stage": "c"}),
        "x": record("x", {}, start="fb"),
        "self": record("self", {}, start="fs"),
    }
    makers = {"fb": "b", "fx": "x", "fs": "self"}
    assert sorted(ancestry("d", records, makers)) == ["a", "b", "c", "d"]
    assert list(ancestry("self", records, makers)) == ["self"], "trained, and no other than before"
    assert list(ancestry("gone", records, makers)) == []


def test_what_stages_hold() -> None:
    local = {**CONFIG, "student": {"backend": "local"}, "teacher": {"type": "expert"}}
    played: dict[str, Any] = {"environments": {}}
    assert reserved(record("explored", played), local) == (3, 0)
    assert reserved(record("explored", played), CONFIG) == (3 + 2, 1.0)
    assert reserved(record("reflected", {**played, "teacher": {}}), local) == (3, 0)
    assert reserved(record("evaluation", played), local) == (5, 0)
    calibrated = record("calibrated", {**played, "teacher": {}})
    assert reserved(calibrated, CONFIG) == (3 + 1, 4), "no student is asked anything"
    assert reserved(record("pairs_1", {"pairs": {}}), CONFIG) == (1, 0)
    trained = {"model": {}, "tokens": {}}
    cpu = {**CONFIG, "training": {**CONFIG["training"], "use_gpu": False}}
    assert reserved(record("step", trained), cpu) == (8, 0)


@pytest.mark.parametrize(
    ("teacher", "changes", "reflected", "calibrated"),
    [
        ({"weights": "acting"}, {}, 1, 1),
        ({"weights": "original"}, {}, 2, 1),
        ({"weights": "original"}, {"share_engine": True}, 1, 1),
    ],
)
def test_a_teacher_that_is_the_student_holds_engines_of_its_own_where_it_must(
    teacher: dict[str, Any], changes: dict[str, Any], reflected: int, calibrated: int
) -> None:
    student = {**CONFIG["student"], **changes}
    config = {**CONFIG, "student": student, "teacher": {"type": "self", **teacher}}
    made: dict[str, Any] = {"environments": {}, "teacher": {}}
    for name, engines in (("reflected", reflected), ("calibrated", calibrated)):
        assert reserved(record(name, made), config) == (3 + engines * 2, engines * 2 * 0.5), name
    assert reserved(record("explored", {"environments": {}}), config) == (3 + 2, 1.0)
    alone = {**config, "student": {"backend": "local", "replicas": 1, "gpus_per_replica": 0.0}}
    assert reserved(record("reflected", made), alone) == (3 + 1, 0)
