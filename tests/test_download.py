from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from step_ray.download import DownloadError, Patience, download
from tests.flaky_server import Files, serving

BODY = random.Random(0).randbytes(3_000_000)
QUICK = Patience(stall=20, attempts=3, pause=0)


def accept(path: Path) -> None: ...


def get(files: Files, target: Path, name: str = "a.bin", **options: object) -> str:
    options = {"limit": 10**9, "check": accept, "patience": QUICK, **options}
    return download([f"{files.address}/{name}"], target, **options)  # type: ignore[arg-type]


def test_a_connection_that_breaks_off_is_taken_up_where_it_broke(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with serving(Files({"a.bin": BODY}, breaks=[1_000_000, 1, 700_000])) as files:
        digest = get(files, tmp_path / "a", report=lambda *state: told.append(state))
    assert digest == hashlib.sha256(BODY).hexdigest()
    assert (tmp_path / "a").read_bytes() == BODY
    assert [seen for _, seen in files.seen] == [
        "", "bytes=1000000-", "bytes=1000001-", "bytes=1700001-",
    ]  # fmt: skip
    assert told[-1] == (len(BODY), len(BODY))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_attempt_of_another_process_is_taken_up(tmp_path: Path) -> None:
    with serving(Files({"a.bin": BODY}, breaks=[1_000_000, 0, 0, 0])) as files:
        with pytest.raises(DownloadError, match="ended early, 3 times in a row"):
            get(files, tmp_path / "a")
        assert not (tmp_path / "a").exists()
        files.seen.clear()
        get(files, tmp_path / "a")
    assert [seen for _, seen in files.seen] == ["bytes=1000000-"]
    assert (tmp_path / "a").read_bytes() == BODY


@pytest.mark.parametrize("ranges", [True, False], ids=["other version", "cannot resume"])
def test_two_versions_are_never_glued_together(tmp_path: Path, ranges: bool) -> None:
    with serving(Files({"a.bin": BODY}, breaks=[1_000_000, 0, 0, 0])) as files:
        with pytest.raises(DownloadError):
            get(files, tmp_path / "a")
        files.content["a.bin"], files.version, files.ranges = BODY[::-1], '"2"', ranges
        get(files, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == BODY[::-1]


def test_what_has_no_version_is_not_glued_but_fetched_again(tmp_path: Path) -> None:
    with serving(Files({"a.bin": BODY}, breaks=[1_000_000, 2_000_000], version="")) as files:
        get(files, tmp_path / "a")
    assert [seen for _, seen in files.seen] == ["", "", ""]
    assert (tmp_path / "a").read_bytes() == BODY


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(tmp_path: Path) -> None:
    with serving(Files({"a.bin": BODY}, statuses=[503, 429])) as files:
        get(files, tmp_path / "a")
        files.statuses, files.seen = [403], []
        with pytest.raises(DownloadError, match="403"):
            get(files, tmp_path / "b")
        assert len(files.seen) == 1


def test_the_next_address_is_tried_and_all_are_named_if_none_helps(tmp_path: Path) -> None:
    with serving(Files({"good": BODY})) as files:
        there, nowhere = f"{files.address}/good", f"{files.address}/none"
        options = {"limit": 10**9, "check": accept, "patience": QUICK}
        download([nowhere, there], tmp_path / "a", **options)  # type: ignore[arg-type]
        with pytest.raises(DownloadError, match=r"none.*404") as told:
            download([nowhere, "file:///etc/hostname"], tmp_path / "b", **options)  # type: ignore[arg-type]
    assert "not an http(s) address" in str(told.value)
    assert not (tmp_path / "b").exists()


def test_what_is_not_as_it_should_be_does_not_stay(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise ValueError("not a zip archive")

    with serving(Files({"a.bin": BODY})) as files:
        with pytest.raises(DownloadError, match="not a zip archive"):
            get(files, tmp_path / "a", check=refuse)
        with pytest.raises(DownloadError, match="SHA-256"):
            get(files, tmp_path / "a", sha256="0" * 64)
        with pytest.raises(DownloadError, match="more than"):
            get(files, tmp_path / "a", limit=1000)
        assert not (tmp_path / "a").exists()
        get(files, tmp_path / "a", sha256=hashlib.sha256(BODY).hexdigest().upper())
