"""A remote model against a real HTTP server that misbehaves."""

from __future__ import annotations

import asyncio
import email.utils
import json
import logging
import pickle
import threading
import time
import traceback
from typing import Any

import pytest

pytest.importorskip("httpx", reason="the remote extra is not installed")

from scripted_server import Answer, Script, ScriptedServer, said, scripted

from step_ray.models import openai
from step_ray.models.base import (
    ModelError,
    ModelUnavailable,
    Reply,
    Sampling,
    SchemaUnsupported,
)
from step_ray.models.remote import RemoteModel
from step_ray.models.traffic import Price, Traffic, rates

CHAT = [{"role": "user", "content": "Well?"}]
SAMPLING = Sampling(0.5, 0.9, 20, 7)
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}}
KEY = "sk-very-secret-0123456789"
FAST = (0.01, 0.05)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def remote(server: ScriptedServer, **options: Any) -> RemoteModel:
    return RemoteModel(server.url, "teacher-72b", **{"backoff": FAST, "deadline": 20.0, **options})


def ask(model: RemoteModel, count: int = 1, schema: Any = None) -> list[Reply]:
    async def main() -> list[Reply]:
        try:
            return await asyncio.gather(*(model.chat(CHAT, SAMPLING, schema) for _ in range(count)))
        finally:
            await model.aclose()

    return asyncio.run(main())


def script(*answers: Answer) -> Script:
    """One after the other, the last for ever."""
    return lambda number, body: answers[min(number, len(answers) - 1)]


# --- what is sent, what comes back


def test_a_request_and_its_reply() -> None:
    usage = {"prompt_tokens_details": {"cached_tokens": 60}}
    with scripted(script(said("Yes \u00e9", **usage))) as server:
        model = remote(server, price=Price(2.0, 10.0, 1.0), extra={"top_k": 5, "seed": None})
        assert ask(model) == [Reply("Yes \u00e9", "stop", 100, 10, cached_tokens=60)]
        assert server.bodies == [
            {
                "model": "teacher-72b",
                "messages": CHAT,
                "max_tokens": 20,
                "temperature": 0.5,
                "top_p": 0.9,
                "top_k": 5,
            }
        ]
        assert "Authorization" not in server.headers[0]
    found = model.traffic()
    assert found.cost == pytest.approx((40 * 2 + 60 * 1 + 10 * 10) / 1e6)
    assert (found.requests, found.replies, found.retries) == (1, 1, 0)
    assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (100, 60, 10)


def test_no_price_no_cost_and_no_usage_no_tokens() -> None:
    with scripted(script(said(None, "length", prompt_tokens=-1, completion_tokens="x"))) as server:
        model = remote(server)
        assert ask(model) == [Reply("", "length", 0, 0)]
    assert model.traffic().cost is None
    assert (Traffic(cost=1.0) + Traffic()).cost == 1.0
    assert Traffic(requests=2, retries=1, hits=3).counts() == {
        "asked": 2,
        "retries": 1,
        "from cache": 3,
    }


def test_rates() -> None:
    assert rates(Traffic().counts()) == {}
    assert rates(Traffic(requests=1, prompt_tokens=8).counts()) == {"prefix_cache_hit_rate": 0}
    asked = Traffic(hits=3).and_reply(Reply("", "stop", 8, 2, cached_tokens=6))
    assert (asked.requests, asked.replies, asked.completion_tokens) == (1, 1, 2)
    assert rates(asked.counts()) == {"reply_cache_hit_rate": 0.75, "prefix_cache_hit_rate": 0.75}


def test_a_schema_goes_along_and_may_be_refused() -> None:
    refusal = Answer(400, b'{"error": {"message": "response_format json_schema: unsupported"}}')
    with scripted(script(said("{}"), refusal, Answer(400, b"too long"))) as server:
        model = remote(server)
        ask(model, schema=SCHEMA)
        sent = server.bodies[0]["response_format"]
        assert (sent["type"], sent["json_schema"]["schema"]) == ("json_schema", SCHEMA)
        with pytest.raises(SchemaUnsupported, match="ask without"):
            ask(model, schema=SCHEMA)
        with pytest.raises(ModelError, match="too long") as other:
            ask(model, schema=SCHEMA)
        assert not isinstance(other.value, SchemaUnsupported)
        assert len(server.bodies) == 3, "what is refused is not asked again"


def test_the_fingerprint_is_what_is_said_not_where() -> None:
    one = RemoteModel("http://a:1/v1", "m", revision="1")
    assert one.fingerprint == RemoteModel("https://b/v1/", "m", revision="1").fingerprint
    for other in (
        RemoteModel("http://a:1/v1", "n", revision="1"),
        RemoteModel("http://a:1/v1", "m", revision="2"),
        RemoteModel("http://a:1/v1", "m", revision="1", extra={"top_k": 1}),
    ):
        assert other.fingerprint != one.fingerprint


