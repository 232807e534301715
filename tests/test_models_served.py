"""A real model behind a real Ray Serve, by handle and by HTTP, and the applications of a config."""

from __future__ import annotations

import asyncio
import functools
import json
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("ray")
httpx = pytest.importorskip("httpx")

from scripted_server import said, scripted  # noqa: E402

from step_ray.config import ConfigError, parse_config  # noqa: E402
from step_ray.models.base import ModelError, ModelUnavailable, Reply, Sampling  # noqa: E402
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
    """A handle of a model, and the address where the student of a config is served."""
    from ray import serve

    from step_ray.models import serving
    from step_ray.models.served import deploy

    serve.shutdown()  # another test's may listen elsewhere
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    make = functools.partial(LocalModel, str(PACKAGED_MODEL), slots=4, max_length=256)
    handle = deploy("tiny", make, cpus=0.5)
    config = {"output": "runs/x", "student": {"slots": 4, "context": 256}}
    outside = serving.student({"config": config, "ray.num_cpus": 4, "serve.deadline": 60})
    serve.run(outside, name="outside", route_prefix="/")
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
    assert (whole.text, whole.completion_tokens) == (expected.text, expected.completion_tokens)
    assert streamed == whole.text


def test_a_models_error_stays_one(served) -> None:
    with pytest.raises(ModelError, match="cannot enforce a schema"):
        asyncio.run(served[0].chat(CHAT, GREEDY, {"type": "object"}))


def test_by_http(served) -> None:
    handle, address = served
    asked = {"model": "student", "messages": CHAT, "temperature": 0, "max_tokens": 12}
    headers = {"authorization": "Bearer secret"}
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        assert client.post("/v1/chat/completions", json=asked).status_code == 401
        names = client.get("/v1/models", headers=headers).json()["data"]
        assert [one["id"] for one in names] == ["student"]
        got = client.post("/v1/chat/completions", json=asked, headers=headers).json()
        expected = asyncio.run(handle.chat(CHAT, GREEDY)).text
        assert got["choices"][0]["message"]["content"] == expected
        streamed = {**asked, "stream": True}
        lines = client.post("/v1/chat/completions", json=streamed, headers=headers).text
        chunks = [json.loads(line[6:]) for line in lines.split("\n\n")[:-2]]
        deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
        assert "".join(deltas) == expected


def test_inside_it_is_asked_by_handle(served) -> None:
    from step_ray.models.served import ModelHandle

    inside = ModelHandle("outside", served[0].fingerprint, deployment="student")
    expected = asyncio.run(served[0].chat(CHAT, GREEDY)).text
    assert asyncio.run(inside.chat(CHAT, GREEDY)).text == expected


def test_a_second_application_under_a_prefix(served) -> None:
    from ray import serve

    from step_ray.models import serving

    with scripted(lambda number, body: said("Well.")) as server:
        model = {"base_url": server.url, "model": "far-away"}
        config = {"output": "runs/x", "teacher": {"type": "llm", "model": model}}
        serve.run(
            serving.teacher({"config": config, "serve.max_request_mb": 0.001}),
            name="teachers",
            route_prefix="/teachers",
        )
        asked = {"model": "teacher", "messages": CHAT}
        headers = {"authorization": "Bearer secret"}
        with httpx.Client(base_url=f"{served[1]}/teachers", trust_env=False, timeout=60) as client:
            assert client.get("/health").status_code == 200
            assert client.post("/v1/chat/completions", json=asked).status_code == 401
            got = client.post("/v1/chat/completions", json=asked, headers=headers).json()
            assert got["choices"][0]["message"]["content"] == "Well."
            long = {"model": "teacher", "messages": [{"role": "user", "content": "a" * 2000}]}
            refused = client.post("/v1/chat/completions", json=long, headers=headers)
            assert refused.status_code == 413
        assert [body["model"] for body in server.bodies] == ["far-away"] * 2  # ready, then asked
        serve.delete("teachers")


def mortal(mark: Path) -> Any:
    """Makes a model that says it is gone until a file is there; workers do not know this module."""

    class Mortal:
        fingerprint = "mortal"

        async def chat(self, messages: Any, sampling: Sampling, schema: Any = None) -> Reply:
            if sampling.max_tokens > 2 and not mark.exists():
                mark.touch()
                raise ModelUnavailable("gone")
            return Reply("here again", "stop", 1, 2)

    return lambda: Mortal()


def test_a_model_that_is_gone_is_asked_again(served, tmp_path) -> None:
    from step_ray.models.applications import withdraw
    from step_ray.models.served import deploy

    mark = tmp_path / "mark"
    handle = deploy("mortal", mortal(mark), cpus=0.1)
    assert asyncio.run(handle.chat(CHAT, GREEDY)).text == "here again"
    assert mark.exists()
    withdraw("mortal")


@pytest.mark.parametrize(
    ("name", "args", "error", "said"),
    [
        ("student", {}, ConfigError, "config: missing"),
        ("student", {"config": {"output": "x"}, "serve.prot": 1}, ConfigError, "serve.port?"),
        ("teacher", {"config": {"output": "x"}}, ModelError, "teacher.type: no language model"),
        ("student", {"config": {"output": "x", "env": "webshop"}}, ModelError, "student.model: "),
    ],
)
def test_what_is_no_application(name, args, error, said) -> None:
    from step_ray.models import serving

    with pytest.raises(error, match=said):
        getattr(serving, name)(args)


def test_engines_ask_for_the_gpus_and_the_nodes_of_the_config() -> None:
    from step_ray.models.front import application

    model = {"backend": "vllm", "model": str(PACKAGED_MODEL)}
    config = parse_config(
        {
            "output": "x",
            "student": {**model, "gpus_per_replica": 1},
            "teacher": {
                "type": "llm",
                "model": {**model, "gpus_per_replica": 4, "nodes": {"kind": "big"}},
            },
            "ray": {"address": "auto"},
        }
    )
    front: Any = application(config, ["teacher", "student"])
    models = front._bound_deployment.init_args[0]
    asked = {name: app._bound_deployment.ray_actor_options for name, (app, _) in models.items()}
    assert asked["teacher"]["num_gpus"] == 4
    assert asked["teacher"]["label_selector"] == {"kind": "big"}
    assert asked["student"]["num_gpus"] == 1
    assert "label_selector" not in asked["student"]


def test_the_token_has_to_be_there(monkeypatch) -> None:
    from step_ray.models.front import read_token

    settings = parse_config({"output": "x", "serve": {"host": "0.0.0.0"}}).serve
    assert not settings.loopback
    monkeypatch.delenv("STEP_RAY_TOKEN", raising=False)
    assert read_token(settings, needed=False) is None
    with pytest.raises(ModelError, match="STEP_RAY_TOKEN is not set"):
        read_token(settings, needed=True)
    monkeypatch.setenv("STEP_RAY_TOKEN", "secret")
    assert read_token(settings, needed=True) == "secret"
    everybody = parse_config({"output": "x", "serve": {"host": "0.0.0.0", "token_env": ""}}).serve
    assert read_token(everybody, needed=True) is None


def test_what_cannot_start_is_said(served, tmp_path) -> None:
    from step_ray.models.served import deploy

    with pytest.raises(ModelError, match=f"broken cannot be served: .*{tmp_path.name}"):
        deploy("broken", functools.partial(LocalModel, str(tmp_path)), cpus=0.1)
