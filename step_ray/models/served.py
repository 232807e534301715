"""Chat models behind Ray Serve, asked by handle. :mod:`step_ray.models.front` adds HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import ray
from ray import serve

from step_ray.models.applications import start
from step_ray.models.base import ChatModel, ModelError, ModelUnavailable, Reply, Sampling
from step_ray.models.openai_http import stream
from step_ray.patience import PATIENT, Patience
from step_ray.trajectory import content_hash

_QUESTION = [{"role": "user", "content": "Say a word."}]
# Seconds before a request is sent again when its replica has died; while there is no replica at
# all it waits in Serve's queue.
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
ANYWHERE: Mapping[str, str] = MappingProxyType({})


@serve.deployment(
    max_ongoing_requests=512,
    graceful_shutdown_timeout_s=60,
    max_constructor_retry_count=2,  # a model that does not load takes minutes to say so
)
class ChatDeployment:
    """A replica that holds one model; it counts as started once it has answered a question."""

    async def __init__(self, make: Callable[[], ChatModel]) -> None:  # type: ignore[misc]
        # Serve awaits it.
        self._model = make()  # here, in the loop that it will answer in
        self._adapted: dict[str, ChatModel] = {}
        await self._model.chat(_QUESTION, Sampling(max_tokens=2))

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None,
        adapter: str = "",
    ) -> Reply:
        return await self._asked(adapter).chat(messages, sampling, schema)

    async def stream(
        self,
        messages: list[dict[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None,
        adapter: str = "",
    ) -> AsyncIterator[Reply]:
        async for piece in stream(self._asked(adapter), messages, sampling, schema):
            yield piece

    async def identity(self, adapter: str = "") -> str:
        """The model's fingerprint."""
        return self._asked(adapter).fingerprint

    async def check_health(self) -> None:
        """Asked by Serve again and again; a replica whose engine is dead is replaced."""
        check = getattr(self._model, "check_health", None)
        if check is not None:
            await check()

    def _asked(self, adapter: str) -> ChatModel:
        if not adapter:
            return self._model
        if adapter not in self._adapted:
            self._adapted[adapter] = cast(Any, self._model).with_adapter(adapter)
        return self._adapted[adapter]

    def __del__(self) -> None:
        close = getattr(getattr(self, "_model", None), "close", None)
        if close is not None:
            close()


class ModelHandle:
    """A :class:`ChatModel` that is asked through its Serve application; picklable by name.

    ``deployment`` names the one that is meant, by default the application's own; ``adapter`` one
    of its model's adapters.
    """

    def __init__(
        self, app: str, fingerprint: str, *, deployment: str = "", adapter: str = ""
    ) -> None:
        self.app = app
        self.fingerprint = fingerprint
        self.deployment = deployment
        self.adapter = adapter
        self._handle: Any = None

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Asks the deployment; an error of the model stays what it is.

        A request whose replica or engine dies or fails is sent again, for two minutes; then
        :class:`~step_ray.models.base.ModelUnavailable` is raised.
        """
        for wait in _WAITS:
            with contextlib.suppress(ModelUnavailable):
                return await self._chat(messages, sampling, schema)
            await asyncio.sleep(wait)
        return await self._chat(messages, sampling, schema)

    async def stream(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Reply]:
        """The same piece by piece, and tried once only."""
        streaming = self._deployed().options(stream=True)
        pieces = streaming.stream.remote(list(messages), sampling, schema, self.adapter)
        with self._errors():
            async for piece in pieces:
                yield piece

    async def _chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None,
    ) -> Reply:
        with self._errors():
            asked = self._deployed().chat.remote(list(messages), sampling, schema, self.adapter)
            reply: Reply = await asked
        return reply

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """The model's own errors as they are, those of the way to it as ModelUnavailable."""
        try:
            yield
        except ModelError:
            raise
        except (ray.exceptions.RayError, serve.exceptions.RayServeException) as failed:
            raise ModelUnavailable(f"model {self.app}: {failed}") from failed

    def _deployed(self) -> Any:
        if self._handle is None:
            self._handle = (
                serve.get_deployment_handle(self.deployment, self.app)
                if self.deployment
                else serve.get_app_handle(self.app)
            )
        return self._handle

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


def bound(
    make: Callable[[], ChatModel],
    *,
    name: str = "ChatDeployment",
    replicas: int | Mapping[str, Any] = 1,
    cpus: float = 1.0,
    gpus: float = 0.0,
    nodes: Mapping[str, str] = ANYWHERE,
    drain: float = 60.0,
) -> serve.Application:
    """A model as (a part of) a Serve application. ``make`` is called in every replica.

    ``replicas``: a number, or Serve's autoscaling settings. ``nodes``: labels of the nodes they may
    run on. ``drain``: seconds that requests under way are given when a replica is stopped.
    """
    number = {"num_replicas": replicas} if isinstance(replicas, int) else {}
    scaling = {} if isinstance(replicas, int) else {"autoscaling_config": dict(replicas)}
    deployment = cast(Any, ChatDeployment).options(
        name=name,
        ray_actor_options={
            "num_cpus": cpus,
            "num_gpus": gpus,
            **({"label_selector": dict(nodes)} if nodes else {}),
        },
        graceful_shutdown_timeout_s=drain,
        **number,
        **scaling,
    )
    return cast(serve.Application, deployment.bind(make))


def deploy(
    name: str,
    make: Callable[[], ChatModel],
    *,
    replicas: int | Mapping[str, Any] = 1,
    cpus: float = 1.0,
    gpus: float = 0.0,
    nodes: Mapping[str, str] = ANYWHERE,
    patience: Patience = PATIENT,
) -> ModelHandle:
    """Deploys a model as the Serve application ``name`` and waits until it has answered.

    Arguments as in :func:`bound`. Raises :class:`ModelError` if there is no room for it, or if it
    does not become healthy.
    """
    application = bound(make, replicas=replicas, cpus=cpus, gpus=gpus, nodes=nodes)
    check_room(cpus, gpus)
    try:
        handle = start(application, name, patience)
        return ModelHandle(name, handle.identity.remote().result(timeout_s=60))
    except ModelError:
        raise
    except (RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
        raise ModelError(f"model {name} cannot be served: {why(name, error)}") from error


def check_room(cpus: float, gpus: float) -> None:
    """Raises :class:`ModelError` if the cluster is one machine that lacks what a replica needs:
    Serve would wait for it for ever. A cluster of several may still grow, and so may one whose only
    machine is a head that takes no work."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) != 1 or not nodes[0]["Resources"].get("CPU"):
        return
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        there = nodes[0]["Resources"].get(name, 0)
        if there < wanted:
            raise ModelError(
                f"a replica needs {wanted:g} {name}s and Ray has {there:g}: lower "
                "gpus_per_replica, or use a machine or cluster with more"
            )


def why(app: str, error: Exception) -> str:
    """Why an application did not become healthy: what its replicas said, or else ``error``."""
    status = serve.status().applications.get(app)
    said = [one.message for one in status.deployments.values()] if status else []
    for message in said:
        # The last line of a traceback, and what follows it of a message of several lines.
        found = re.findall(r"^\S*(?:Error|Unsupported|Unavailable): .+", message, re.MULTILINE)
        if found:
            return str(found[-1]).partition(": ")[2]
    return "\n".join(filter(None, said)) or str(error)


def app_of(run: Path, part: str) -> str:
    """The name of a Serve application of a run. Runs may share a cluster; an application that a
    killed attempt has left is replaced by that of the next."""
    return f"step-ray-{part}-{content_hash(str(run.expanduser().resolve()), 8)}"
