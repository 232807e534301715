"""Official files that ``step-ray data fetch`` brought: where they lie, what they were."""

from __future__ import annotations

import json
from pathlib import Path

from step_ray.envs.cache import cache_folder
from step_ray.files import sha256_file

RECORD = "fetched.json"  # in the folder: from where and when its files are, and their SHA-256


def fetch_folder(name: str) -> Path:
    """Where the files of a data set go unless a person names another folder."""
    return cache_folder() / "data" / name


def fetched_folders() -> dict[str, Path]:
    """Data set -> its folder, of those that were fetched to where they go by default."""
    return {
        record.parent.name: record.parent for record in sorted(fetch_folder("").glob(f"*/{RECORD}"))
    }


def changed_files(folder: Path) -> list[str]:
    """Files that are missing or not as they were fetched, by the folder's record."""
    files = json.loads((folder / RECORD).read_text("utf-8"))["files"]
    return [
        name
        for name, digest in files.items()
        if not (folder / name).is_file() or sha256_file(folder / name) != digest
    ]
