"""``step-ray compare``: runs what is missing of a suite, then puts all of it into one table."""

from __future__ import annotations

from collections.abc import Sequence

from step_ray.bucket import BucketError
from step_ray.config_suite import Cell
from step_ray.envs.base import EnvError
from step_ray.lineage import RunError
from step_ray.manifest import StoreError
from step_ray.models.base import ModelError
from step_ray.models.encoding import TemplateError
from step_ray.progress import Progress
from step_ray.recipes.choose import run_recipe
from step_ray.recipes.cluster import cluster
from step_ray.synthesis.placement import PipelineError
from step_ray.teacher.base import TeacherError
from step_ray.training.checkpoint import TrainError

# What concerns one run: the others may go well.
_OF_ONE_RUN = (
    *(BucketError, EnvError, ModelError, PipelineError, RunError),
    *(StoreError, TeacherError, TemplateError, TrainError),
)


def run_missing(
    cells: Sequence[Cell], progress: Progress, fresh: bool = False
) -> list[tuple[Cell, str]]:
    """Runs or continues every run of a suite on one cluster; stages that are the same in several of
    them are made once. A run that fails does not keep the others from running: returns those that
    did, and what went wrong."""
    failed = []
    with cluster(cells[0].config.ray):
        for number, cell in enumerate(cells, start=1):
            progress.note(f"{number} of {len(cells)}: {cell.label}")
            try:
                run_recipe(cell.config, progress, fresh)
            except _OF_ONE_RUN as error:
                failed.append((cell, str(error)))
                progress.note(f"failed: {cell.label}: {error}")
    return failed
