"""Chat models behind Ray Serve: by handle in the cluster, by HTTP from outside."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import ray
from ray import serve

from step_ray.models.base import ChatModel, ModelError, Reply, Sampling
from step_ray.models.openai_http import MAX_BYTES, make_app, stream

_QUESTION = [{"role": "user", "content": "Say a word."}]


@serve.deployment(max_ongoing_requests=512, graceful_shutdown_timeout_s=60)
class ChatDeployment:
    """A replica that holds one model; it counts as started once it has answered a question."""

    async def __init__(self, make: Callable[[], ChatModel]) -> None:  # type: ignore[misc]
        # Serve awaits it.
        self._model = make()  # here, in the loop that it will answer in
        await self._model.chat(_QUESTION, Sampling(max_tokens=2))

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None,
    ) -> Reply:
        return await self._model.chat(messages, sampling, schema)

    async def stream(
        self,
        messages: list[dict[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None,
    ) -> AsyncIterator[Reply]:
        async for piece in stream(self._model, messages, sampling, schema):
            yield piece

    async def identity(self) -> str:
        """The model's fingerprint."""
        return self._model.fingerprint

    async def check_health(self) -> None:
        """Asked by Serve again and again; a replica whose engine is dead is replaced."""
        check = getattr(self._model, "check_health", None)
        if check is not None:
            await check()

    def __del__(self) -> None:
        close = getattr(getattr(self, "_model", None), "close", None)
        if close is not None:
            close()


class ModelHandle:
    """A :class:`ChatModel` that is asked through its Serve application; picklable by name."""

    def __init__(self, app: str, fingerprint: str) -> None:
        self.app = app
        self.fingerprint = fingerprint
        self._handle: Any = None

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Asks the deployment; an error of the model stays a ModelError."""
        with self._errors():
            reply: Reply = await self._deployed().chat.remote(list(messages), sampling, schema)
        return reply

    async def stream(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Reply]:
        """The same piece by piece."""
        streaming = self._deployed().options(stream=True)
        pieces = streaming.stream.remote(list(messages), sampling, schema)
        with self._errors():
            async for piece in pieces:
                yield piece

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """The model's own errors as they are, those of the way to it as a ModelError too."""
        try:
            yield
        except ModelError:
            raise
        except ray.exceptions.RayError as failed:
            raise ModelError(f"model {self.app}: {failed}") from failed

    def _deployed(self) -> Any:
        if self._handle is None:
            self._handle = serve.get_app_handle(self.app)
        return self._handle

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


def deploy(
    name: str,
    make: Callable[[], ChatModel],
    *,
    replicas: int | Mapping[str, Any] = 1,
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> ModelHandle:
    """Deploys a model as the Serve application ``name`` and waits until it has answered.

    ``replicas``: a number, or Serve's autoscaling settings. Raises :class:`ModelError` if it does
    not become healthy.
    """
    number = {"num_replicas": replicas} if isinstance(replicas, int) else {}
    scaling = {} if isinstance(replicas, int) else {"autoscaling_config": dict(replicas)}
    deployment = cast(Any, ChatDeployment).options(
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus}, **number, **scaling
    )
    try:
        handle = serve.run(deployment.bind(make), name=name, route_prefix=None)
        return ModelHandle(name, handle.identity.remote().result(timeout_s=60))
    except (RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
        raise ModelError(f"model {name} cannot be served: {error}") from error


def withdraw(name: str) -> None:
    """Takes an application off the cluster, after what it is answering."""
    serve.delete(name)


def front(
    models: Mapping[str, ModelHandle], token: str | None, max_bytes: int = MAX_BYTES
) -> serve.Application:
    """The Serve application with the HTTP face of deployed models."""
    app = make_app(lambda: models, token, max_bytes)

    @serve.deployment(name="front", max_ongoing_requests=1024)
    @serve.ingress(app)
    class Front:
        """Passes requests on; the models answer elsewhere."""

    return cast(Any, Front).bind()
