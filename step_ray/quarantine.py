"""Moving a file of a dataset folder out of the way: kept for a person, read by nobody."""

from __future__ import annotations

from pathlib import Path

from step_ray import files
from step_ray.manifest import MANIFEST, Quarantined, StoreError, disk_errors

QUARANTINE = "quarantine"


def move_aside(folder: Path, name: str, problem: str) -> Quarantined:
    """Moves a file of ``folder`` to its ``quarantine/``, under a new name if that one is taken."""
    source = folder / name
    target = folder / QUARANTINE / source.name
    target.parent.mkdir(exist_ok=True)
    number = 1
    while target.exists():
        number += 1
        target = target.with_name(f"{source.stem}-{number}{source.suffix}")
    source.replace(target)
    files.sync(target.parent)
    files.sync(source.parent)
    return Quarantined(target.relative_to(folder).as_posix(), problem)


def quarantine(folder: str | Path, name: str) -> Path:
    """Moves a file of a dataset folder to its ``quarantine/``; returns where it is now.

    If the manifest lists the file, the manifest goes with it: a dataset with a hole is no dataset,
    and the stage that made it will publish it anew.
    """
    folder = Path(folder)
    source = folder / name
    if source.parent != folder or not source.is_file():
        raise StoreError(f"{source}: no such file directly in {folder}; check the name")
    with disk_errors(folder):
        moved = move_aside(folder, name, "by hand")
        manifest = folder / MANIFEST
        if manifest.exists() and f'"{name}"' in manifest.read_text(encoding="utf-8"):
            manifest.replace(folder / f"{moved.name}.{MANIFEST}")
            files.sync(folder)
    return folder / moved.name
