"""Archives of others, unpacked without trust: no way out of the folder, no bomb, no links."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Collection
from pathlib import Path, PurePosixPath

_CHUNK = 1 << 20


class UnpackError(ValueError):
    """The archive is damaged, or not one that a data set is published as; says where."""


def unpack(
    archive: Path, folder: Path, keep: Collection[str], *, most_bytes: int, most_files: int
) -> int:
    """Unpacks those files of a zip whose last name is in ``keep``; returns how many.

    The limits hold for what is really written, whatever the archive says of itself. Every byte
    is checked against the archive's own checksums. Raises :class:`UnpackError`.
    """
    written = files = 0
    try:
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                place = _inside(info, archive)
                if info.is_dir() or place.name not in keep:
                    continue
                files += 1
                if files > most_files:
                    raise UnpackError(f"{archive.name}: more than {most_files:,} files")
                target = folder / place
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(info) as source, target.open("wb") as file:
                    while chunk := source.read(_CHUNK):
                        written += len(chunk)
                        if written > most_bytes:
                            raise UnpackError(
                                f"{archive.name}: unpacks to over {most_bytes:,} bytes"
                            )
                        file.write(chunk)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise UnpackError(f"{archive.name}: {error}") from error
    if not files:
        raise UnpackError(f"{archive.name}: holds none of {', '.join(sorted(keep))}")
    return files


def _inside(info: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    """The path of a member, if it is a plain one below the folder."""
    name = PurePosixPath(info.filename)
    if name.is_absolute() or ".." in name.parts or "\\" in info.filename or ":" in info.filename:
        raise UnpackError(f"{archive.name}: {info.filename!r} leads out of the folder")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnpackError(f"{archive.name}: {info.filename!r} is neither a file nor a folder")
    return name
