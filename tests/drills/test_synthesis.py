"""Drills of the synthesis on a real Ray: a killed driver, other numbers of workers, both modes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from step_ray import store
from step_ray.envs import make_env
from step_ray.models.tiny import make_llama, make_tokenizer, save
from step_ray.recipes.replay import replay
from tests.drills.monitored import GAMES

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

EPISODES = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model: it errs at every turn, so the teacher plays most of the game."""
    tokenizer = make_tokenizer(["Thought: I go to desk 1.\nAction: go to desk 1"] * 3, 512)
    llama = make_llama(tokenizer, hidden=64, layers=1, heads=2, kv_heads=2, intermediate=64)
    return save(llama, tokenizer, tmp_path_factory.mktemp("model") / "untrained")


def driver(folder: Path, model: Path, workers: int, on_error: str = "execute") -> subprocess.Popen:
    script = Path(__file__).with_name("monitored.py")
    arguments = [str(folder), str(model), str(workers), str(EPISODES), on_error]
    return subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen) -> None:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-4000:]


@pytest.fixture(scope="module")
def undisturbed(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "data"
    finish(driver(folder, model, workers=1))
    return folder


def growing(folder: Path, process: subprocess.Popen, limit: float) -> Iterator[int]:
    """Numbers of finished blocks, as they come, until the driver ends."""
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < limit:
        found = [path for path in folder.glob("*.parquet") if path.name[0] != "."]
        yield len(found)
        time.sleep(0.05)  # a poll, not a synchronisation


def test_every_published_trajectory_replays(undisturbed: Path) -> None:
    assert store.verify_store(undisturbed) == []
    trajectories = list(store.read(undisturbed, kept_only=False))
    assert len(trajectories) == EPISODES
    env = make_env("alfworld", games=GAMES, seed=3)
    assert {t.id: list(replay(t, env)) for t in trajectories} == {t.id: [] for t in trajectories}
    assert any(t.success and t.errors for t in trajectories)


def test_more_workers_make_the_same_dataset(model: Path, undisturbed: Path, tmp_path: Path) -> None:
    finish(driver(tmp_path / "data", model, workers=4))
    one, four = store.read_manifest(undisturbed), store.read_manifest(tmp_path / "data")
    assert four.rows == EPISODES
    assert four.content_hash == one.content_hash


def test_a_killed_driver_is_continued_without_loss_or_duplicate(
    model: Path, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    process = driver(folder, model, workers=1)
    reached = 0
    for reached in growing(folder / "raw", process, 300):
        if reached >= 2:
            break
    assert process.poll() is None, process.communicate()[0][-4000:]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert reached >= 2
    assert not (folder / "manifest.json").exists()  # nothing half-published
    finish(driver(folder, model, workers=1))
    manifest = store.read_manifest(folder)
    assert manifest.content_hash == store.read_manifest(undisturbed).content_hash
    rows = [row["id"] for row in store.read_rows(folder, ["id"])]
    assert len(rows) == len(set(rows)) == EPISODES


@pytest.mark.slow
def test_vetoed_errors_replay_as_well(model: Path, tmp_path: Path) -> None:
    finish(driver(tmp_path / "data", model, workers=2, on_error="veto"))
    env = make_env("alfworld", games=GAMES, seed=3)
    trajectories = list(store.read(tmp_path / "data", kept_only=False))
    assert any(not turn.executed for t in trajectories for turn in t.turns)
    assert [problem for t in trajectories for problem in replay(t, env)] == []
