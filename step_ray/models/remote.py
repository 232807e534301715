"""The ``remote`` backend: any server that speaks OpenAI's chat completions, over HTTP.

A server that is slow, full, restarted or out of its mind for a while costs time and nothing else:
requests are sent again until an overall deadline. The key is read from the environment for each
request and kept nowhere; what a server says is cleared of it before anybody sees it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from step_ray.config_models import url_problem
from step_ray.models import openai
from step_ray.models.base import (
    ModelError,
    ModelUnavailable,
    Reply,
    Sampling,
    SchemaUnsupported,
)
from step_ray.models.breaker import Breaker
from step_ray.models.traffic import Price, Traffic
from step_ray.trajectory import content_hash

_SHOWN = 300  # characters of a server's words in an error
_PROBE_EVERY = 5.0  # seconds at most between two probes of a server that is away: one costs nothing
_SECRET = 8  # a "key" shorter than this is no secret but a placeholder such as EMPTY
_KEY = re.compile(r"[!-~]+")  # what a header may hold


class RemoteModel:
    """A model behind ``base_url`` (up to and including ``/v1``), called ``model`` there.

    ``key_env`` names the environment variable with the key; "" sends none. ``revision`` is what
    the user declares of the weights; it and ``model`` (with ``extra``) are the fingerprint, the
    host is not. At most ``concurrency`` requests are under way, each attempt may take ``timeout``
    seconds and a chat with all attempts and waits ``deadline``. ``extra`` fields are added to
    every request; None removes one. ``backoff``: seconds before the second attempt and at most
    before any later one, halved to whole at random. ``failures`` in a row stop all requests but one
    until the server is back. To be used from one event loop at a time.

    Raises :class:`ModelError` for arguments that cannot be right.
    """

    fingerprint: str

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key_env: str = "",
        revision: str = "",
        concurrency: int = 16,
        timeout: float = 120.0,
        deadline: float = 600.0,
        price: Price | None = None,
        extra: Mapping[str, Any] | None = None,
        backoff: tuple[float, float] = (0.5, 30.0),
        failures: int = 8,
    ) -> None:
        if problem := url_problem(base_url):
            raise ModelError(f"base_url: {problem}")
        self.model = model
        self.base_url = base_url.rstrip("/")
        self.key_env, self.concurrency = key_env, concurrency
        self.timeout, self.deadline, self.backoff = timeout, deadline, backoff
        self.failures = failures
        self.extra = dict(extra or {})
        self._price = price
        self._traffic = Traffic(cost=None if price is None else 0.0)
        self._session: _Session | None = None
        self.fingerprint = content_hash(
            {"remote": model, "revision": revision, "extra": self.extra}, 64
        )

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Answers one chat. ``schema`` goes along as ``response_format``.

        Raises :class:`SchemaUnsupported` if the server refuses that, :class:`ModelError` if it
        refuses the request, :class:`ModelUnavailable` if it refuses whoever asks, or if the
        deadline passes.
        """
        body = openai.request_body(self.model, messages, sampling, schema, self.extra)
        session = self._open()
        self._count(requests=1)
        try:
            async with asyncio.timeout(self.deadline) as limit, session.slots:
                reply = await self._persist(session, body, schema is not None, limit)
        except TimeoutError:
            last = f"; the last attempt: {session.last}" if session.last else ""
            raise self._unavailable(
                f"no answer in {self.deadline:g} s{last}",
                "check the server, or raise the deadline",
            ) from None
        prompt, cached, said = reply.prompt_tokens, reply.cached_tokens, reply.completion_tokens
        cost = self._price and self._price.of(prompt, said, cached)
        self._count(
            replies=1,
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=said,
            cost=cost,
        )
        return replace(reply, text=self._redacted(reply.text))

    def traffic(self) -> Traffic:
        """What has been asked, waited for and paid so far."""
        now = self._session.breaker.openings if self._session else 0
        return replace(self._traffic, breaker_openings=self._traffic.breaker_openings + now)

    async def aclose(self) -> None:
        """Closes connections; the next chat opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            self._count(breaker_openings=session.breaker.openings)
            await session.client.aclose()

    def __repr__(self) -> str:
        return f"RemoteModel({self.base_url!r}, {self.model!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}

    # --- attempts ---

    async def _persist(
        self, session: _Session, body: bytes, schema: bool, limit: asyncio.Timeout
    ) -> Reply:
        """Attempts until one is answered. The caller's deadline ends it."""
        for attempt in itertools.count():
            if attempt:
                self._count(retries=1)
            began = time.monotonic()
            probe = await session.breaker.enter()
            healthy: bool | None = None
            try:
                await session.wait_until_wanted()
                self._count(delay_seconds=time.monotonic() - began)
                reply = await self._attempt(session.client, body, schema)
                healthy = True
                return reply
            except _Passing as passing:
                failed, healthy = passing, passing.healthy
                session.last = str(passing)
            except ModelError:
                healthy = True  # it answers; it is the request that is wrong
                raise
            finally:
                session.breaker.leave(probe, healthy)
            await self._pause(session, failed, attempt, limit)
        raise AssertionError("counting does not end")

    async def _pause(
        self, session: _Session, failed: _Passing, attempt: int, limit: asyncio.Timeout
    ) -> None:
        first, longest = self.backoff
        seconds = min(longest, first * 2 ** min(attempt, 30)) * random.uniform(0.5, 1.0)
        if failed.wait is not None:
            now = asyncio.get_running_loop().time()
            if now + failed.wait > (limit.when() or now):
                raise self._unavailable(
                    f"it asks to wait {failed.wait:.0f} s, which is beyond the deadline ({failed})",
                    "lower the concurrency, raise the deadline, or come back later",
                )
            session.not_before = max(session.not_before, time.monotonic() + failed.wait)
            seconds = failed.wait + random.uniform(0, first)  # not all in the same moment
        self._count(rate_limited=failed.healthy, delay_seconds=seconds)
        await asyncio.sleep(seconds)

    async def _attempt(self, client: httpx.AsyncClient, body: bytes, schema: bool) -> Reply:
        url = f"{self.base_url}/chat/completions"
        auth = _Key(self._key) if self.key_env else None
        headers = {"Content-Type": "application/json"}
        content = bytearray()
        try:
            async with (
                asyncio.timeout(self.timeout),
                client.stream("POST", url, content=body, headers=headers, auth=auth) as answer,
            ):
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > openai.MAX_ANSWER:
                        raise _Passing(f"an answer over {openai.MAX_ANSWER} bytes")
        except (TimeoutError, httpx.TimeoutException):
            raise _Passing(f"no answer in {self.timeout:g} s") from None
        except httpx.RequestError as lost:
            raise _Passing(self._shown(f"{type(lost).__name__}: {lost}")) from None
        if answer.is_success:
            try:
                return openai.read_completion(bytes(content))
            except openai.GarbageError as garbage:
                raise _Passing(self._shown(str(garbage))) from None
        said = self._shown(content.decode("utf-8", "replace"))
        status = f"status {answer.status_code}: {said or 'no words'}"
        if openai.may_pass(answer.status_code):
            wait = openai.retry_after(answer.headers.get("retry-after"))
            raise _Passing(status, wait, healthy=answer.status_code == 429)
        if schema and openai.refuses_schema(answer.status_code, said):
            raise SchemaUnsupported(f"{self!r} refuses a schema ({status}): ask without one")
        raise self._refusal(answer.status_code, status)

    # --- words ---

    def _refusal(self, status: int, what: str) -> ModelError:
        """A refusal that says nothing of the request would meet any other one as well."""
        if status in (401, 403):
            remedy = f"check the key in ${self.key_env}" if self.key_env else "name a key_env"
            return self._unavailable(what, remedy)
        if status == 402:
            return self._unavailable(what, "check the account's balance")
        if status == 404 or 300 <= status < 400:
            remedy = "check base_url (it ends in /v1) and the model's name"
            return self._unavailable(what, remedy)
        remedy = "check the request: most often the chat is longer than the model's context"
        return ModelError(self._said(what, remedy))

    def _unavailable(self, what: str, remedy: str) -> ModelUnavailable:
        return ModelUnavailable(self._said(what, remedy))

    def _said(self, what: str, remedy: str) -> str:
        return f"{self.model} at {self.base_url}: {what}; {remedy}"

    def _key(self) -> str:
        key = os.environ.get(self.key_env, "").strip()
        if not _KEY.fullmatch(key):  # without showing it: an HTTP library would
            state = "holds characters no key has" if key else "is not set here"
            raise self._unavailable(
                f"the environment variable {self.key_env} {state}",
                "set it to the key where the model is asked from",
            )
        return key

    def _redacted(self, text: str) -> str:
        key = os.environ.get(self.key_env, "").strip() if self.key_env else ""
        return text.replace(key, "[key]") if len(key) >= _SECRET else text

    def _shown(self, text: str) -> str:
        """What a server says as it may be shown: one printable line, not long, without the key."""
        line = " ".join(self._redacted(text).split())
        line = "".join(char if char.isprintable() else "\ufffd" for char in line)
        return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."

    def _count(self, **more: Any) -> None:
        self._traffic += Traffic(**more)

    def _open(self) -> _Session:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.loop is not loop:
            if self._session is not None:  # its loop is over, and so are its connections
                self._count(breaker_openings=self._session.breaker.openings)
            self._session = _Session(
                loop,
                httpx.AsyncClient(
                    timeout=httpx.Timeout(self.timeout),
                    limits=httpx.Limits(max_connections=self.concurrency),
                ),
                asyncio.Semaphore(self.concurrency),
                Breaker(self.failures, self.backoff[0], min(self.backoff[1], _PROBE_EVERY)),
            )
        return self._session


@dataclass(slots=True)
class _Session:
    """What belongs to one event loop. Nothing is sent before the moment ``not_before``."""

    loop: asyncio.AbstractEventLoop
    client: httpx.AsyncClient
    slots: asyncio.Semaphore
    breaker: Breaker
    not_before: float = 0.0
    last: str = ""

    async def wait_until_wanted(self) -> None:
        while (left := self.not_before - time.monotonic()) > 0:
            await asyncio.sleep(left)


class _Passing(Exception):  # noqa: N818 - not the end of it
    """An attempt that failed in a way that may pass. ``wait``: seconds the server asked for;
    ``healthy``: it is up and only wants less."""

    def __init__(self, what: str, wait: float | None = None, healthy: bool = False) -> None:
        super().__init__(what)
        self.wait = wait
        self.healthy = healthy


class _Key(httpx.Auth):
    """Puts the key into a request at the last moment, so that no object of ours holds it."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._read()}"
        yield request
