"""What workers left: read if it is complete, quarantined if it is damaged."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from step_ray.synthesis import raw


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two blocks that are done and one that a crash interrupted, named as Ray Data does."""
    for part in (raw.RAW, raw.CHECKPOINTS):
        (tmp_path / part).mkdir()
    for name in ("one", "two", "torn"):
        table = pa.table({"id": [f"{name}-{n}" for n in range(300)]})
        path = tmp_path / raw.RAW / f"{name}_000001-0.parquet"
        pq.write_table(table, path, write_page_checksum=True, compression="none")
        ending = ".pending.parquet" if name == "torn" else ".parquet"
        (tmp_path / raw.CHECKPOINTS / f"{name}_000001{ending}").touch()
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_what_a_crash_interrupted_is_not_read(folder: Path) -> None:
    assert names(raw.complete(folder)) == ["one_000001-0.parquet", "two_000001-0.parquet"]
    assert len(list(raw.rows(raw.complete(folder), ["id"]))) == 600


def test_sound_files_stay(folder: Path) -> None:
    said: list[str] = []
    raw.quarantine_damaged(folder, said.append)
    assert said == []
    assert len(raw.complete(folder)) == 2


@pytest.mark.parametrize("how", ["flipped", "short"])
def test_a_damaged_file_is_kept_aside_and_its_episodes_are_not_done(folder: Path, how: str) -> None:
    path = folder / raw.RAW / "one_000001-0.parquet"
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content if how == "flipped" else content[:-9])
    said: list[str] = []
    raw.quarantine_damaged(folder, said.append)
    assert names(raw.complete(folder)) == ["two_000001-0.parquet"]
    assert (folder / "quarantine" / path.name).exists()
    assert names(sorted((folder / raw.CHECKPOINTS).iterdir())) == [
        "torn_000001.pending.parquet",
        "two_000001.parquet",
    ]
    assert [str(path) in text for text in said] == [True]
