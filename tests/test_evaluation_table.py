"""The table of a comparison, from run folders as recipes leave them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from step_ray.evaluation.made import Ran, error_kinds
from step_ray.evaluation.statistics import results_of
from step_ray.evaluation.table import rows_of
from step_ray.lineage import RunError
from step_ray.publication import publish
from step_ray.run import Run
from step_ray.schema import to_row
from step_ray.trajectory import Provenance, Trajectory, Turn

CONFIG = {
    "training": {"workers": 2, "threads_per_worker": 3, "use_gpu": True},
    "student": {"backend": "local"},
}


def episode(model: str, task: str, won: bool) -> Trajectory:
    turns = (Turn("", "look", "dark", valid=won), Turn("", "go", "out", reward=float(won)))
    return Trajectory(
        f"{model}-{task}", task, "corridor", "test", f"type {int(task) % 2}", "", "", turns,
        float(won), won, "success" if won else "step_limit", provenance=Provenance(student=model),
    )  # fmt: skip


def make(path: Path, seed: int, students: dict[str, tuple[str, list[bool]]]) -> Path:
    """A run whose students (name -> model, wins) were trained one after the other."""
    with Run.open(path, CONFIG) as run:
        before = None
        for name in students:
            with run.stage(
                name, {"before": before} if before else {}, {"epochs": 2, "seed": seed}
            ) as stage:
                (stage.path / "model").mkdir()
                (stage.path / "model" / "w").write_text(name)
                stage.finish({"model": stage.path / "model", "tokens": 100, "trajectories": 10})
            before = stage
        names = {name: model for name, (model, _) in students.items()}
        with run.stage("evaluation", {"students": names}) as stage:
            played = [
                episode(model, str(task), won)
                for model, wins in students.values()
                for task, won in enumerate(wins)
            ]
            publish(stage.path, [to_row(one, {"x": one.id}) for one in played])
            stage.finish({"data": stage.path})
        rows = results_of(played, names, ["test"])
        run.write_results(
            {
                "students": [{**row, "train_trajectories": 10} for row in rows],
                "synthesis": {"error_kinds": {"loop": 2}},
            }
        )
    return path


@pytest.fixture
def runs(tmp_path: Path) -> list[Ran]:
    def of(method: str, seed: int, **students: tuple[str, list[bool]]) -> Ran:
        return Ran("corridor", method, seed, make(tmp_path / f"{method}{seed}", seed, students))

    no, yes = [False] * 6, [True] * 6
    return [
        of("step", 0, base=("m0", no), step=("m1", [True] * 3 + [False] * 3)),
        of("step", 1, base=("m2", no), step=("m3", [True] * 3 + [False] * 3)),
        of("eto", 0, base=("m0", no), eto_1=("m4", no), eto_2=("m5", yes)),
        of("eto", 1, base=("m2", no), eto_1=("m6", no), eto_2=("m7", [*yes[:5], False])),
    ]


def test_rows_and_their_figures(runs: list[Ran]) -> None:
    rows = {row.student: row for row in rows_of(runs)}
    assert list(rows) == ["step/base", "step", "eto/eto_1", "eto"], "one base agent, not two"
    eto = rows["eto"]
    assert (eto.n, eto.trajectories, eto.cost.tokens) == (12, 10, 100)
    assert eto.cost.trained == 3 * 2 * 100, "two passes of each of three trainings"
    assert eto.each == {0: 1.0, 1: pytest.approx(5 / 6)}
    assert eto.success.value == pytest.approx((1 + 5 / 6) / 2)
    assert (eto.success.low, eto.success.high) == (0.0, 1.0), "two seeds say next to nothing"
    assert eto.versus is not None
    assert eto.versus.success.value == pytest.approx(11 / 12)
    assert eto.versus.reward.value == pytest.approx(11 / 12)
    assert eto.versus.p_success == pytest.approx(2 / 2**11)
    assert rows["step/base"].versus is None
    assert eto.cost.gpu_hours == pytest.approx(2 * eto.cost.hours), "two GPUs in every stage"
    assert eto.cost.cpu_hours == pytest.approx(6 * eto.cost.hours)
    assert rows["step"].rates["recovery_rate"] == 0.0
    assert rows["step"].kinds == {"invalid": 6}
    assert rows["step"].turns == 24
    assert rows["step"].by_type == {"type 0": pytest.approx(2 / 3), "type 1": pytest.approx(1 / 3)}
    assert error_kinds(runs) == {"step": {"loop": 4}, "eto": {"loop": 4}}


def test_the_reference_is_chosen(runs: list[Ran]) -> None:
    rows = {row.student: row for row in rows_of(runs, "step")}
    assert rows["step"].versus is None
    assert rows["step/base"].versus is not None
    assert rows["step/base"].versus.success.value == pytest.approx(-0.5)
    with pytest.raises(RunError, match="'stepp'; there are: step/base, step"):
        rows_of(runs, "stepp")


def test_a_split_without_episodes_has_no_row(runs: list[Ran]) -> None:
    with Run.open(runs[0].path, CONFIG) as opened:
        rows = [{**row, "split": "unseen"} for row in opened.results["students"]]
        opened.write_results({**opened.results, "students": rows})
    with pytest.raises(
        RunError, match=r"step0: base has no episode in split unseen, only in test;"
    ):
        rows_of(runs)


def test_students_elsewhere_have_rows_of_their_own(runs: list[Ran]) -> None:
    """What a run's students did in another environment is read from that evaluation."""
    run = runs[0]
    played = [
        replace(episode(model, "7", won), split="test", id=f"shop-{model}")
        for model, won in (("m0", False), ("m1", True))
    ]
    with Run.open(run.path, CONFIG) as opened:
        with opened.stage("evaluation_shop", {"students": {"base": "m0", "step": "m1"}}) as stage:
            publish(stage.path, [to_row(one, {"x": one.id}) for one in played])
            stage.finish({"data": stage.path})
        rows = [
            {"student": student, "split": "shop/test", "transfer": "shop", "train_trajectories": 10}
            for student in ("base", "step")
        ]
        opened.write_results({**opened.results, "students": opened.results["students"] + rows})
    found = {(row.student, row.split): row for row in rows_of([run])}
    assert list(found) == [
        *(
            ("step/base", "test"),
            ("step", "test"),
            ("step/base", "shop/test"),
            ("step", "shop/test"),
        )
    ]
    assert (found["step", "shop/test"].n, found["step", "shop/test"].success.value) == (1, 1.0)
    assert found["step", "test"].n == 6
    versus = found["step", "shop/test"].versus
    assert versus is not None
    assert versus.success.value == 1.0
