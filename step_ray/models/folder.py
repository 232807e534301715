"""What a local Hugging Face folder has to be. Loads nothing."""

from __future__ import annotations

from pathlib import Path

from step_ray.models.base import ModelError


def model_folder(path: str | Path) -> Path:
    """The folder of a model or an adapter. Raises :class:`ModelError` for anything else."""
    folder = Path(path)
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        reason = "there is no config.json in it" if folder.is_dir() else "it does not exist"
        raise ModelError(
            f"{folder} is not a model folder: {reason}. Give the path of a local Hugging Face "
            "folder; nothing is downloaded"
        )
    return folder