@pytest.mark.parametrize(
    "url", ["", "host:8000/v1", "file:///etc/passwd", "http://u:pw123@h/v1", "http://h/v1?k=pw123"]
)
def test_urls_that_cannot_be_right(url: str) -> None:
    with pytest.raises(ModelError, match="base_url") as caught:
        RemoteModel(url, "m")
    assert "pw123" not in str(caught.value)


# --- what passes


PASSING = {
    "overloaded": Answer(429, b"slow down"),
    "broken": Answer(500, b"<html>oops</html>"),
    "restarting": Answer(503),
    "dropped": Answer(drop=True),
    "garbage": Answer(body=b"\xff\x00 not json"),
    "other json": Answer(body=b'{"choices": []}'),
    "no text": Answer(body=b'{"choices": [{"message": {"content": [1]}}]}'),
    "deep": Answer(body=b'{"choices":' + b"[" * 200_000),
    "bad gzip": Answer(body=b"x", headers={"Content-Encoding": "gzip"}),
    "slow": Answer(slow=30.0),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_waited_for(name: str) -> None:
    with scripted(script(PASSING[name], PASSING[name], said("Yes."))) as server:
        model = remote(server, timeout=0.2 if name == "slow" else 10.0)
        assert [reply.text for reply in ask(model)] == ["Yes."]
    found = model.traffic()
    assert (found.requests, found.replies, found.retries) == (1, 1, 2)
    assert found.rate_limited == (2 if name == "overloaded" else 0)
    assert found.delay_seconds > 0


def test_an_answer_without_an_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "MAX_ANSWER", 2_000)
    with scripted(script(said("x" * 5_000), said("Yes."))) as server:
        assert [reply.text for reply in ask(remote(server))] == ["Yes."]


def test_retry_after_holds_for_everybody() -> None:
    """While one request has been told to wait, another is not sent either."""
    limited = Answer(429, headers={"Retry-After": "0.5"})
    with scripted(script(limited, said("Yes."))) as server:
        model = remote(server)

        async def main() -> list[Reply]:
            first = asyncio.create_task(model.chat(CHAT, SAMPLING))
            while not model.traffic().rate_limited:
                await asyncio.sleep(0.005)
            return await asyncio.gather(first, model.chat(CHAT, SAMPLING))

        assert len(asyncio.run(main())) == 2
        assert min(server.times[1:]) - server.times[0] >= 0.5
        assert len(server.times) == 3


def test_retry_after_beyond_the_deadline_ends_it_at_once() -> None:
    with scripted(script(Answer(429, headers={"Retry-After": "3600"}))) as server:
        began = time.monotonic()
        with pytest.raises(ModelError, match=r"3600 s.*deadline"):
            ask(remote(server))
        assert time.monotonic() - began < 10


def test_retry_after_is_seconds_or_a_date() -> None:
    assert openai.retry_after("1.5") == 1.5
    assert openai.retry_after("-3") == 0.0
    date = openai.retry_after(email.utils.formatdate(time.time() + 100, usegmt=True))
    assert date is not None
    assert 90 < date <= 101
    for value in (None, "soon", "nan", "inf", "Mon, 99 Foo 2020", "9" * 400):
        assert openai.retry_after(value) is None


@pytest.mark.parametrize("status", [302, 400, 401, 402, 404, 501])
def test_what_does_not_pass_is_an_error_at_once(status: int) -> None:
    elsewhere = {"Location": "http://127.0.0.1:1/"}
    with scripted(script(Answer(status, b"no\x1b[31m", elsewhere))) as server:
        with pytest.raises(ModelError, match=rf"teacher-72b at http.*status {status}: no") as found:
            ask(remote(server))
        assert len(server.bodies) == 1
    gone = isinstance(found.value, ModelUnavailable)
    assert gone is (status in (302, 401, 402, 404)), "whether any other request fares better"
    assert "\x1b" not in str(found.value)
    assert ";" in str(found.value), "a remedy"


def test_the_deadline_bounds_everything() -> None:
    with scripted(script(Answer(500, b"oops"))) as server:
        began = time.monotonic()
        with pytest.raises(ModelUnavailable, match=r"no answer in 0.5 s.*status 500: oops"):
            ask(remote(server, deadline=0.5), 3)
        assert time.monotonic() - began < 10


