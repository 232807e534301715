from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from step_ray import files


def unfinished(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(files.TEMPORARY)]


def test_write_replaces_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json_atomic(path, {"b": 1, "ä": [None, 2.5]})
    files.write_json_atomic(path, {"ä": "\u2028"})
    assert path.read_text(encoding="utf-8") == '{\n  "ä": "\u2028"\n}\n'
    assert unfinished(tmp_path) == []


def test_text_keeps_its_line_ends(tmp_path: Path) -> None:
    files.write_text_atomic(tmp_path / "a", "one\r\ntwo\n")
    assert (tmp_path / "a").read_bytes() == b"one\r\ntwo\n"


def test_a_failed_write_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    files.write_text_atomic(path, "old")

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_text_atomic(path, "new")
    assert path.read_text() == "old"
    assert unfinished(tmp_path) == []


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json_atomic(tmp_path / "a", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_tree_hash_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "one/deep").mkdir(parents=True)
    (tmp_path / "one/deep/a").write_text("x")
    (tmp_path / "one/b").write_text("y")
    first = files.tree_hash(tmp_path / "one")
    (tmp_path / "one" / f"{files.TEMPORARY}0-c").write_text("half")
    (tmp_path / "one/skipped").write_text("z")
    (tmp_path / "one/empty").mkdir()
    os.utime(tmp_path / "one/b", (0, 0))
    assert files.tree_hash(tmp_path / "one", skip={"skipped"}) == first
    assert files.tree_hash(tmp_path / "one") != first
    (tmp_path / "one/deep/a").write_text("X")
    assert files.tree_hash(tmp_path / "one", skip={"skipped"}) != first


def test_a_moved_file_changes_the_tree_hash(tmp_path: Path) -> None:
    for folder, name in (("one", "a"), ("two", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("x")
    assert files.tree_hash(tmp_path / "one") != files.tree_hash(tmp_path / "two")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EACCES, "writable"),
        (errno.EROFS, "read-only"),
        (errno.EEXIST, "move it away"),
        (errno.EIO, "check the disk"),
    ],
)
def test_an_error_is_explained_with_path_and_remedy(number: int, remedy: str) -> None:
    text = files.explain(OSError(number, os.strerror(number)), Path("some/place"))
    assert text.startswith("some/place: ")
    assert remedy in text
    assert "other/place" in files.explain(OSError(number, "", "other/place"), Path("some/place"))
