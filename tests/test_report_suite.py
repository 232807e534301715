"""A comparison as a page, as Markdown and as CSV."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from step_ray.evaluation.comparison import Gap
from step_ray.evaluation.costs import Cost
from step_ray.evaluation.made import Pasting
from step_ray.evaluation.statistics import Interval
from step_ray.evaluation.table import Row, Versus
from step_ray.lineage import RunError
from step_ray.report import suite
from step_ray.report.suite import Findings

BASE = Row(
    env="corridor",
    student="step/base",
    split="test",
    n=12,
    each={0: 0.5, 3: 0.25},
    success=Interval(0.375, 0.1, 0.65),
    reward=Interval(0.4, 0.2, 0.6),
    versus=None,
    trajectories=10,
    cost=Cost(1_000, 5_000, 1.5, 6.0, 3.0),
    rates={"recovery_rate": None, "episode_recovery_rate": None, "invalid_action_rate": 0.0,
           "loop_rate": 0.25},
    by_type={"look_at": 0.5},
    kinds={},
    turns=40,
    curve="a",
)  # fmt: skip
GAP = Gap(Interval(0.25, 0.05, 0.45), 0.04, Interval(0.25, 0.1, 0.4), 0.0002)
STEP = replace(
    BASE,
    student="step",
    versus=Versus(GAP, GAP),
    trajectories=30,
    kinds={"invalid": 7, "<loop>": 3},
    rates={**BASE.rates, "recovery_rate": 0.2},
)
FOUND = Findings(
    "A <b>comparison</b>",
    [BASE, STEP],
    ["4 of 4 runs."],
    {"step": {"undo": 4, "loop": 1}},
    [Pasting("corridor", "steca", 20, 20, 5)],
)


def test_what_is_written(tmp_path: Path) -> None:
    html = suite.write(tmp_path, FOUND).read_text()
    assert "A &lt;b&gt;comparison" in html
    assert "<b>" not in html
    assert "<loop>" not in html
    assert not re.search(r"(src|href)=", html), "it needs nothing but itself"
    lines = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [line["student"] for line in lines] == ["step/base", "step"]
    assert lines[0]["seeds"] == "0 3"
    assert float(lines[1]["success_gap_seeds_low"]) == 0.05
    assert float(lines[1]["reward_gap_tasks_high"]) == 0.4
    assert [float(lines[1][f"p_reward_{over}"]) for over in ("seeds", "tasks")] == [0.04, 0.0002]
    assert lines[0]["success_gap_seeds"] == lines[0]["p_reward_tasks"] == ""
    assert lines[0]["recovery_rate"] == ""
    assert float(lines[1]["errors"]) == 10
    table = (tmp_path / "table.md").read_text()
    figures = "37.5 (10.0 to 65.0) | +25.0 (+5.0 to +45.0) | 0.040 | < 0.001 |"
    assert f"| step | test | 12 | 50 25 | {figures}" in table
    assert "| steca | corridor | 20 | 20 | 5 | 25.0 (11.2 to 46.9) |" in table
    assert table.rstrip().endswith("4 of 4 runs.")


def test_every_figure_is_in_the_page() -> None:
    html = suite.page(FOUND)
    assert html.count('class="dot"') == 2 * 3, "success, reward, reward over data, of each row"
    assert html.count('class="curve"') == 1, "more data of the same training: a learning curve"
    apart = suite.page(replace(FOUND, rows=[BASE, replace(STEP, curve="b")]))
    assert 'class="curve"' not in apart
    assert 'aria-label="look_at: step/base 0.500, step 0.500"' in html
    assert "10 of 40 turns: invalid 7, &lt;loop&gt; 3" in html
    assert "5: undo 4, loop 1" in html


def test_what_has_no_interval_is_shown_without() -> None:
    alone = Interval(0.5, math.nan, math.nan)
    found = replace(FOUND, rows=[replace(BASE, success=alone, reward=alone)])
    assert "(nan" not in suite.markdown(found)
    assert "nan" not in suite.as_csv(found.rows)
    assert "nan" not in suite.page(found)


def test_a_single_seed_is_compared_over_tasks() -> None:
    nothing = Interval(0.25, math.nan, math.nan)
    versus = Versus(*[replace(GAP, seeds=nothing, p_seeds=math.nan)] * 2)
    found = replace(FOUND, rows=[replace(STEP, versus=versus)])
    assert "| +25.0 (+10.0 to +40.0) |  | < 0.001 |" in suite.markdown(found)
    assert "nan" not in suite.as_csv(found.rows)


def test_a_file_is_no_folder_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match="a file stands where a folder is needed"):
        suite.write(tmp_path / "taken", FOUND)
