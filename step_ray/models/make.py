"""From a section of a config to a model that answers in this process. Neither torch nor vLLM is
loaded before a model is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from step_ray.config import RunConfig
from step_ray.config_models import (
    FolderModelConfig,
    ModelConfig,
    RemoteModelConfig,
    VllmModelConfig,
)
from step_ray.config_teacher import LLMTeacherConfig
from step_ray.models.base import ChatModel, ModelError
from step_ray.models.fingerprint import model_fingerprint
from step_ray.models.traffic import Price

PACKAGED_MODEL = Path(__file__).parent / "play"
_OWN = "(own)"  # what the adapter of a config is called in its engine


def make_model(config: ModelConfig, adapters: Mapping[str, str] | None = None) -> ChatModel:
    """The model itself; on vLLM it may have further ``adapters`` (name -> folder) beside the
    config's own. Raises :class:`ModelError` if it cannot be had."""
    if isinstance(config, RemoteModelConfig):
        return _remote(config)
    folder = Path(config.model).expanduser()
    own = config.adapter and str(config.adapter.expanduser())
    if isinstance(config, VllmModelConfig):
        from step_ray.models.vllm import VllmModel

        named = {**(adapters or {}), **({_OWN: own} if own else {})}
        return VllmModel(folder, engine=config.engine, adapters=named, adapter=_OWN if own else "")
    if adapters:
        raise ModelError("several adapters in one engine need vLLM: set the backend to vllm")
    from step_ray.models.local import LocalModel

    return LocalModel(
        folder,
        adapter=own,
        dtype=config.dtype,
        slots=config.slots,
        max_length=config.context,
    )


def folder_fingerprint(config: FolderModelConfig) -> str:
    """The fingerprint of the model that :func:`make_model` would make, read from its files."""
    adapter = config.adapter and config.adapter.expanduser()
    return model_fingerprint(Path(config.model).expanduser(), adapter)


def original_model(config: RunConfig) -> Path | None:
    """Folder of the model that every student starts from; None if there is none yet."""
    if not config.student.tiny:
        return Path(config.student.model).expanduser().resolve()
    return PACKAGED_MODEL if config.env.name == "alfworld" else None


def check_engines(config: RunConfig) -> None:
    """Raises :class:`ModelError` for engine arguments that vLLM does not have, where it is
    installed: before anything starts. Loading vLLM takes seconds, so it is not done for none."""
    sections = {"student": config.student.engine}
    if isinstance(config.teacher, LLMTeacherConfig):
        sections["teacher.model"] = getattr(config.teacher.model, "engine", {})
    for section, engine in sections.items():
        if engine:
            from step_ray.models.vllm import check_engine

            check_engine(engine, f"{section}.engine")


def _remote(config: RemoteModelConfig) -> ChatModel:
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
