"""A stage that an outage spoils is stopped, and its episodes are played again; without Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from step_ray import store
from step_ray.progress import Progress
from step_ray.schema import to_row
from step_ray.synthesis import pipeline, raw
from step_ray.synthesis.pipeline import RAW_SCHEMA, PipelineError, Pool, run_episodes, tolerated
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.worker import WorkerSettings
from step_ray.trajectory import Outcome, Trajectory

SETTINGS = WorkerSettings(env="e", env_options={}, students={})
SPECS = [
    EpisodeSpec(env="e", data="", split="train", task=f"t{n}", task_type="x", seed=0, rollout=0)
    for n in range(30)
]
Ends = Callable[[int], tuple[Outcome, bool]]
"""Number of an episode -> how it ends, and whether that is a disturbance."""


def well(number: int) -> tuple[Outcome, bool]:
    return "success", False


def away(outcome: Outcome, episodes: int, disturbed: bool = True) -> Ends:
    """Every episode below a number ends so."""
    return lambda number: (outcome, disturbed) if number < episodes else well(number)


def row_of(spec: EpisodeSpec, outcome: Outcome, disturbed: bool) -> dict[str, Any]:
    won = outcome == "success"
    made = Trajectory(
        spec.id, spec.task, "e", "train", "x", "Do it.", "A room.", (), float(won), won, outcome,
        detail="" if won else "the server is gone",
    )  # fmt: skip
    return to_row(made, spec.to_dict(), "" if won else outcome) | {"disturbed": disturbed}


class Stage:
    """A stage's folder, and what is played in it by each command."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, patch
        self.played: list[int] = []

    def run(self, ends: Ends = well) -> None:
        def play(left: Sequence[EpisodeSpec], *_: Any) -> float:
            self.played = [SPECS.index(spec) for spec in left]
            block = raw.Block(
                self.folder, [spec.id for spec in left], RAW_SCHEMA, lambda rows: None
            )
            for spec in left:
                block.add(row_of(spec, *ends(SPECS.index(spec))))
            block.close()
            return block.seconds

        self._patch.setattr(pipeline, "_play", play)
        self.played = []
        with Progress(plain=True).stage("stage", len(SPECS), "episodes") as bar:
            nobody: Any = None  # a student is loaded where episodes are played
            run_episodes(SPECS, self.folder, SETTINGS, nobody, None, Pool(), bar, {})

    def outcomes(self) -> list[str]:
        """Those that are published, by episode; each is there once."""
        rows = {row["id"]: row["outcome"] for row in store.read_rows(self.folder)}
        assert store.read_manifest(self.folder).rows == len(rows) == len(SPECS)
        return [rows[spec.id] for spec in SPECS]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path / "data", monkeypatch)


@pytest.mark.parametrize("outcome", ["student_error", "teacher_error", "episode_timeout"])
def test_an_outage_stops_the_stage_and_burns_nothing(stage: Stage, outcome: Outcome) -> None:
    said = rf"failed 11 of 30 episodes \(11 {outcome}\).*10 at most.*the server is gone.*same comm"
    with pytest.raises(PipelineError, match=said):
        stage.run(away(outcome, 11))
    with pytest.raises(store.StoreError, match="no dataset is published"):
        store.read_manifest(stage.folder)
    with pytest.raises(PipelineError, match="failed 11 of 30"):
        stage.run(away(outcome, 11))
    assert stage.played == list(range(11)), "the good ones are kept"
    stage.run()
    assert stage.played == list(range(11))
    assert stage.outcomes() == ["success"] * 30
    stage.run(away("failure", 30))
    assert stage.played == []


def test_few_losses_are_published_and_stay(stage: Stage) -> None:
    """Else a stage that is published already would become another dataset."""
    for _ in range(2):
        stage.run(away("teacher_error", 10))
        assert stage.outcomes() == ["teacher_error"] * 10 + ["success"] * 20
    assert stage.played == []


@pytest.mark.parametrize(
    ("outcome", "disturbed"), [("student_error", False), ("env_error", True), ("env_timeout", True)]
)
def test_what_no_model_is_to_blame_for_stops_nothing(
    stage: Stage, outcome: Outcome, disturbed: bool
) -> None:
    stage.run(away(outcome, 30, disturbed))
    assert stage.outcomes() == [outcome] * 30


@pytest.mark.parametrize(
    ("outcome", "disturbed", "again"),
    [
        ("env_error", True, True),
        ("env_timeout", True, True),
        ("teacher_error", True, True),
        ("teacher_error", False, False),
        ("error_limit", False, False),
    ],
)
def test_what_an_interrupted_stage_plays_again(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
    disturbed: bool,
    again: bool,
) -> None:
    def interrupt(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(raw, "settle", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stage.run(away(outcome, 2, disturbed))
    stage.run()
    assert stage.played == ([0, 1] if again else [])
    assert stage.outcomes()[:2] == ["success" if again else outcome] * 2


def test_of_two_attempts_at_once_the_undisturbed_row_is_published(stage: Stage) -> None:
    raw.prepare(stage.folder, lambda text: None)
    for number, spec in enumerate(SPECS):  # the first file wins, and its name is a hash
        blocks = [
            raw.Block(stage.folder, [spec.id, name], RAW_SCHEMA, lambda rows: None)
            for name in ("one", "other")
        ]
        for position, block in enumerate(blocks):
            cut_off = position == number % 2
            block.add(row_of(spec, "teacher_error" if cut_off else "success", cut_off))
            block.close()
    with Progress(plain=True).stage("stage", len(SPECS), "episodes") as bar:
        raw.settle(stage.folder)
        pipeline._publish(
            {spec.id for spec in SPECS}, raw.complete(stage.folder), stage.folder, {}, bar, 0.0
        )
    assert stage.outcomes() == ["success"] * 30


def test_how_many_may_be_lost() -> None:
    found = {episodes: tolerated(episodes) for episodes in (1, 2, 4, 12, 30, 100, 134, 10_000)}
    assert found == {1: 0, 2: 1, 4: 2, 12: 6, 30: 10, 100: 10, 134: 13, 10_000: 1_000}


def test_a_row_of_an_older_version_counts_as_it_did(stage: Stage) -> None:
    raw.prepare(stage.folder, lambda text: None)
    schema = RAW_SCHEMA.remove(RAW_SCHEMA.get_field_index("disturbed"))
    ids = [spec.id for spec in SPECS]
    block = raw.Block(stage.folder, ids, schema, lambda rows: None)
    for spec in SPECS:
        block.add(
            {k: v for k, v in row_of(spec, "teacher_error", True).items() if k in schema.names}
        )
    block.close()
    stage.run()
    assert stage.outcomes() == ["teacher_error"] * 30
