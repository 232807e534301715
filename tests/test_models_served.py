"""A real model behind a real Ray Serve, by handle and by HTTP."""

from __future__ import annotations

import asyncio
import functools
import json
import pickle
import socket
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("ray")
httpx = pytest.importorskip("httpx")

from step_ray.models.base import ModelError, Sampling  # noqa: E402
from step_ray.models.local import LocalModel  # noqa: E402
from step_ray.recipes.world import PACKAGED_MODEL  # noqa: E402

pytestmark = pytest.mark.ray
CHAT = [{"role": "user", "content": "You are in a room."}]
GREEDY = Sampling(max_tokens=12)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def served(ray_cluster: None) -> Iterator[tuple[Any, str]]:
    """A handle and the address of the HTTP face."""
    from ray import serve

    from step_ray.models.served import deploy, front

    serve.shutdown()  # another test's may listen elsewhere
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    make = functools.partial(LocalModel, str(PACKAGED_MODEL), slots=4, max_length=256)
    handle = deploy("tiny", make, cpus=0.5)
    serve.run(front({"tiny": handle}, "secret"), name="front", route_prefix="/")
    yield handle, f"http://127.0.0.1:{port}"
    serve.shutdown()


def test_by_handle(served) -> None:
    handle = pickle.loads(pickle.dumps(served[0]))
    with LocalModel(PACKAGED_MODEL, slots=4, max_length=256) as local:
        expected = asyncio.run(local.chat(CHAT, GREEDY))
        assert handle.fingerprint == local.fingerprint

    async def ask() -> tuple[Any, str]:
        whole = await handle.chat(CHAT, GREEDY)
        return whole, "".join([piece.text async for piece in handle.stream(CHAT, GREEDY)])

    whole, streamed = asyncio.run(ask())
    assert whole == expected
    assert streamed == whole.text


def test_a_models_error_stays_one(served) -> None:
    with pytest.raises(ModelError, match="cannot enforce a schema"):
        asyncio.run(served[0].chat(CHAT, GREEDY, {"type": "object"}))


def test_by_http(served) -> None:
    handle, address = served
    asked = {"model": "tiny", "messages": CHAT, "temperature": 0, "max_tokens": 12}
    headers = {"authorization": "Bearer secret"}
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        assert client.post("/v1/chat/completions", json=asked).status_code == 401
        names = client.get("/v1/models", headers=headers).json()["data"]
        assert [one["id"] for one in names] == ["tiny"]
        got = client.post("/v1/chat/completions", json=asked, headers=headers).json()
        expected = asyncio.run(handle.chat(CHAT, GREEDY)).text
        assert got["choices"][0]["message"]["content"] == expected
        streamed = {**asked, "stream": True}
        lines = client.post("/v1/chat/completions", json=streamed, headers=headers).text
        chunks = [json.loads(line[6:]) for line in lines.split("\n\n")[:-2]]
        deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
        assert "".join(deltas) == expected


def test_what_cannot_start_is_said(served, tmp_path) -> None:
    from step_ray.models.served import deploy

    with pytest.raises(ModelError, match="broken cannot be served"):
        deploy("broken", functools.partial(LocalModel, str(tmp_path)), cpus=0.1)
