"""What another run of a suite has played is taken as it is, and nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from step_ray.publication import publish
from step_ray.recipes.known import take_known
from step_ray.run import Run
from step_ray.schema import to_row
from step_ray.synthesis import raw
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.trajectory import Trajectory, Turn


def spec(student: str, task: str) -> EpisodeSpec:
    return EpisodeSpec(
        env="alfworld", data="d", split="valid_seen", task=task, task_type="look", seed=0,
        student=student, teacher="", prompt_version="", max_steps=3,
    )  # fmt: skip


def row(played: EpisodeSpec, action: str = "look") -> dict[str, Any]:
    turns = (Turn("I look.", action, "Nothing."),)
    made = Trajectory(
        played.id, played.task, "alfworld", played.split, "look", "Do.", "A room.", turns, 0.0,
        False, "step_limit", provenance=played.provenance("e", "d", "", "1"),
    )  # fmt: skip
    return to_row(made, played.to_dict(), "")


def evaluated(
    path: Path, shared: Path | None, specs: Sequence[EpisodeSpec], settings: dict[str, Any]
) -> tuple[set[str], list[str]]:
    """A run that has evaluated ``specs``; the ids that it took, and what it said."""
    said: list[str] = []
    with Run.open(path, {}) as run:
        run.shared = shared
        with run.stage("evaluation", {"of": [one.id for one in specs]}, settings) as stage:
            taken = take_known(stage, shared, specs, said.append)
            rows = {one.id: row(one) for one in specs}
            if shared is not None:
                found = raw.rows(raw.complete(stage.path), ["id", "turns"])
                assert {each["id"]: each["turns"] for each in found} == {
                    each: rows[each]["turns"] for each in taken
                }
            publish(stage.path, list(rows.values()))
            stage.finish({"data": stage.path})
    return taken, said


def test_episodes_of_a_finished_evaluation_are_taken(tmp_path: Path) -> None:
    shared, one, other = tmp_path / "shared", spec("s1", "t1"), spec("s2", "t1")
    assert evaluated(tmp_path / "a", shared, [one], {"judge": True}) == (set(), [])
    taken, said = evaluated(tmp_path / "b", shared, [one, other], {"judge": True})
    assert taken == {one.id}
    assert said == ["evaluation: 1 of 2 episodes were played by another run"]
    third = spec("s1", "t2")
    assert evaluated(tmp_path / "c", shared, [one, other, third], {"judge": True})[0] == {
        one.id,
        other.id,
    }


def test_episodes_that_were_played_otherwise_are_not(tmp_path: Path) -> None:
    shared, one = tmp_path / "shared", spec("s1", "t1")
    evaluated(tmp_path / "a", shared, [one], {"student": {"backend": "local"}})
    assert not evaluated(tmp_path / "b", shared, [one], {"student": {"backend": "vllm"}})[0]
    assert not evaluated(tmp_path / "c", None, [one], {"student": {"backend": "local"}})[0]


def interrupted(path: Path, shared: Path, specs: Sequence[EpisodeSpec]) -> int:
    """How many episodes an attempt has taken that fails then."""
    with Run.open(path, {}) as run, run.stage("evaluation", {"of": "both"}) as stage:
        taken = take_known(stage, shared, specs, lambda text: None)
        assert len(list(raw.rows(raw.complete(stage.path), ["id"]))) == len(specs)
        raise KeyError(len(taken))


def test_an_interrupted_stage_keeps_its_own(tmp_path: Path) -> None:
    shared, both = tmp_path / "shared", [spec("s1", "t1"), spec("s2", "t1")]
    evaluated(tmp_path / "a", shared, both, {})
    for known in (2, 0):  # the second attempt finds what the first one took
        with pytest.raises(KeyError, match=str(known)):
            interrupted(tmp_path / "b", shared, both)
