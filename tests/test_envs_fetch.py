"""Official files from a server of our own that breaks off and talks rubbish."""

from __future__ import annotations

import io
import json
import shlex
import zipfile
from pathlib import Path

import pytest

from step_ray.doctor import data as doctor
from step_ray.download import DownloadError, Patience
from step_ray.envs import fetch as module
from step_ray.envs import make_env
from step_ray.envs.alfworld.generate import generate_games
from step_ray.envs.fetch import SOURCES, Source, fetch
from step_ray.envs.fetched import RECORD, changed_files
from step_ray.envs.webshop.generate import generate_catalogue
from step_ray.progress import Progress
from tests.flaky_server import Files, serving
from tests.test_cli import ask

CONFIGS = Path(__file__).parents[1] / "jobs" / "configs"
QUICK = Patience(stall=20, attempts=3, pause=0)


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests never reach the real addresses."""
    monkeypatch.setenv("STEP_RAY_CACHE", str(tmp_path / "cache"))
    closed = {
        name: tuple(Source(one.name, f"http://127.0.0.1:9/{one.name}", one.limit) for one in files)
        for name, files in SOURCES.items()
    }
    monkeypatch.setattr(module, "SOURCES", closed)


@pytest.fixture
def games(tmp_path: Path) -> dict[str, bytes]:
    """ALFWorld's two archives, with games of our own in them."""
    for split in ("train", "valid_seen", "valid_unseen"):
        generate_games(tmp_path / "made", split, 2, seed=0)  # type: ignore[arg-type]
    return {
        f"json_2.1.1_{kind}.zip": zipped(tmp_path / "made", file)
        for kind, file in (("json", "traj_data.json"), ("tw-pddl", "game.tw-pddl"))
    }


def zipped(folder: Path, name: str) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob(name)):
            archive.write(path, f"json_2.1.1/{path.relative_to(folder).as_posix()}")
        archive.writestr("json_2.1.1/readme.sh", "rm -rf ~")
    return memory.getvalue()


def test_games_that_come_in_pieces_can_be_played(games: dict[str, bytes]) -> None:
    with serving(Files(games, breaks=[1000, 2000, 3])) as files:
        folder = fetch("alfworld", Progress(), mirrors=[files.address], patience=QUICK)
        asked = len(files.seen)
        assert fetch("alfworld", Progress(), mirrors=[files.address]) == folder
        assert len(files.seen) == asked  # it is there: nobody was asked
    env = make_env("alfworld", folder)
    for split in ("train", "valid_seen", "valid_unseen"):
        assert len(env.tasks(split)) == 2
    assert "Your task is to" in env.reset(env.tasks("train")[0]).text
    env.close()
    assert not list(folder.rglob("*.sh"))
    assert changed_files(folder) == []
    assert [one.status for one in doctor.check_fetched()] == ["ok"]
    assert list(folder.parent.iterdir()) == [folder]


def test_rubbish_leaves_nothing_behind_and_the_next_mirror_helps(games: dict[str, bytes]) -> None:
    pages = dict.fromkeys(games, b"<html>Quota exceeded</html>")
    with serving(Files(pages)) as rubbish, serving(Files(games)) as good:
        with pytest.raises(DownloadError, match="web page"):
            fetch("alfworld", Progress(), mirrors=[rubbish.address], patience=QUICK)
        assert not module.fetch_folder("alfworld").exists()
        mirrors = [rubbish.address, good.address]
        folder = fetch("alfworld", Progress(), mirrors=mirrors, patience=QUICK)
    assert len(list(folder.rglob("game.tw-pddl"))) == 6


def test_a_damaged_archive_is_fetched_anew(games: dict[str, bytes]) -> None:
    whole = games["json_2.1.1_tw-pddl.zip"]
    middle = len(whole) // 2
    broken = whole[:middle] + bytes(64) + whole[middle + 64 :]
    with serving(Files({**games, "json_2.1.1_tw-pddl.zip": broken})) as files:
        with pytest.raises(DownloadError, match=r"tw-pddl\.zip"):
            fetch("alfworld", Progress(), mirrors=[files.address], patience=QUICK)
        assert not module.fetch_folder("alfworld").exists()
        files.content["json_2.1.1_tw-pddl.zip"] = whole
        fetch("alfworld", Progress(), mirrors=[files.address], patience=QUICK)


SHOP = {
    "items_shuffle_1000.json": b"[{}]",
    "items_ins_v2_1000.json": b"{}",
    "items_human_ins.json": b"{}\n",
}


def test_the_command_prints_sums_and_refuses_wrong_ones(tmp_path: Path) -> None:
    with serving(Files(SHOP)) as files:
        common = ("data", "fetch", "webshop", "--mirror", files.address)
        wrong = f"items_human_ins.json={'0' * 64}"
        code, said = ask(*common, "--output", tmp_path / "a", "--sha256", wrong)
        assert (code, "SHA-256" in said, (tmp_path / "a").exists()) == (2, True, False)
        code, said = ask(*common, "--output", tmp_path / "a")
        assert code == 0, said
    record = json.loads((tmp_path / "a" / RECORD).read_text())
    for file, digest in record["sums"].items():
        assert f"{digest}  {file}" in said
    assert {path.name for path in (tmp_path / "a").iterdir()} == {*SHOP, RECORD}


@pytest.mark.parametrize("name", ["alfworld", "webshop"])
def test_what_the_command_prints_can_be_given_to_a_run(
    name: str, games: dict[str, bytes], tmp_path: Path
) -> None:
    shop = (json.dumps(part).encode() for part in generate_catalogue(300, seed=0))
    content = games if name == "alfworld" else dict(zip(SHOP, shop, strict=True))
    folder = tmp_path / "with a space"
    with serving(Files(content)) as files:
        said = ask("data", "fetch", name, "--mirror", files.address, "--output", folder)[1]
    flags = shlex.split(said.splitlines()[-1])
    config = {"alfworld": "quickstart.yaml", "webshop": "quickstart_webshop.yaml"}[name]
    few = ("--set", "env.task_types=null") if name == "alfworld" else ()
    output = ("--set", f"output={tmp_path / 'run'}")
    code, said = ask("run", CONFIGS / config, *flags, *few, *output, "--dry-run")
    assert code == 0, said
    resolved, _ = json.JSONDecoder().raw_decode(said)
    assert resolved["env"]["data"] == str(folder)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("alfwold",), "alfworld"),
        (("webshop", "--sha256", "items.json=1"), "items_human_ins.json"),
        (("webshop", "--sha256", "items_human_ins.json=1"), "64 hex digits"),
        (("webshop", "--output", "."), "new folder"),
    ],
)
def test_a_mistake_is_named_before_anything_is_fetched(
    arguments: tuple[str, ...], says: str
) -> None:
    code, said = ask("data", "fetch", *arguments)
    assert code == 2
    assert says in said
