"""A copy of a published dataset in an object store, as exact as the dataset itself.

Shards first, the manifest last: until it is there the copy does not exist, and a copy that is
being replaced stays what it was. Shards are named by their content, so what an interrupted upload
had finished is found again and not sent twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from step_ray import faults
from step_ray.bucket import BucketError, ObjectPath, Place, place
from step_ray.manifest import MANIFEST, Manifest, Shard, StoreError, read_manifest


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a copy took: shards sent, and those that were there already."""

    sent: int
    there: int


def mirror(
    folder: Path,
    target: str | Place,
    *,
    replace: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Mirrored:
    """Makes ``target`` (``s3://bucket/folder``) a copy of the dataset in ``folder``.

    Doing it again is harmless and mends a damaged copy. Another dataset there is refused unless
    ``replace``; then its shards are removed once nobody needs them. ``note`` is told of damage.
    Raises StoreError for a dataset that is not as published, BucketError for the other side.
    """
    there = place(target)
    if not isinstance(there, ObjectPath):
        raise BucketError(f"{target}: not an address like s3://bucket/folder; correct it")
    manifest, old = read_manifest(folder), _manifest_there(there)
    if old is not None and old.content_hash != manifest.content_hash and not replace:
        raise StoreError(
            f"{there / MANIFEST}: another dataset is published there ({old.rows} rows, "
            f"{old.content_hash[:12]}; here: {manifest.rows} rows, {manifest.content_hash[:12]}); "
            "choose another place, or replace it with --fresh"
        )
    sent = 0
    for shard in manifest.shards:
        known = (there / shard.name).size()
        if known is not None and known == shard.bytes and _as_published(there / shard.name, shard):
            continue
        if known is not None:
            note(f"{there / shard.name}: its content was not what was published; sent again")
        content = (folder / shard.name).read_bytes()
        if hashlib.sha256(content).hexdigest() != shard.sha256:
            raise StoreError(f"{folder / shard.name}: its content is not what was published")
        (there / shard.name).write_bytes(content)
        sent += 1
        faults.point("shard-sent")
    content = (folder / MANIFEST).read_bytes()
    if old is None or (there / MANIFEST).read_bytes() != content:
        (there / MANIFEST).write_bytes(content)
        faults.point("manifest-sent")
    listed = {shard.name for shard in manifest.shards}
    for shard in old.shards if old is not None else ():
        if shard.name not in listed:
            (there / shard.name).unlink()
    return Mirrored(sent, len(manifest.shards) - sent)


def _manifest_there(there: ObjectPath) -> Manifest | None:
    return read_manifest(there) if (there / MANIFEST).size() is not None else None


def _as_published(path: ObjectPath, shard: Shard) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == shard.sha256
