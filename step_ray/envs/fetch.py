"""The official files of ALFWorld and WebShop, from where their authors publish them.

Their authors publish no checksums. So the sum of each file is printed and kept when it comes for
the first time; whoever knows better sums gives them, and ``step-ray doctor`` compares from then on.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from step_ray.download import DownloadError, Patience, download
from step_ray.envs.fetched import RECORD, fetch_folder
from step_ray.files import explain, now, sha256_file, temporary_name, write_json_atomic
from step_ray.progress import Progress
from step_ray.unpack import UnpackError, unpack

GIB = 2**30
_MIB = 2**20
_RELEASE = "https://github.com/alfworld/alfworld/releases/download/0.2.2"
_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
_GAME_FILES = ("game.tw-pddl", "traj_data.json")


@dataclass(frozen=True, slots=True)
class Source:
    """One official file: its name here and on mirrors, its address, bytes it may have."""

    name: str
    address: str
    limit: int


# ALFWorld: the release that the papers play, as its alfworld-download of that time names it.
# WebShop: as its setup.sh names them.
SOURCES: dict[str, tuple[Source, ...]] = {
    "alfworld": (
        Source("json_2.1.1_json.zip", f"{_RELEASE}/json_2.1.1_json.zip", 4 * GIB),
        Source("json_2.1.1_tw-pddl.zip", f"{_RELEASE}/json_2.1.1_tw-pddl.zip", 4 * GIB),
    ),
    "webshop": (
        Source("items_shuffle_1000.json", f"{_DRIVE}1EgHdxQ_YxqIQlvvq5iKlCrkEKR6-j0Ib", GIB),
        Source("items_ins_v2_1000.json", f"{_DRIVE}1IduG0xl544V_A_jv3tHXC0kyFi7PnyBu", GIB),
        Source("items_human_ins.json", f"{_DRIVE}14Kb5SPBk_jfdLZ_CDBNitW98QLDlKR5O", GIB),
    ),
    "webshop-full": (
        Source("items_shuffle.json", f"{_DRIVE}1A2whVgOO0euk5O13n2iYDM0bQRkkRduB", 32 * GIB),
        Source("items_ins_v2.json", f"{_DRIVE}1s2j6NgHljiZzQNL3veZaAiyW_qDEgBNi", 8 * GIB),
        Source("items_human_ins.json", f"{_DRIVE}14Kb5SPBk_jfdLZ_CDBNitW98QLDlKR5O", GIB),
    ),
}


def fetch(
    name: str,
    progress: Progress,
    folder: Path | None = None,
    mirrors: Sequence[str] = (),
    sums: Mapping[str, str] | None = None,
    patience: Patience | None = None,
) -> Path:
    """Fetches a data set into ``folder`` (default: below the cache); returns the folder.

    ``mirrors`` are addresses of folders that hold the same files, tried first; ``sums`` maps file
    names to the SHA-256 they must have. What is there already and unchanged is left alone; an
    interrupted fetch goes on. The folder gets its data only when all of it is there and sound.
    Raises :class:`~step_ray.download.DownloadError`.
    """
    sources, sums = _known(name, sums or {})
    folder = (folder or fetch_folder(name)).expanduser().absolute()
    if (folder / RECORD).is_file():
        return folder
    if folder.is_dir() and any(folder.iterdir()):
        raise DownloadError(f"{folder} holds other files; name an empty or new folder by --output")
    arriving = folder.with_name(f"{folder.name}.arriving")
    try:
        found = {
            source.name: _one(source, arriving, progress, mirrors, sums, patience)
            for source in sources
        }
        ready = _unpacked(arriving, folder, sources)
        files = {
            path.relative_to(ready).as_posix(): sha256_file(path)
            for path in sorted(ready.rglob("*"))
            if path.is_file()
        }
        from_where = {source.name: source.address for source in sources}
        record = {"fetched": now(), "sources": from_where, "sums": found, "files": files}
        write_json_atomic(ready / RECORD, record)
        if folder.is_dir():
            folder.rmdir()
        ready.replace(folder)
        shutil.rmtree(arriving, ignore_errors=True)
    except OSError as error:
        raise DownloadError(explain(error, folder)) from error
    return folder


def _known(name: str, sums: Mapping[str, str]) -> tuple[tuple[Source, ...], Mapping[str, str]]:
    if name not in SOURCES:
        raise DownloadError(f"no data set {name!r}; there are {', '.join(SOURCES)}")
    files = [source.name for source in SOURCES[name]]
    for file, digest in sums.items():
        if file not in files:
            raise DownloadError(f"{name} has no file {file!r} to check; it has {', '.join(files)}")
        if len(digest) != 64 or not set(digest.lower()) <= set("0123456789abcdef"):
            raise DownloadError(f"{file}: {digest!r} is no SHA-256, which is 64 hex digits")
    return SOURCES[name], sums


def _one(
    source: Source,
    arriving: Path,
    progress: Progress,
    mirrors: Sequence[str],
    sums: Mapping[str, str],
    patience: Patience | None,
) -> str:
    addresses = [f"{mirror.rstrip('/')}/{source.name}" for mirror in mirrors] + [source.address]
    with progress.stage(source.name, unit="MiB") as bar:

        def report(done: int, total: int | None) -> None:
            bar.set(completed=done // _MIB, total=None if total is None else total // _MIB)

        return download(
            addresses,
            arriving / source.name,
            limit=source.limit,
            check=_whole,
            sha256=sums.get(source.name, ""),
            patience=patience,
            report=report,
        )


def _whole(path: Path) -> None:
    """Refuses what is not the kind of file its name says, such as a web page about an error."""
    if path.suffix == ".zip":
        if not zipfile.is_zipfile(path):
            raise ValueError("what came is not a zip archive (a web page?)")
        return
    with path.open("rb") as file:
        first = file.read(64).lstrip()[:1]
        file.seek(max(0, path.stat().st_size - 64))
        last = file.read().rstrip()[-1:]
    if (first, last) not in ((b"[", b"]"), (b"{", b"}")):
        raise ValueError("what came is not a whole JSON file (a web page?)")


def _unpacked(arriving: Path, folder: Path, sources: Sequence[Source]) -> Path:
    """A folder next to the final one with all that is to be in it."""
    ready = temporary_name(folder)
    try:
        ready.mkdir()
        for source in sources:
            path = arriving / source.name
            if path.suffix != ".zip":
                shutil.move(path, ready / source.name)
                continue
            try:
                unpack(path, ready, _GAME_FILES, most_bytes=16 * GIB, most_files=100_000)
            except UnpackError as error:
                path.unlink()
                raise DownloadError(f"{error}; the archive is removed, fetch it again") from error
    except BaseException:
        shutil.rmtree(ready, ignore_errors=True)
        raise
    return ready
