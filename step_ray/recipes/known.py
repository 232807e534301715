"""Episodes that another run of a suite has played: they are taken, not played again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from step_ray import sharing, store
from step_ray.run import Stage
from step_ray.synthesis import raw
from step_ray.synthesis.pipeline import RAW_SCHEMA
from step_ray.synthesis.spec import EpisodeSpec


def take_known(
    stage: Stage, shared: Path | None, specs: Sequence[EpisodeSpec], note: Callable[[str], None]
) -> set[str]:
    """Puts what finished stages in ``shared``, of the same name and settings as ``stage``, have of
    ``specs`` among its raw rows; returns the ids. An episode is a function of its spec, so it is
    the one that would be played.

    Raises StoreError for a shared dataset that cannot be read.
    """
    if shared is None:
        return set()
    raw.prepare(stage.path, note)
    wanted = {spec.id for spec in specs}
    wanted -= {row["id"] for row in raw.rows(raw.complete(stage.path), ["id"])}
    taken: set[str] = set()
    for folder, record in sharing.finished(shared, stage.name):
        mine, theirs = stage.identity, record["identity"]
        if any(mine[part] != theirs[part] for part in ("config", "data_version")):
            continue
        rows = [row for row in store.read_rows(folder) if row["id"] in wanted - taken]
        block = raw.Block(stage.path, [row["id"] for row in rows], RAW_SCHEMA, lambda rows: None)
        for row in rows:
            block.add(row)
        block.close()
        taken |= {row["id"] for row in rows}
    if taken:
        note(f"{stage.name}: {len(taken)} of {len(specs)} episodes were played by another run")
    return taken
