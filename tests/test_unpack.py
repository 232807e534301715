from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from step_ray.unpack import UnpackError, unpack

LIMITS = {"most_bytes": 10_000, "most_files": 5}


def archive(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members:
            opened.writestr(name, content)
    return path


def test_only_what_is_wanted_is_unpacked(tmp_path: Path) -> None:
    source = archive(
        tmp_path / "a.zip", ("x/y/game.json", b"1"), ("x/other.sh", b"2"), ("game.json", b"3")
    )
    assert unpack(source, tmp_path / "out", ["game.json"], **LIMITS) == 2
    files = {path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("out/**/*.*")}
    assert files == {"x/y/game.json", "game.json"}


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "name",
    ["../game.json", "/tmp/game.json", "a/../../game.json", "C:/game.json", "a\\..\\game.json"],
)
def test_nothing_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    source = archive(tmp_path / "a.zip", (name, b"1"))
    with pytest.raises(UnpackError, match="out of the folder"):
        unpack(source, tmp_path / "out" / "deep", ["game.json"], **LIMITS)
    assert not list(tmp_path.rglob("game.json"))


def test_links_bombs_crowds_and_damage_are_refused(tmp_path: Path) -> None:
    bad = {
        "neither a file": archive(tmp_path / "1.zip", (link("game.json"), b"/etc/passwd")),
        "unpacks to over": archive(tmp_path / "2.zip", ("game.json", bytes(10_001))),
        "more than 5": archive(tmp_path / "3.zip", *((f"{i}/game.json", b"") for i in range(6))),
        "holds none": archive(tmp_path / "4.zip", ("other", b"1")),
    }
    whole = archive(tmp_path / "5.zip", ("game.json", b"abc" * 1000)).read_bytes()
    bad["5.zip"] = tmp_path / "5.zip"
    bad["5.zip"].write_bytes(whole[:40] + bytes(8) + whole[48:])  # in the compressed bytes
    bad["6.zip"] = tmp_path / "6.zip"
    bad["6.zip"].write_bytes(b"<html>quota exceeded</html>")
    for said, source in bad.items():
        with pytest.raises(UnpackError, match=said):
            unpack(source, tmp_path / "out", ["game.json"], **LIMITS)
