"""From a config's section ``teacher`` to the teacher itself."""

from __future__ import annotations

from pathlib import Path

from step_ray.config_models import ModelConfig, RemoteModelConfig
from step_ray.config_teacher import ExpertTeacherConfig, KnownTeacherConfig, LLMTeacherConfig
from step_ray.models import make as models
from step_ray.models.base import ChatModel, Sampling
from step_ray.teacher.base import Teacher
from step_ray.teacher.cache import CachedModel
from step_ray.teacher.expert import ExpertTeacher
from step_ray.teacher.llm import LLMTeacher
from step_ray.teacher.prompts import load_prompts

CACHE = "cache"  # the folder of a run with what may be deleted
MODEL = "teacher-model"
"""The part of a run that is the Serve application of a teacher's model."""


def make_teacher(
    config: KnownTeacherConfig, env: str, run: Path, model: ChatModel | None = None
) -> Teacher:
    """The teacher for an environment. Asks nobody anything yet, and needs no key.

    ``run`` is the run's folder, where replies are kept unless the config says otherwise; ``model``
    the one to ask, by default what :func:`make_model` makes. Raises TeacherError for prompts that
    cannot be used, ModelError for a missing package or model folder.
    """
    if isinstance(config, ExpertTeacherConfig):
        return ExpertTeacher()
    return _llm_teacher(config, env, run, model or make_model(config.model, run))


def make_model(config: ModelConfig, run: Path) -> ChatModel:
    """The model that a teacher asks. One of a folder is asked by handle: recipes deploy it as the
    Serve application :data:`MODEL` of the ``run`` (:mod:`step_ray.recipes.teachers`)."""
    if isinstance(config, RemoteModelConfig):
        return models.make_model(config)
    from step_ray.models.served import ModelHandle, app_of

    return ModelHandle(app_of(run, MODEL), models.folder_fingerprint(config))


def _llm_teacher(config: LLMTeacherConfig, env: str, run: Path, model: ChatModel) -> LLMTeacher:
    prompts = load_prompts(env, config.prompts)
    if config.cache:
        folder = config.cache_folder.expanduser() if config.cache_folder else run / CACHE
        model = CachedModel(model, folder, prompts.version)
    return LLMTeacher(
        model,
        prompts,
        calls=config.calls,
        privileged=config.privileged,
        show_admissible=config.show_admissible,
        sampling=Sampling(config.temperature, 1.0, config.max_tokens),
        attempts=config.attempts,
        constrain=config.constrain,
    )
