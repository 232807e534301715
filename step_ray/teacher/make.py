"""From a config's section ``teacher`` to the teacher itself."""

from __future__ import annotations

from pathlib import Path

from step_ray.config_teacher import (
    ExpertTeacherConfig,
    LLMTeacherConfig,
    RemoteModelConfig,
    TeacherConfig,
)
from step_ray.models.base import ChatModel, ModelError, Sampling
from step_ray.models.traffic import Price
from step_ray.teacher.base import Teacher
from step_ray.teacher.cache import CachedModel
from step_ray.teacher.expert import ExpertTeacher
from step_ray.teacher.llm import LLMTeacher
from step_ray.teacher.prompts import load_prompts

CACHE = "cache"  # the folder of a run with what may be deleted


def make_teacher(config: TeacherConfig, env: str, run: Path) -> Teacher:
    """The teacher for an environment. Asks nobody anything yet, and needs no key.

    ``run`` is the run's folder, where replies are kept unless the config says otherwise. Raises
    TeacherError for prompts that cannot be used, ModelError for a missing package.
    """
    if isinstance(config, ExpertTeacherConfig):
        return ExpertTeacher()
    return _llm_teacher(config, env, run)


def make_model(config: RemoteModelConfig) -> ChatModel:
    """The model that a teacher is made of."""
    try:
        from step_ray.models.remote import RemoteModel
    except ModuleNotFoundError as error:
        raise ModelError(f'{error}; pip install "step-ray[remote]"') from error
    price = config.price
    return RemoteModel(
        config.base_url,
        config.model,
        key_env=config.key_env,
        revision=config.revision,
        concurrency=config.concurrency,
        timeout=config.timeout,
        deadline=config.deadline,
        price=None if price is None else Price(price.prompt, price.completion, price.cached),
        extra=config.extra,
    )


def _llm_teacher(config: LLMTeacherConfig, env: str, run: Path) -> LLMTeacher:
    prompts = load_prompts(env, config.prompts)
    model = make_model(config.model)
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
