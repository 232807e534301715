"""Copies of the datasets of finished stages in an object store, if the config asks for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from step_ray.manifest import MANIFEST
from step_ray.mirror import mirror
from step_ray.progress import Progress
from step_ray.run import Stage


def copy_to(target: str | None, progress: Progress, replace: bool) -> Callable[[Stage], None]:
    """What to do with a stage that is done: its dataset, if it made one, is copied to a folder of
    its name below ``target``. Raises StoreError and BucketError; the stage stays done."""

    def copy(stage: Stage) -> None:
        data = stage.outputs.get("data")
        if target is None or not isinstance(data, Path) or not (data / MANIFEST).exists():
            return
        place = f"{target.rstrip('/')}/{stage.name}"
        done = mirror(data, place, replace=replace, note=progress.note)
        progress.note(f"{stage.name}: {done.sent} shards sent, {done.there} were in {place}")

    return copy
