"""Copies that an object store does not take; a real server is asked in test_mirror."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from step_ray import store
from step_ray.bucket import BucketError
from step_ray.mirror import Mirrored
from step_ray.progress import Progress
from step_ray.recipes import copies
from step_ray.recipes.copies import Copies
from step_ray.run import Run
from tests.test_store import rows_of


class Away:
    """An object store that refuses the first so many datasets, and takes the others."""

    def __init__(self, refused: int) -> None:
        self.refused, self.taken = refused, list[str]()

    def __call__(self, folder: Path, target: str, **_: Any) -> Mirrored:
        self.refused -= 1
        if self.refused >= 0:
            raise BucketError(f"{target}: cannot write it; check AWS_ENDPOINT_URL")
        self.taken.append(target)
        return Mirrored(1, 0)


def run(folder: Path, made: Copies) -> None:
    """A run of two stages with a dataset each."""
    with Run.open(folder, {}) as opened:
        opened.when_done = made
        for name in ("golden", "reflected"):
            with opened.stage(name) as stage:
                if not stage.done:
                    store.publish(stage.path, rows_of(range(4)))
                    stage.finish({"data": stage.path})
        made.finish()


@pytest.fixture
def to_store(monkeypatch: pytest.MonkeyPatch) -> Callable[[Away], Copies]:
    def make(away: Away) -> Copies:
        monkeypatch.setattr(copies, "mirror", away)
        return Copies("s3://bucket/x", Progress(Console(file=io.StringIO())), replace=False)

    return make


def test_a_store_that_is_away_for_a_while_costs_nothing(
    tmp_path: Path, to_store: Callable[[Away], Copies]
) -> None:
    away = Away(refused=1)
    run(tmp_path, to_store(away))
    assert away.taken == ["s3://bucket/x/reflected", "s3://bucket/x/golden"]


def test_one_that_stays_away_is_an_error_when_all_is_done(
    tmp_path: Path, to_store: Callable[[Away], Copies]
) -> None:
    with pytest.raises(
        BucketError, match=r"x/golden: cannot.*not copied are golden, reflected: run the same"
    ):
        run(tmp_path, to_store(Away(refused=3)))
    assert (tmp_path / "reflected" / "manifest.json").exists()
    again = Away(refused=0)
    run(tmp_path, to_store(again))
    assert again.taken == ["s3://bucket/x/golden", "s3://bucket/x/reflected"]
