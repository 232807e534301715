"""The models of a config as one Serve application: OpenAI's HTTP outside, handles inside."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import ray
from ray import serve

from step_ray.config import RunConfig
from step_ray.config_models import RemoteModelConfig
from step_ray.config_serve import SERVED, ServeConfig
from step_ray.config_teacher import LLMTeacherConfig
from step_ray.models.base import ModelError
from step_ray.models.make import make_model, original_model
from step_ray.models.openai_http import make_app
from step_ray.models.served import ModelHandle, bound, why

APP = "step-ray"


@serve.deployment(name="http", max_ongoing_requests=1024, ray_actor_options={"num_cpus": 0})
@serve.ingress()
class Front:
    """Passes requests on to the models. The token stays in the environment of this process."""

    def __init__(
        self, models: Mapping[str, tuple[Any, str]], settings: ServeConfig, need_token: bool
    ) -> None:
        """``models``: name outside -> (handle, adapter)."""
        self._settings = settings
        self._token = read_token(settings, need_token)
        self._models = {
            name: ModelHandle(
                handle.app_name, "", deployment=handle.deployment_name, adapter=adapter
            )
            for name, (handle, adapter) in models.items()
        }

    def __serve_build_asgi_app__(self) -> Any:
        size = int(self._settings.max_request_mb * 2**20)
        return make_app(lambda: self._models, self._token, size, self._settings.deadline)


def read_token(settings: ServeConfig, needed: bool) -> str | None:
    """The token that requests have to carry. Raises :class:`ModelError` if one is ``needed`` and
    the environment has none."""
    token = os.environ.get(settings.token_env, "") if settings.token_env else ""
    if needed and settings.token_env and not token:
        raise ModelError(
            f"serve.token_env: the environment variable {settings.token_env} is not set, and the "
            "server would be open to other machines -> put a secret there, where Ray runs; or "
            'listen at 127.0.0.1; or set serve.token_env to "" to let everybody in'
        )
    return token or None


def names(config: RunConfig) -> tuple[str, ...]:
    """Which models a config has: the student, and a teacher that is a language model."""
    return SERVED if isinstance(config.teacher, LLMTeacherConfig) else ("student",)


def application(
    config: RunConfig, which: Sequence[str], need_token: bool = True, cpus: float = 1.0
) -> serve.Application:
    """The Serve application of the models ``which`` ("teacher", "student") with their HTTP face.

    Each replica of a model gets ``cpus`` by Ray's count: one keeps it off a cluster's head. Raises
    :class:`ModelError` for a model that the config does not have.
    """
    models: dict[str, tuple[serve.Application, str]] = {}
    for name in which:
        one = _teacher(config, cpus) if name == "teacher" else _student(config, cpus)
        models[name] = (one, "")
        if name == "student":
            models |= {adapter: (one, adapter) for adapter in config.serve.adapters}
    front = cast(Any, Front).options(graceful_shutdown_timeout_s=config.serve.drain)
    return cast(serve.Application, front.bind(models, config.serve, need_token))


@contextlib.contextmanager
def running(built: serve.Application, settings: ServeConfig) -> Iterator[None]:
    """Serves what :func:`application` has built while the block runs; afterwards takes no new
    requests and finishes those under way.

    Raises :class:`ModelError` if the models do not become healthy.
    """
    try:
        serve.start(http_options={"host": settings.host, "port": settings.port})
        serve.run(built, name=APP, route_prefix="/")
    except (RuntimeError, ray.exceptions.RayError) as error:
        raise ModelError(f"cannot serve: {why(APP, error)}") from error
    try:
        yield
    finally:
        serve.delete(APP)


def _teacher(config: RunConfig, cpus: float) -> serve.Application:
    teacher = config.teacher
    if not isinstance(teacher, LLMTeacherConfig):
        raise ModelError(
            f"teacher.type: no language model that could be served ({teacher.type}) -> use llm, or "
            "serve the student"
        )
    model, drain = teacher.model, config.serve.drain
    make = functools.partial(make_model, model)
    if isinstance(model, RemoteModelConfig):
        return bound(make, name="teacher", cpus=0, drain=drain)
    return bound(
        make,
        name="teacher",
        replicas=model.scaling(),
        cpus=cpus,
        gpus=getattr(model, "gpus_per_replica", 0.0),
        nodes=model.nodes,
        drain=drain,
    )


def _student(config: RunConfig, cpus: float) -> serve.Application:
    folder = original_model(config)
    if folder is None:
        made = Path(config.output) / "original" / "model"
        raise ModelError(
            f"student.model: for {config.env.name} a run makes one ({config.student.model}) -> set "
            f"it to a folder, such as {made}"
        )
    student = config.student
    adapters = {name: str(path.expanduser()) for name, path in config.serve.adapters.items()}
    return bound(
        functools.partial(make_model, student.served(folder, student.adapter), adapters),
        name="student",
        replicas=student.scaling(),
        cpus=cpus,
        gpus=student.gpus_per_replica,
        nodes=student.nodes,
        drain=config.serve.drain,
    )
