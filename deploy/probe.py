"""Readiness of a pod that serves a model: it has answered one real request.

python probe.py MODEL [ADDRESS]

The first success is remembered in a file; from then on the probe asks only whether Serve is
healthy, which costs no tokens. The token of requests comes from $STEP_RAY_TOKEN. Exit status 0:
ready. Needs nothing but Python.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import urllib.request
from pathlib import Path

SECONDS = 20.0


def ready(model: str, address: str, answered: Path, token: str = "") -> bool:
    """Whether the server at ``address`` has answered a chat once and is healthy now."""
    if answered.exists():
        with urllib.request.urlopen(f"{address}/-/healthz", timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    chat = {"model": model, "messages": [{"role": "user", "content": "ready?"}], "max_tokens": 1}
    request = urllib.request.Request(
        f"{address}/v1/chat/completions",
        data=json.dumps(chat).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        choices = json.load(answer)["choices"]
    if not isinstance(choices[0]["message"]["content"], str):
        return False
    answered.touch()
    return True


def main(arguments: list[str]) -> int:
    """Exit status: 0 if it is ready."""
    model = arguments[0]
    address = arguments[1] if len(arguments) > 1 else "http://127.0.0.1:8000"
    answered = Path(tempfile.gettempdir()) / f"step-ray-{model}-answered"
    try:
        done = ready(model, address, answered, os.environ.get("STEP_RAY_TOKEN", ""))
    except (OSError, ValueError, LookupError, TypeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
