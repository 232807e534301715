"""What all stages of a run share, and how every recipe begins and ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from step_ray.config import RunConfig, execution_fields
from step_ray.patience import Patience
from step_ray.progress import Progress
from step_ray.recipes.cluster import cluster
from step_ray.recipes.copies import Copies
from step_ray.recipes.world import World
from step_ray.run import Run


@dataclass(frozen=True, slots=True)
class Workshop:
    """A run that is open, what was asked of it, its world, and who is told how it goes."""

    run: Run
    config: RunConfig
    world: World
    progress: Progress

    @property
    def patience(self) -> Patience:
        """How long models and trainings wait for room, and who is told."""
        return Patience(self.config.ray.wait_seconds, self.progress.note)


@contextlib.contextmanager
def opened(config: RunConfig, world: World, progress: Progress, fresh: bool) -> Iterator[Workshop]:
    """Opens or continues the run in ``config.output``, on the cluster it is to use.

    Raises RunError if another driver has it, or if it was made with other settings and not
    ``fresh``; in the end BucketError if a dataset could not be copied.
    """
    copies = Copies(config.publish, progress, replace=fresh)
    with (
        Run.open(config.output, config.resolved(), fresh, execution_fields()) as run,
        cluster(config.ray),
    ):
        run.shared = config.share
        run.when_done = copies
        yield Workshop(run, config, world, progress)
        copies.finish()
