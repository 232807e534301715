"""The teacher of a stage on the cluster, with its model where that is served here."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from step_ray.config import RunConfig
from step_ray.config_models import RemoteModelConfig
from step_ray.config_teacher import KnownTeacherConfig, LLMTeacherConfig, SelfTeacherConfig
from step_ray.models.applications import withdraw
from step_ray.models.base import ChatModel
from step_ray.models.make import make_model
from step_ray.models.served import app_of, deploy
from step_ray.models.serving import start_teacher
from step_ray.patience import PATIENT, Patience
from step_ray.recipes.students import Load
from step_ray.teacher.base import Teacher
from step_ray.teacher.make import MODEL, make_teacher


def teacher_for(config: RunConfig, agent: Path, original: Path) -> KnownTeacherConfig:
    """The config's teacher of ``agent``, a model's folder; one that is the student itself is a
    language model of that folder, or of the ``original`` one's."""
    teacher = config.teacher
    if not isinstance(teacher, SelfTeacherConfig):
        return teacher
    folder = agent if teacher.weights == "acting" else original
    return teacher.of(config.student.served(folder))


@contextlib.contextmanager
def teacher_of(
    config: KnownTeacherConfig,
    env: str,
    run: Path,
    engines: Load | None = None,
    patience: Patience = PATIENT,
) -> Iterator[Teacher]:
    """The teacher of a stage while the block runs; afterwards its counts, if it has any, are final.
    One with a model is hosted by Ray Serve; one without costs less in the workers than the way to a
    server. ``engines``: where its model runs already, if it does.

    Raises TeacherError or ModelError if it, or its model, finds no room or does not answer.
    """
    if not isinstance(config, LLMTeacherConfig):
        yield make_teacher(config, env, run)
        return
    with teacher_model(config, run, engines, patience) as model:
        make = functools.partial(make_teacher, config, env, run, model)
        name = app_of(run, "teacher")
        try:
            yield start_teacher(config.replicas, make=make, name=name, patience=patience)
        finally:
            withdraw(name, app_of(run, MODEL))


@contextlib.contextmanager
def teacher_model(
    config: KnownTeacherConfig,
    run: Path,
    engines: Load | None = None,
    patience: Patience = PATIENT,
) -> Iterator[ChatModel | None]:
    """A teacher's model as a Serve application of the run, or in the ``engines`` that there are, if
    it is one of a folder; else None."""
    if not isinstance(config, LLMTeacherConfig) or isinstance(config.model, RemoteModelConfig):
        yield None
        return
    if engines is not None:
        yield engines(config.model.model)
        return
    name = app_of(run, MODEL)
    try:
        yield deploy(
            name,
            functools.partial(make_model, config.model),
            replicas=config.model.scaling(),
            cpus=0,  # Ray's CPUs are for workers; an engine takes what cores there are
            gpus=getattr(config.model, "gpus_per_replica", 0.0),
            nodes=config.model.nodes,
            patience=patience,
        )
    finally:
        withdraw(name)


def counts_of(teacher: Teacher | None) -> Callable[[], Mapping[str, float]]:
    """What the teacher counts, such as tokens; nothing for those that count nothing."""
    counts: Callable[[], Mapping[str, float]] = getattr(teacher, "counts", dict)
    return counts