def test_no_more_than_so_many_at_once() -> None:
    with scripted(script(said("Yes."))) as server:
        server.script = lambda number, body: Answer(body=said("Yes.").body, slow=0.02)
        assert len(ask(remote(server, concurrency=3), 20)) == 20
        assert 1 <= server.most <= 3


def test_an_outage_is_probed_and_nothing_is_lost() -> None:
    """Killed and restarted: while it is away one request at a time asks for it."""
    with scripted(script(said("Yes."))) as server:
        model = remote(server, concurrency=20, failures=3)
        server.stop()

        async def main() -> list[Reply]:
            chats = [asyncio.create_task(model.chat(CHAT, SAMPLING)) for _ in range(20)]
            while not model.traffic().breaker_openings:
                await asyncio.sleep(0.005)
            assert not server.bodies
            server.start()
            return await asyncio.gather(*chats)

        assert len(asyncio.run(main())) == 20
    found = model.traffic()
    assert found.breaker_openings == 1
    assert found.delay_seconds > 0
    assert len(server.bodies) == 20


def test_a_cancelled_probe_leaves_its_place() -> None:
    with scripted(script(Answer(500), Answer(slow=30.0), said("Yes."))) as server:
        model = remote(server, failures=1)

        async def main() -> Reply:
            first = asyncio.create_task(model.chat(CHAT, SAMPLING))
            while len(server.bodies) < 2:  # it is the probe now, and hangs
                await asyncio.sleep(0.005)
            second = asyncio.create_task(model.chat(CHAT, SAMPLING))
            await asyncio.sleep(0)
            first.cancel()
            return await second

        assert asyncio.run(main()).text == "Yes."


def test_one_loop_after_the_other() -> None:
    with scripted(script(said("Yes."))) as server:
        model = remote(server)
        for _ in range(2):
            assert asyncio.run(model.chat(CHAT, SAMPLING)).text == "Yes."
        again: RemoteModel = pickle.loads(pickle.dumps(model))
        assert asyncio.run(again.chat(CHAT, SAMPLING)).text == "Yes."
        assert again.traffic().requests == 3


# --- the key


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    return KEY


def test_the_key_is_sent_and_found_nowhere(key: str, caplog: pytest.LogCaptureFixture) -> None:
    echo = {"error": f"Incorrect API key provided: {KEY}"}
    answers = (
        Answer(500, json.dumps(echo).encode()),
        Answer(body=KEY.encode()),
        Answer(drop=True),
        said(f"You sent Bearer {KEY}."),
        Answer(401, b" " * 290 + json.dumps(echo).encode()),
    )
    with caplog.at_level(logging.DEBUG), scripted(script(*answers)) as server:
        model = remote(server, key_env="TEACHER_KEY")
        assert ask(model)[0].text == "You sent Bearer [key]."
        assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
        with pytest.raises(ModelError, match=r"TEACHER_KEY") as caught:
            ask(model)
        open_model = remote(server, key_env="TEACHER_KEY", deadline=0.3)
        server.script = script(Answer(500, json.dumps(echo).encode()))
        with pytest.raises(ModelError, match="Incorrect") as late:
            asyncio.run(open_model.chat(CHAT, SAMPLING))
    texts = [caplog.text, repr(model), repr(model.traffic()), repr(vars(open_model))]
    texts += [repr(open_model._session), pickle.dumps(open_model).decode("latin-1")]
    for error in (caught.value, late.value):
        texts += ["".join(traceback.format_exception(error)), pickle.dumps(error).decode("latin-1")]
    for text in texts:
        assert "very-secret" not in text


@pytest.mark.parametrize("value", [None, "", "   ", "sk-one\nX-Evil: sk-two", "sk-\u00fcber"])
def test_a_key_that_is_none(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("TEACHER_KEY", raising=False)
    else:
        monkeypatch.setenv("TEACHER_KEY", value)
    with scripted(script(said("Yes."))) as server:
        with pytest.raises(ModelError, match="TEACHER_KEY") as caught:
            ask(remote(server, key_env="TEACHER_KEY"))
        assert not server.bodies
    assert "sk-" not in str(caught.value)


def test_a_placeholder_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "EMPTY")
    with scripted(script(said("The drawer is EMPTY."))) as server:
        assert ask(remote(server, key_env="TEACHER_KEY"))[0].text == "The drawer is EMPTY."


def test_threads_do_not_share_sessions() -> None:
    """Each asks from a loop of its own, one after the other has ended."""
    texts: list[str] = []
    with scripted(script(said("Yes."))) as server:
        model = remote(server)
        for _ in range(2):
            thread = threading.Thread(target=lambda: texts.append(ask(model)[0].text))
            thread.start()
            thread.join()
    assert texts == ["Yes.", "Yes."]
