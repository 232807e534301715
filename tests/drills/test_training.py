"""Trainings that are killed: at every step, in the midst of a checkpoint, with a machine lost.

A killed process is a real one that gets SIGKILL; what goes on must draw the curve of a training
that nothing happened to, and leave the same model and no rubbish.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from test_training_loop import (  # noqa: E402
    EPISODES,
    HELD,
    config,
    curve,
    dying,
    same,
    seen_in_epochs,
    start,  # noqa: F401 - a fixture
)

from step_ray import files  # noqa: E402
from step_ray.training import steps  # noqa: E402
from step_ray.training.alone import train_alone  # noqa: E402
from step_ray.training.checkpoint import TrainError, read_metrics  # noqa: E402

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["torch", "transformers", "peft"])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at_step(start: Path, output: Path, settings: dict[str, Any], step: int) -> None:  # noqa: F811
    rate = steps.learning_rate
    steps.learning_rate = lambda given, now, total: (
        die() if now == step else rate(given, now, total)
    )
    train_alone(start, EPISODES, output, config(**settings))


def killed_at_write(start: Path, output: Path, settings: dict[str, Any], number: int) -> None:  # noqa: F811
    """Dies before it makes a file durable, or removes a folder, for the ``number``-th time."""
    left = [number]

    def counted(work: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                die()
            return work(*given, **named)

        return call

    files.sync, shutil.rmtree = counted(files.sync), counted(shutil.rmtree)
    train_alone(start, EPISODES, output, config(**settings))


def attempt(work: Any, *given: Any) -> int | None:
    """The exit code of a process that does the work."""
    process = processes.Process(target=work, args=given)
    process.start()
    process.join(300)
    if process.exitcode is None:
        process.kill()
    return process.exitcode


def check(output: Path, reference: Path, names: list[str]) -> None:
    found, expected = (read_metrics(f / "metrics.jsonl") for f in (output, reference))
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    assert curve(found) == pytest.approx(curve(expected), rel=1e-6)
    same(output / "model", reference / "model", rtol=1e-6, atol=1e-7)
    assert sorted(path.name for path in output.iterdir()) == names


KEPT = ["metrics.jsonl", "model", "samples.parquet"]
SETTINGS = {"epochs": 1, "save_every_steps": 2, "trackers": ()}


def test_killed_at_every_step(start, tmp_path):  # noqa: F811
    train_alone(start, EPISODES, tmp_path / "whole", config(**SETTINGS))
    count = len(read_metrics(tmp_path / "whole" / "metrics.jsonl"))
    assert count >= 6
    for step in range(1, count + 1):
        code = attempt(killed_at_step, start, tmp_path / "parts", SETTINGS, step)
        assert code == -signal.SIGKILL
    train_alone(start, EPISODES, tmp_path / "parts", config(**SETTINGS))
    check(tmp_path / "parts", tmp_path / "whole", KEPT)


def test_killed_in_the_midst_of_checkpoints(start, tmp_path):  # noqa: F811
    """Also of the best model so far, which is published in the end."""
    settings = {**SETTINGS, **HELD, "validate_every_steps": 2, "num_to_keep": 2}
    train_alone(start, EPISODES, tmp_path / "whole", config(**settings))
    kills = 0
    for number in (2, 5, 9, 12, 15, 19, 22, 26, 31, 38):
        code = attempt(killed_at_write, start, tmp_path / "parts", settings, number)
        assert code in (0, -signal.SIGKILL)
        if not code:
            break
        kills += 1
    assert kills >= 5
    train_alone(start, EPISODES, tmp_path / "parts", config(**settings))
    check(tmp_path / "parts", tmp_path / "whole", KEPT)


@pytest.mark.slow
@pytest.mark.ray
def test_one_worker_or_the_other_killed_at_every_step(
    ray_cluster: None,
    start,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    from step_ray.training import loop

    few = {**SETTINGS, "tokens_per_batch": 1500}
    train_alone(start, EPISODES, tmp_path / "whole", config(**few))
    count = len(read_metrics(tmp_path / "whole" / "metrics.jsonl"))
    kills = {step: step % 2 for step in range(1, count + 1)}
    monkeypatch.setattr(loop, "_work", dying(tmp_path, kills))
    settings = config(**few, workers=2, max_failures=count)
    loop.train(start, EPISODES, tmp_path / "out", settings)
    assert len(list(tmp_path.glob("killed-*"))) == count
    found, expected = (read_metrics(tmp_path / n / "metrics.jsonl") for n in ("out", "whole"))
    assert curve(found) == pytest.approx(
        curve(expected), rel=1e-5
    )  # of one process, which adds up otherwise
    assert seen_in_epochs(tmp_path, found) == [list(range(len(EPISODES)))]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == KEPT


@pytest.mark.slow
@pytest.mark.ray
def test_a_lost_machine_leaves_fewer_workers(start, tmp_path):  # noqa: F811
    """Two machines of one worker each; one goes, the other does the work of both."""
    train_alone(start, EPISODES, tmp_path / "whole", config(epochs=6))
    program = Path(__file__).with_name("elastic.py")
    here = str(program.parents[1])
    done = subprocess.run(
        [sys.executable, str(program), str(start), str(tmp_path / "out")],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]),
            "RAY_AUTH_MODE": "disabled",
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found, expected = (read_metrics(tmp_path / n / "metrics.jsonl") for n in ("out", "whole"))
    workers = [line["workers"] for line in found]
    assert workers == sorted(workers, reverse=True)
    assert set(workers) == {1, 2}
    assert curve(found) == pytest.approx(curve(expected), rel=1e-5)


@pytest.mark.slow
@pytest.mark.ray
def test_too_little_memory_in_one_worker_is_not_tried_again(
    ray_cluster: None,
    start,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    from step_ray.training import loop

    marks = tmp_path / "marks"
    marks.mkdir()

    def work(settings):  # local, so that it travels to the workers by value
        import torch

        from step_ray.training import loop as there
        from step_ray.training import steps as stepping

        rate = stepping.learning_rate

        def hungry(given, step, total):
            if torch.distributed.get_rank() == 1 and step == 3:
                (marks / str(len(list(marks.iterdir())))).touch()
                torch.empty(2**62, dtype=torch.int8)
            return rate(given, step, total)

        stepping.learning_rate = hungry
        there._work(settings)

    monkeypatch.setattr(loop, "_work", work)
    with pytest.raises(TrainError, match=r"out of memory: set training\.micro_tokens"):
        loop.train(start, EPISODES, tmp_path / "out", config(workers=2, max_failures=3))
    assert len(list(marks.iterdir())) == 1
