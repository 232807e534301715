"""What determines an episode, and the ids that follow from it on every machine."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

import pytest

from step_ray.synthesis.spec import EpisodeSpec
from step_ray.trajectory import canonical_json

SPEC = EpisodeSpec(
    env="alfworld",
    data="0123456789abcdef",
    split="train",
    task="pick_and_place_simple-Mug-None-Desk-301/trial_1",
    task_type="pick_and_place_simple",
    seed=7,
    rollout=1,
    student="s" * 64,
    teacher="expert",
    prompt_version="1",
    sampling='{"max_tokens":96,"temperature":0.7,"top_p":1.0}',
)
OTHER: dict[str, Any] = {
    "env": "webshop",
    "data": "0",
    "split": "valid_seen",
    "task": "t",
    "task_type": "u",
    "seed": 8,
    "rollout": 2,
    "student": "",
    "teacher": "",
    "prompt_version": "2",
    "sampling": "{}",
    "on_error": "veto",
    "style": "full",
    "max_steps": 41,
    "abort_errors": 3,
    "prefix": (("expert", "I look.", "look"),),
    "then": "expert",
    "suffix": (("I go.", "go to shelf 1", "On the shelf 1, you see nothing.", 0.0),),
    "judged": True,
}


def test_ids_never_change() -> None:
    """Published data sets are addressed by them, and an interrupted run finds its rows by them."""
    assert SPEC.id == "06d369541b8167327c84ad667b76bd3a"
    assert [SPEC.turn_seed(turn) for turn in range(3)] == [
        24723041677301,
        66500662698710,
        117083445074813,
    ]


def test_ids_are_the_same_in_another_process() -> None:
    code = (
        "import json, sys; from step_ray.synthesis.spec import EpisodeSpec;"
        "print(EpisodeSpec(**json.load(sys.stdin)).id)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        input=canonical_json(SPEC.to_dict()),
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "1"},
    )
    assert said.stdout.strip() == SPEC.id


def test_a_trip_through_json() -> None:
    again = EpisodeSpec(**json.loads(canonical_json(SPEC.to_dict())))
    assert again == SPEC
    assert again.id == SPEC.id
    other = EpisodeSpec(**OTHER)
    assert EpisodeSpec(**json.loads(canonical_json(other.to_dict()))) == other


def test_every_field_counts() -> None:
    assert OTHER.keys() == {field.name for field in dataclasses.fields(EpisodeSpec)}
    changed = [dataclasses.replace(SPEC, **{name: value}) for name, value in OTHER.items()]
    assert len({spec.id for spec in (SPEC, *changed)}) == 1 + len(OTHER)
    assert len({spec.turn_seed(0) for spec in (SPEC, *changed)}) == 1 + len(OTHER)


def test_seeds_of_turns_differ_and_fit_a_random_generator() -> None:
    seeds = [SPEC.turn_seed(turn) for turn in range(500)]
    assert len(set(seeds)) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_provenance_is_what_the_spec_and_the_environment_say() -> None:
    made = SPEC.provenance("engine-1", "hash", "move", "0.1.0")
    assert (made.env_build, made.data_hash, made.dialect) == ("engine-1", "hash", "move")
    assert (made.student, made.teacher) == (SPEC.student, SPEC.teacher)
    assert (made.prompt_version, made.sampling) == (SPEC.prompt_version, SPEC.sampling)
    assert (made.seed, made.code_version) == (7, "0.1.0")


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPEC.seed = 0  # type: ignore[misc]
