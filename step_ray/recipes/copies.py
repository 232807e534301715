"""Copies of the datasets of finished stages in an object store, if the config asks for them."""

from __future__ import annotations

from pathlib import Path

from step_ray.bucket import BucketError
from step_ray.manifest import MANIFEST
from step_ray.mirror import mirror
from step_ray.progress import Progress
from step_ray.run import Stage


class Copies:
    """What to do with a stage that is done: its dataset, if it made one, is copied to a folder of
    its name below ``target``. A store that fails keeps no stage from its work: what it did not take
    is sent again in the end.
    """

    def __init__(self, target: str | None, progress: Progress, replace: bool) -> None:
        self._target, self._progress, self._replace = target, progress, replace
        self._missing: dict[str, Path] = {}

    def __call__(self, stage: Stage) -> None:
        """Copies the stage's dataset. Raises StoreError if that is damaged, or another is there."""
        data = stage.outputs.get("data")
        if self._target is None or not isinstance(data, Path) or not (data / MANIFEST).exists():
            return
        try:
            self._copy(self._target, stage.name, data)
        except BucketError as error:
            self._missing[stage.name] = data
            self._progress.note(f"{stage.name}: not copied, tried again in the end: {error}")

    def finish(self) -> None:
        """Sends what is missing. Raises BucketError if the store does not take it now either."""
        for name, data in list(self._missing.items()):
            assert self._target is not None, "nothing is missing where nothing is copied"
            try:
                self._copy(self._target, name, data)
            except BucketError as error:
                raise BucketError(
                    f"{error}; all stages are done, but not copied are {', '.join(self._missing)}: "
                    "run the same command again to copy them"
                ) from error
            del self._missing[name]

    def _copy(self, target: str, name: str, data: Path) -> None:
        place = f"{target.rstrip('/')}/{name}"
        done = mirror(data, place, replace=self._replace, note=self._progress.note)
        self._progress.note(f"{name}: {done.sent} shards sent, {done.there} were in {place}")
