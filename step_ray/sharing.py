"""Finished stages that several runs have in common: each is made once and linked into the others.

A stage's fingerprint says all that it depends on, so a stage of the same name and fingerprint is
the same stage. Files are hard links where the file system has them (a finished stage is never
written to), else copies.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from step_ray import files
from step_ray.lineage import STAGE, read_json


def take(shared: Path, folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """Links the finished stage of this fingerprint, if there is one, to ``folder``, which is empty
    or absent; returns its record."""
    source = _home(shared, folder.name, fingerprint)
    if not (source / STAGE).exists():
        return None
    if folder.exists():
        folder.rmdir()
    _link(source, folder)
    return read_json(folder / STAGE)


def give(shared: Path, folder: Path, fingerprint: str) -> None:
    """Leaves a finished stage for others, unless there is one of this fingerprint."""
    target = _home(shared, folder.name, fingerprint)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(folder, target)


def finished(shared: Path, name: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The finished stages of this name, in a fixed order, each with its record."""
    for path in sorted(shared.glob(f"{name}-*/{STAGE}")):
        record = read_json(path)
        if record["name"] == name:
            yield path.parent, record


def _home(shared: Path, name: str, fingerprint: str) -> Path:
    return shared / f"{name}-{fingerprint}"


def _link(source: Path, target: Path) -> None:
    """The whole folder appears at once; who is second to make it keeps what is there."""
    unfinished = files.temporary_name(target)
    try:
        shutil.copytree(source, unfinished, copy_function=_one)
        if not target.exists():
            unfinished.replace(target)
            files.sync(target.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _one(source: str, target: str) -> None:
    if Path(source).name == STAGE:  # a record is of one run: its order is the run's own
        shutil.copy2(source, target)
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
