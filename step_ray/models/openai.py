"""OpenAI's chat completions as they go over the wire: what is sent, and how an answer reads.

Everything that comes from a server is untrusted: it becomes a reply, or a reason why not.
"""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from step_ray.models.base import Reply, Sampling

MAX_ANSWER = 8 * 2**20  # bytes of a whole answer; more than any reply's
_SCHEMA_WORDS = ("response_format", "json_schema", "schema", "guided", "structured", "grammar")


class GarbageError(ValueError):
    """An answer with status 200 that is no chat completion; says what it lacks."""


def request_body(
    model: str,
    messages: Sequence[Mapping[str, str]],
    sampling: Sampling,
    schema: Mapping[str, Any] | None,
    extra: Mapping[str, Any],
) -> bytes:
    """The request as JSON. ``extra`` fields come last; one that is None removes a field."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": m["role"], "content": m["content"]} for m in messages],
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
    }
    if schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "reply", "strict": True, "schema": dict(schema)},
        }
    body = {name: value for name, value in {**body, **extra}.items() if value is not None}
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def read_completion(content: bytes) -> Reply:
    """The first choice of an answer. Raises :class:`GarbageError` if there is none."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        raise GarbageError(f"an answer that is not JSON: {content[:80]!r}") from None
    try:
        choice = answer["choices"][0]
        text = choice["message"].get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise GarbageError(f"an answer without choices[0].message: {content[:80]!r}") from None
    if not isinstance(text, str | None):
        raise GarbageError("an answer whose content is not text")
    usage = answer.get("usage")
    prompt = _count(usage, "prompt_tokens")
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    return Reply(
        text=text or "",
        finish_reason="length" if choice.get("finish_reason") == "length" else "stop",
        prompt_tokens=prompt,
        completion_tokens=_count(usage, "completion_tokens"),
        cached_tokens=min(prompt, _count(details, "cached_tokens")),
    )


def may_pass(status: int) -> bool:
    """Whether the same request may be answered later on."""
    return status in (408, 425, 429) or (status >= 500 and status not in (501, 505))


def refuses_schema(status: int, said: str) -> bool:
    """Whether an answer to a request with a schema means that the server takes none."""
    return status in (400, 404, 422, 501) and any(word in said.lower() for word in _SCHEMA_WORDS)


def retry_after(value: str | None) -> float | None:
    """Seconds from now that a Retry-After header asks for (RFC 9110, 10.2.3), if it is one."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError, OSError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else 0
