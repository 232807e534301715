"""What docs/operate.md says of sizes: its formula and its figures are those of the benchmarks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests" / "benchmarks"))

pytest.importorskip("ray")

from sizing import rate, tables  # noqa: E402

PAGE = (ROOT / "docs" / "operate.md").read_text("utf-8")


def measured(name: str) -> Any:
    path = ROOT / "docs" / "benchmarks" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"{path.name} has not been measured")
    return json.loads(path.read_text("utf-8"))


def test_the_tables_are_those_of_the_benchmark() -> None:
    assert tables(measured("sizing")) in PAGE, "python tests/benchmarks/sizing.py --table"


def test_the_formula_meets_the_measured_points() -> None:
    found = measured("sizing")
    beside, cpu = found["beside_ms"] / 1e3, found["cpu_ms_per_review"]["alfworld"] / 1e3
    for point in found["points"]:
        said = rate(
            point["in_flight"], found["slots"], found["seconds"], beside, found["cores"], cpu
        )
        assert said == pytest.approx(point["reviews_per_second"], rel=0.2), point
    few, *_, many = found["points"]
    assert few["model_busy"] < 0.3, "the points show both sides of the bend"
    assert many["model_busy"] > 0.8


def test_larger_runs_took_what_smaller_ones_foretold() -> None:
    told = [row for row in measured("sizing")["extrapolation"] if "foretold" in row]
    assert {row["thinks"] for row in told} == {0.0, 0.25}
    for row in told:
        assert row["foretold"] == pytest.approx(row["seconds"], rel=0.25), row
