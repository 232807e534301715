"""The config of a run as it was begun, for whoever reads the run later and on another machine."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from step_ray import config_text
from step_ray.config import RunConfig
from step_ray.lineage import CONFIG, RunError, read_json


def config_of(run: Path) -> RunConfig:
    """The config that a run folder holds; whether it could be run here is not asked.

    Raises RunError if there is none, or one that is not of this version.
    """
    path = run / CONFIG
    if not path.is_file():
        raise RunError(f"{run}: no {CONFIG}, so it is no run; give the folder of one")
    raw = read_json(path)
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for _, line in config_text.describe(error, raw, RunConfig))
        raise RunError(
            f"{path}: made by another version of step-ray, or damaged; read it with the version "
            f"that {run / 'manifest.json'} names (code_version):\n{lines}"
        ) from None
