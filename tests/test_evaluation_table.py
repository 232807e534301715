"""The table of a comparison, from run folders as recipes leave them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from step_ray.evaluation.made import Ran, error_kinds
from step_ray.evaluation.statistics import summarise, wilson
from step_ray.evaluation.table import rows_of
from step_ray.lineage import RunError
from step_ray.publication import publish
from step_ray.run import Run
from step_ray.schema import to_row
from step_ray.trajectory import Turn
from tests.compared_runs import CONFIG, episode, make


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
    assert eto.versus.success.seeds.value == pytest.approx(11 / 12)
    assert eto.versus.reward.tasks.value == pytest.approx(11 / 12)
    assert eto.versus.success.p_tasks == pytest.approx(2 / 2**6, abs=0.01), "of six tasks"
    assert eto.versus.success.p_seeds == pytest.approx(0.058, abs=1e-3), "t = 11 of two seeds"
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
    assert rows["step/base"].versus.success.seeds.value == pytest.approx(-0.5)
    with pytest.raises(RunError, match="'stepp'; there are: step/base, step"):
        rows_of(runs, "stepp")


def test_a_method_keeps_its_row_though_it_changed_nothing(tmp_path: Path) -> None:
    """ETO without a pair ends with the agent that it began with."""
    same = {"golden_only": ("m0", [True, False])}
    runs = [
        Ran("corridor", "step", 0, make(tmp_path / "a", 0, {**same, "step": ("m1", [True] * 2)})),
        Ran("corridor", "eto", 0, make(tmp_path / "b", 0, same)),
    ]
    assert [row.student for row in rows_of(runs)] == ["step/golden_only", "step", "eto"]
    missing = [*runs, Ran("corridor", "bare", 1, make(tmp_path / "c", 1, {"base": ("m2", [True])}))]
    assert rows_of(missing, "eto")[-1].versus is None, "no episode in common"


def test_one_student_evaluated_in_two_ways_is_two_rows(tmp_path: Path) -> None:
    greedy = Ran("corridor", "greedy", 0, make(tmp_path / "a", 0, {"base": ("m0", [False] * 2)}))
    sampled = make(tmp_path / "b", 0, {"base": ("m0", [True] * 2), "step": ("m1", [True] * 2)})
    played = [
        replace(episode(model, str(n), True), id=f"warm-{model}-{n}")
        for model in ("m0", "m1")
        for n in range(2)
    ]
    with (
        Run.open(sampled, CONFIG, fresh=True) as run,
        run.stage("evaluation", {"students": {"base": "m0", "step": "m1"}}, {"t": 1}) as stage,
    ):
        publish(stage.path, [to_row(one, {"x": one.id}) for one in played])
        stage.finish({"data": stage.path})
    rows = rows_of([greedy, Ran("corridor", "sampled", 0, sampled)])
    assert [(row.student, row.success.value) for row in rows] == [
        *(("greedy", 0.0), ("sampled/base", 1.0), ("sampled", 1.0))
    ]


def test_seeds_of_one_intermediate_student_are_put_together(tmp_path: Path) -> None:
    """The base agent of two methods, one of which has not run with every seed yet."""
    runs = [
        Ran("corridor", method, seed, make(tmp_path / f"{method}{seed}", seed, students))
        for method, seed, students in (
            ("mask", 0, {"base": ("m0", [True]), "step": ("m1", [True])}),
            ("bare", 0, {"base": ("m0", [True]), "step": ("m2", [True])}),
            ("bare", 1, {"base": ("m3", [False]), "step": ("m4", [True])}),
        )
    ]
    rows = {row.student: row for row in rows_of(runs)}
    assert list(rows) == ["mask/base", "mask", "bare"]
    assert rows["mask/base"].each == {0: 1.0, 1: 0.0}


def test_a_method_that_ends_early_counts_with_its_last_student(tmp_path: Path) -> None:
    runs = [
        Ran("corridor", "rounds", seed, make(tmp_path / str(seed), seed, students))
        for seed, students in (
            (0, {"step": ("m0", [True, False]), "step_2": ("m1", [True, True])}),
            (1, {"step": ("m2", [False, False])}),
        )
    ]
    rows = {row.student: row for row in rows_of(runs)}
    assert rows["rounds"].each == {0: 1.0, 1: 0.0}
    assert rows["rounds/step"].each == {0: 0.5, 1: 0.0}
    assert (rows["rounds"].ended, rows["rounds/step"].ended) == ((1,), ())


def test_what_was_recovered_is_a_share_of_the_errors_of_all_seeds(tmp_path: Path) -> None:
    """One error, recovered, in one seed, and four that were not in another: one of five."""
    runs = []
    for seed, (won, errors) in enumerate(((True, 1), (False, 4))):
        path = make(tmp_path / str(seed), seed, {"step": (f"m{seed}", [won])})
        turns = (Turn("", "dance", "Nothing happens.", valid=False),) * errors
        played = replace(episode(f"m{seed}", "0", won), id=f"odd-{seed}", turns=turns)
        with (
            Run.open(path, CONFIG, fresh=True) as run,
            run.stage("evaluation", {"students": {"step": f"m{seed}"}}, {"t": 1}) as stage,
        ):
            publish(stage.path, [to_row(played, {"x": played.id})])
            stage.finish({"data": stage.path})
        runs.append(Ran("corridor", "step", seed, path))
    (row,) = rows_of(runs)
    assert row.kinds == {"invalid": 5}
    assert row.rates["recovery_rate"] == 1 / 5
    assert row.rates["episode_recovery_rate"] == 1 / 2


@pytest.mark.parametrize("worlds", [1, 3])
def test_seeds_that_won_equally_often_have_the_interval_of_all_tasks(
    tmp_path: Path, worlds: int
) -> None:
    """Five tasks that three seeds played are five; in three worlds they are fifteen."""
    runs = []
    for seed in range(3):
        students = {"a": (f"m{seed}", [True, False, False, False, False])}
        path = make(tmp_path / str(seed), seed, students, data=f"world {seed % worlds}")
        runs.append(Ran("corridor", "step", seed, path))
    (row,) = rows_of(runs)
    assert row.n == 15
    of_tasks = wilson(worlds, 5 * worlds)
    assert (row.success.value, row.success.low, row.success.high) == pytest.approx(
        (0.2, of_tasks.low, of_tasks.high)
    )


def test_tasks_of_one_name_in_two_worlds_are_two(tmp_path: Path) -> None:
    """Catalogues of two seeds: a better student in every task of both is surer than of one."""
    runs = []
    for seed in range(2):
        students = {"base": (f"a{seed}", [False] * 6), "step": (f"b{seed}", [True] * 6)}
        path = make(tmp_path / str(seed), seed, students, data=f"catalogue {seed}")
        runs.append(Ran("corridor", "step", seed, path))
    versus = rows_of(runs)[1].versus
    assert versus is not None
    assert versus.success.p_tasks < 0.005, "2 / 2**12, not 2 / 2**6"


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
            {
                **{"student": student, "split": "shop/test", "transfer": "shop"},
                **{"train_trajectories": 10, **summarise([one])},
            }
            for student, one in zip(("base", "step"), played, strict=True)
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
    assert versus.success.seeds.value == 1.0


def test_runs_that_lack_something_are_named(runs: list[Ran]) -> None:
    run = runs[0].path
    results = json.loads((run / "results.json").read_text())
    results["students"][0]["student"] = "mine"
    for text, said in (("{}", "figures of students"), (json.dumps(results), "results are of mine")):
        (run / "results.json").write_text(text)
        with pytest.raises(RunError, match=said):
            rows_of(runs)
    shutil.rmtree(run / "evaluation")
    with pytest.raises(RunError, match="its stage evaluation is not done"):
        rows_of(runs)
