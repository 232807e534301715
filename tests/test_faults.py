"""Faults on purpose strike once, where they are planned, and are refused when they are no plan."""

from __future__ import annotations

import errno
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from step_ray import faults
from step_ray.faults import Fault, FaultPlan, FaultPlanError


@pytest.fixture(autouse=True)
def nothing_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_passed", type(faults._passed)())


def plan(folder: Path, *planned: Fault) -> FaultPlan:
    return FaultPlan(str(folder / "marks"), planned)


def test_without_a_plan_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(faults.VARIABLE, raising=False)
    faults.point("shards-renamed")
    assert faults.plan() is None


def test_a_plan_survives_json(tmp_path: Path) -> None:
    made = plan(tmp_path, Fault("kill-driver", "here", 3), Fault("hang-env", episode=2, step=1))
    assert faults.parse(made.to_json()) == made


def test_a_full_disk_at_the_second_pass_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = plan(tmp_path, Fault("full-disk", "here", 2))
    monkeypatch.setenv(faults.VARIABLE, made.to_json())
    faults.point("here")
    faults.point("elsewhere")
    with pytest.raises(OSError, match="a drill, at here") as raised:
        faults.point("here")
    assert raised.value.errno == errno.ENOSPC
    faults.point("here")


def test_a_count_that_jumps_over_the_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = plan(tmp_path, Fault("full-disk", "episodes", 10))
    monkeypatch.setenv(faults.VARIABLE, made.to_json())
    faults.point("episodes", 9)
    with pytest.raises(OSError, match="a drill"):
        faults.point("episodes", 14)
    faults.point("episodes", 15)


def test_a_killed_driver_is_killed_once(tmp_path: Path) -> None:
    made = plan(tmp_path, Fault("kill-driver", "here"))
    code = "from step_ray import faults; faults.point('here'); print('alive')"
    for expected in ((-9, ""), (0, "alive\n")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(sys.path), faults.VARIABLE: made.to_json()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == expected, done.stderr


def test_faults_of_episodes_go_to_workers_by_id(tmp_path: Path) -> None:
    first, second = Fault("kill-worker", episode=1), Fault("hang-env", episode=1, step=4)
    made = plan(tmp_path, first, second, Fault("crash-env", episode=9), Fault("full-disk", "x"))
    shipped = pickle.loads(pickle.dumps(made.of_episodes(["a", "b", "c"])))
    assert shipped.episodes == {"b": (first, second)}
    assert [shipped.strikes(first), shipped.strikes(first), shipped.strikes(second)] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"folder": "x"}',
        *(
            json.dumps({"folder": "x", "faults": [fault]})
            for fault in (
                {"kind": "rain"},
                {"kind": "kill-driver"},
                {"kind": "kill-driver", "point": "../x"},
                {"kind": "kill-driver", "point": "x", "at": 0},
                {"kind": "hang-env"},
                {"kind": "hang-env", "episode": 1, "step": "2"},
                {"kind": "hang-env", "episode": 1, "color": "red"},
            )
        ),
    ],
)
def test_what_is_no_plan_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(faults.VARIABLE, text)
    with pytest.raises(FaultPlanError, match=faults.VARIABLE):
        faults.point("here")
