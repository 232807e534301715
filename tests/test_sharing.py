"""Stages that several runs have in common."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from step_ray.lineage import verify_run
from step_ray.run import Run


def make(path: Path, shared: Path | None, seed: int = 0) -> list[bool]:
    """A run of two stages; whether each was done before."""
    done = []
    with Run.open(path, {"seed": seed}) as run:
        run.shared = shared
        with run.stage("golden", {}, {"seed": seed}) as golden:
            done.append(golden.done)
            if not golden.done:
                (golden.path / "data.txt").write_text(f"seed {seed}")
                golden.finish({"data": golden.path / "data.txt"})
        with run.stage(f"of-{path.name}", {"golden": golden}) as own:
            done.append(own.done)
            if not own.done:
                own.finish({"size": len((golden.path / "data.txt").read_text())})
    return done


def test_what_another_run_has_made_is_linked(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    assert make(tmp_path / "a", shared) == [False, False]
    assert make(tmp_path / "b", shared) == [True, False]
    assert make(tmp_path / "c", shared, seed=1) == [False, False]
    assert make(tmp_path / "d", None) == [False, False]
    one, two = (tmp_path / name / "golden" / "data.txt" for name in "ab")
    assert one.stat().st_ino == two.stat().st_ino
    for name in "abcd":
        assert verify_run(tmp_path / name) == []
        assert make(tmp_path / name, shared, seed=int(name == "c")) == [True, True]


def test_without_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    make(tmp_path / "a", tmp_path / "shared")
    assert make(tmp_path / "b", tmp_path / "shared") == [True, False]
    assert (tmp_path / "b" / "golden" / "data.txt").read_text() == "seed 0"
