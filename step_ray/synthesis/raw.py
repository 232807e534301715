"""What the workers of a stage have written so far: at-least-once work, not yet a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from step_ray import store
from step_ray.quarantine import move_aside

RAW, CHECKPOINTS = "raw", "checkpoint"
_PENDING = ".pending.parquet"


def complete(folder: Path) -> list[Path]:
    """The complete raw files. Ray Data marks a file that is being written by a pending checkpoint
    of the same name: what a crash left of such a file is not read, and its episodes run again."""
    pending = (folder / CHECKPOINTS).glob(f"*{_PENDING}")
    torn = tuple(path.name.removesuffix(_PENDING) for path in pending)
    raw = sorted((folder / RAW).glob("[!.]*.parquet"))
    return [path for path in raw if not path.name.startswith(torn)]


def rows(paths: Sequence[Path], columns: list[str]) -> Iterator[dict[str, Any]]:
    """Some columns of raw files; raises StoreError for a file that cannot be read."""
    for path in paths:
        yield from store.read_parquet(path, columns).to_pylist()


def quarantine_damaged(folder: Path, note: Callable[[str], None]) -> None:
    """Moves raw files that cannot be read in full to ``quarantine/``, telling ``note`` of each,
    and forgets that their episodes were done, so that they run again."""
    for path in complete(folder):
        try:
            store.read_parquet(path, None)
        except store.StoreError as error:
            done = [
                checkpoint
                for checkpoint in (folder / CHECKPOINTS).glob("*.parquet")
                if path.name.startswith(checkpoint.stem)
            ]
            move_aside(folder, f"{RAW}/{path.name}", str(error))
            for checkpoint in done:
                checkpoint.unlink()
            note(f"{path}: quarantined, its episodes run again: {error}")
