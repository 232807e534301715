"""Chat models for people outside the cluster: the OpenAI-compatible HTTP face. No Ray in here.

``POST /v1/chat/completions`` (also streaming), ``GET /v1/models``, ``GET /health``. What the face
does not offer is refused by name instead of being ignored.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from step_ray.models.base import ChatModel, ModelError, ModelUnavailable, Reply, Sampling

MAX_BYTES = 4 * 2**20  # of a request's body
DEADLINE = 600.0  # seconds for a reply


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ChatMessage(_Closed):
    """One message; its content is text."""

    role: Literal["system", "user", "assistant"]
    content: str


class JsonSchema(BaseModel):
    """OpenAI's wrapper of a JSON schema; its name and description change nothing."""

    json_schema: dict[str, Any] = Field(alias="schema")


class ResponseFormat(_Closed):
    """``text``, or ``json_schema`` where the backend can enforce one."""

    type: Literal["text", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(_Closed):
    """What can be asked; fields as OpenAI defines them."""

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    stream: bool = False
    response_format: ResponseFormat | None = None
    n: Literal[1] = 1
    user: str | None = None  # a label of the caller's; not used

    def sampling(self) -> Sampling:
        limit = self.max_completion_tokens or self.max_tokens or 256
        return Sampling(self.temperature, self.top_p, limit, self.seed)

    def schema_(self) -> dict[str, Any] | None:
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.json_schema is None:
            raise ModelError("response_format.json_schema is missing")
        return wanted.json_schema.json_schema


def make_app(
    models: Callable[[], Mapping[str, ChatModel]],
    token: str | None = None,
    max_bytes: int = MAX_BYTES,
    deadline: float = DEADLINE,
) -> FastAPI:
    """The HTTP application. ``models`` gives what is served now, by name; a reply has ``deadline``
    seconds.

    With a ``token`` every request but ``/health`` must carry it (``Authorization: Bearer ...``).
    """
    app = FastAPI(title="step-ray", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        if token is not None and path != "/health":
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), token.encode()):
                return _error(401, "missing or wrong bearer token", "authentication_error")
        if request.method == "POST":
            # Read here, piece by piece: a header may lie, or be absent.
            body = b""
            async for part in request.stream():
                body += part
                if len(body) > max_bytes:
                    return _error(413, f"the request has over {max_bytes} bytes")
            request._body = body
        return await call_next(request)

    @app.exception_handler(RequestValidationError)
    async def refused(request: Request, error: RequestValidationError) -> JSONResponse:
        lines = [
            f"{'.'.join(map(str, item['loc'][1:])) or 'body'}: {item['msg']}"
            for item in error.errors()
        ]
        return _error(400, "; ".join(lines))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def listed() -> dict[str, Any]:
        names = [
            {"id": name, "object": "model", "created": 0, "owned_by": "step-ray"}
            for name in models()
        ]
        return {"object": "list", "data": names}

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(asked: ChatRequest) -> Response:
        found = models().get(asked.model)
        if found is None:
            return _error(404, f"no model {asked.model!r}; served are {', '.join(models())}")
        messages = [message.model_dump() for message in asked.messages]
        try:
            schema = asked.schema_()
            async with asyncio.timeout(deadline) as limit:
                if asked.stream:
                    pieces = stream(found, messages, asked.sampling(), schema)
                    first = await anext(pieces)  # what is refused is refused with a status code
                    end = limit.when() or 0.0
                    events = _events(asked.model, first, pieces, end)
                    return StreamingResponse(events, media_type="text/event-stream")
                reply = await found.chat(messages, asked.sampling(), schema)
        except TimeoutError:
            return _error(504, f"no reply in {deadline:g} seconds", "timeout_error")
        except ModelUnavailable as error:
            return _error(503, str(error), "server_error")
        except (ModelError, ValueError) as error:
            return _error(400, str(error))
        return JSONResponse(_completion(asked.model, reply))

    return app


async def stream(
    model: ChatModel,
    messages: list[dict[str, str]],
    sampling: Sampling,
    schema: Mapping[str, Any] | None,
) -> AsyncIterator[Reply]:
    """The pieces of a reply; one piece from a backend that cannot stream."""
    streaming = getattr(model, "stream", None)
    if streaming is None:
        yield await model.chat(messages, sampling, schema)
        return
    async for piece in streaming(messages, sampling, schema):
        yield piece


async def _events(
    model: str, first: Reply, rest: AsyncIterator[Reply], end: float
) -> AsyncIterator[str]:
    """Server-sent events; ``end`` is the time of the loop's clock at which there is no more."""
    name, created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())

    def event(delta: dict[str, str], finish: str | None) -> str:
        chunk = {
            "id": name,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }
        return f"data: {json.dumps(chunk)}\n\n"

    yield event({"role": "assistant", "content": first.text}, None)
    last = first
    clock = asyncio.get_running_loop().time
    try:
        while (piece := await asyncio.wait_for(anext(rest, None), end - clock())) is not None:
            last = piece
            yield event({"content": last.text}, None)
        yield event({}, last.finish_reason)
        yield "data: [DONE]\n\n"
    except (ModelError, TimeoutError) as error:  # too late for a status code
        what = str(error) or "the reply took too long"
        yield f"data: {json.dumps({'error': {'message': what}})}\n\n"


def _completion(model: str, reply: Reply) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply.text},
                "finish_reason": reply.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
        },
    }


def _error(status: int, message: str, kind: str = "invalid_request_error") -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind}}, status_code=status)
