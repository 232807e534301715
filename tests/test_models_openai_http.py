"""The HTTP face: what a client of OpenAI's sees, and what it is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest

pytest.importorskip("torch")
pytest.importorskip("fastapi")
testclient = pytest.importorskip("starlette.testclient")

from step_ray.models.base import ModelUnavailable, Reply  # noqa: E402
from step_ray.models.local import LocalModel  # noqa: E402
from step_ray.models.openai_http import make_app  # noqa: E402
from step_ray.recipes.world import PACKAGED_MODEL  # noqa: E402

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "You are in a room."}]}
TOKEN = {"authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def client() -> Iterator[object]:
    with LocalModel(PACKAGED_MODEL, slots=4, max_length=256) as model:
        app = make_app(lambda: {"tiny": model}, token="secret", max_bytes=10_000)
        with testclient.TestClient(app) as found:
            yield found


def post(client, headers=TOKEN, **fields):
    return client.post("/v1/chat/completions", json={**ASK, **fields}, headers=headers)


def test_an_answer(client) -> None:
    got = post(client, temperature=0, max_tokens=12).json()
    assert got["object"] == "chat.completion"
    assert got["choices"][0]["message"]["role"] == "assistant"
    assert got["choices"][0]["message"]["content"].startswith("Thought:")
    assert got["choices"][0]["finish_reason"] == "length"
    assert got["usage"]["completion_tokens"] == 12
    assert got["usage"]["total_tokens"] == 12 + got["usage"]["prompt_tokens"]


def test_a_stream_says_the_same(client) -> None:
    whole = post(client, temperature=0, max_tokens=12).json()
    streamed = post(client, temperature=0, max_tokens=12, stream=True)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    lines = [line[6:] for line in streamed.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    choices = [json.loads(line)["choices"][0] for line in lines[:-1]]
    text = "".join(choice["delta"].get("content", "") for choice in choices)
    assert text == whole["choices"][0]["message"]["content"]
    assert choices[-1]["finish_reason"] == "length"


def test_what_is_served(client) -> None:
    assert [one["id"] for one in client.get("/v1/models", headers=TOKEN).json()["data"]] == ["tiny"]
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": ""}])
def test_without_the_token_there_is_nothing(client, headers) -> None:
    refused = [post(client, headers), client.get("/v1/models", headers=headers)]
    assert [one.status_code for one in refused] == [401, 401]
    assert "secret" not in refused[0].text


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"model": "other"}, 404, "served are tiny"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "role"),
        ({"tools": []}, 400, "tools"),
        ({"n": 2}, 400, "n: "),
        ({"temperature": 3}, 400, "temperature"),
        ({"messages": [{"role": "user", "content": "a b " * 2000}]}, 400, "context"),
        ({"messages": [{"role": "user", "content": "a" * 20_000}]}, 413, "10000 bytes"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            400,
            "cannot enforce a schema",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_refused_is_said(client, fields, status, said, stream) -> None:
    refused = post(client, stream=stream, **fields)
    assert refused.status_code == status
    assert said in refused.json()["error"]["message"]


class Odd:
    """A model that is slow, or away."""

    fingerprint = "odd"

    async def chat(self, messages, sampling, schema=None):
        if messages[-1]["content"] == "away":
            raise ModelUnavailable("its replica died")
        await asyncio.Event().wait()

    async def stream(self, messages, sampling, schema=None):
        yield Reply("One", "stop", 1, 1)
        if messages[-1]["content"] == "away":
            raise ModelUnavailable("its replica died")
        await asyncio.Event().wait()


def test_slow_and_away_have_a_status() -> None:
    app = make_app(lambda: {"odd": Odd()}, deadline=0.2)

    def ask(client, text, **more):
        body = {"model": "odd", "messages": [{"role": "user", "content": text}], **more}
        return client.post("/v1/chat/completions", json=body)

    with testclient.TestClient(app) as client:
        slow, away = ask(client, "slow"), ask(client, "away")
        assert (slow.status_code, away.status_code) == (504, 503)
        assert "no reply in 0.2 seconds" in slow.json()["error"]["message"]
        assert "its replica died" in away.json()["error"]["message"]
        for text, said in (("slow", "took too long"), ("away", "its replica died")):
            lines = [line for line in ask(client, text, stream=True).text.split("\n\n") if line]
            assert "One" in lines[0]
            assert said in json.loads(lines[-1][6:])["error"]["message"]
            assert "[DONE]" not in lines
