"""What workers left: read if it is complete, quarantined if it is damaged."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from step_ray import files
from step_ray.synthesis import raw


def table(name: str) -> pa.Table:
    return pa.table({"id": [f"{name}-{n}" for n in range(300)]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two blocks that are done and one that a crash interrupted."""
    raw.prepare(tmp_path, lambda text: None)
    for name in ("one", "two"):
        raw.write(table(name), tmp_path)
    files.temporary_name(tmp_path / raw.RAW / "torn.parquet").write_bytes(b"PAR1")
    return tmp_path


def test_what_a_crash_interrupted_is_not_read_and_cleared_away(folder: Path) -> None:
    assert len(raw.complete(folder)) == 2
    assert len(list(raw.rows(raw.complete(folder), ["id"]))) == 600
    assert len(list((folder / raw.RAW).iterdir())) == 3
    raw.prepare(folder, lambda text: None)
    assert sorted((folder / raw.RAW).iterdir()) == raw.complete(folder)


def test_a_block_that_is_written_again_replaces_its_own(folder: Path) -> None:
    before = raw.complete(folder)
    assert raw.write(table("one"), folder) in before
    assert raw.complete(folder) == before


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
