"""What workers left: read if it is complete, quarantined if it is damaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from step_ray import files
from step_ray.synthesis import raw

Written = Callable[[Sequence[dict[str, Any]]], None]

SCHEMA = pa.schema([pa.field("id", pa.string())])


def block(
    folder: Path, name: str, written: Written = lambda rows: None, every: float = 1e9
) -> raw.Block:
    return raw.Block(folder, ids(name), SCHEMA, written, every)


def ids(name: str) -> list[str]:
    return [f"{name}-{n}" for n in range(300)]


def play(one: raw.Block, name: str) -> None:
    """What a worker does."""
    for row in ids(name):
        if row not in one.done:
            one.add({"id": row})
    one.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two blocks that are done and one that a crash interrupted."""
    raw.prepare(tmp_path, lambda text: None)
    for name in ("one", "two"):
        play(block(tmp_path, name), name)
    files.temporary_name(tmp_path / raw.RAW / "torn.parquet").write_bytes(b"PAR1")
    return tmp_path


def test_what_a_crash_interrupted_is_not_read_and_cleared_away(folder: Path) -> None:
    assert len(raw.complete(folder)) == 2
    assert len(list(raw.rows(raw.complete(folder), ["id"]))) == 600
    assert len(list((folder / raw.RAW).iterdir())) == 3
    raw.prepare(folder, lambda text: None)
    assert sorted((folder / raw.RAW).iterdir()) == raw.complete(folder)


def test_a_block_that_is_run_again_runs_what_is_missing(folder: Path) -> None:
    before, told = raw.complete(folder), list[str]()
    lost = block(folder, "three", every=0.0)
    for row in ids("three")[:7]:
        lost.add({"id": row})  # then it is killed
    assert len(list(raw.rows(raw.complete(folder), ["id"]))) == 607
    again = block(folder, "three", lambda rows: told.extend(row["id"] for row in rows))
    assert again.done == set(ids("three")[:7])
    play(again, "three")
    assert told == ids("three")[7:]
    assert sorted(row["id"] for row in raw.rows(raw.complete(folder), ["id"])) == sorted(
        ids("one") + ids("two") + ids("three")
    )
    play(block(folder, "one"), "one")
    assert set(before) < set(raw.complete(folder))


def test_two_attempts_at_once_lose_nothing(folder: Path) -> None:
    slow, other = block(folder, "three"), block(folder, "three")
    for row in ids("three")[:200]:
        slow.add({"id": row})
    play(other, "three")
    slow.close()
    assert {row["id"] for row in raw.rows(raw.complete(folder), ["id"])} >= set(ids("three"))


def test_sound_files_stay(folder: Path) -> None:
    said: list[str] = []
    raw.prepare(folder, said.append)
    assert said == []
    assert len(raw.complete(folder)) == 2


@pytest.mark.parametrize("how", ["flipped", "short"])
def test_a_damaged_file_is_kept_aside_and_its_episodes_are_not_done(folder: Path, how: str) -> None:
    path, other = raw.complete(folder)
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content if how == "flipped" else content[:-9])
    said: list[str] = []
    raw.prepare(folder, said.append)
    assert raw.complete(folder) == [other]
    assert (folder / "quarantine" / path.name).exists()
    assert [str(path) in text for text in said] == [True]


def test_writing_is_timed(tmp_path: Path) -> None:
    raw.prepare(tmp_path, lambda said: None)
    one = block(tmp_path, "timed")
    assert one.seconds == 0
    play(one, "timed")
    assert one.seconds > 0
