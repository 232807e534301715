"""``step-ray serve``: the models of a config for people outside, until somebody says stop."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from step_ray.config import RunConfig
from step_ray.config_serve import SERVED, ServeConfig
from step_ray.models.base import ModelError
from step_ray.models.front import application, names, read_token, running
from step_ray.models.make import check_engines
from step_ray.models.served import check_room
from step_ray.recipes.cluster import cluster

_ANSWER_WITHIN = 120.0  # seconds for the first answer over HTTP, from models that have answered
_QUESTION = {"messages": [{"role": "user", "content": "Say a word."}], "max_tokens": 8}


class Stopped(BaseException):
    """Somebody pressed Ctrl-C, or sent SIGTERM."""


def serve(config: RunConfig, only: str | None, say: Callable[[str], None]) -> None:
    """Serves the models of ``config`` (``only`` "teacher" or "student") until SIGINT or SIGTERM;
    then takes no new requests, finishes those under way, and returns.

    ``say`` is told what is served once each model has answered a request over HTTP. Raises
    :class:`ModelError` for a port that is taken, a token that is missing, or a model that does not
    load.
    """
    which = names(config) if only is None else (only,)
    if not set(which) <= set(SERVED):
        raise ModelError(f"--only {only}: no such model -> use {' or '.join(SERVED)}")
    settings = config.serve
    here = config.ray.address is None and not os.environ.get("RAY_ADDRESS")
    need_token = not settings.loopback or read_token(settings, needed=False) is not None
    if here:  # else the variable has to be set there, and the port has to be free there
        read_token(settings, need_token)
        _check_port(settings)
    check_engines(config)
    built = application(config, which, need_token, cpus=0 if here else 1)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with contextlib.suppress(Stopped), _stoppable(), cluster(config.ray), _stoppable():
        say("Loading models ...")
        for model in _models(config, which):
            check_room(0, getattr(model, "gpus_per_replica", 0.0))
        with running(built, settings):
            served = [*which, *(settings.adapters if "student" in which else ())]
            for name in served:
                _ask(settings, name)
            say(_text(settings, served))
            try:
                _wait()
            except Stopped:
                say("Stopping: no new requests; those under way are finished.")
                raise


def _models(config: RunConfig, which: Sequence[str]) -> list[Any]:
    """The sections of the models that are served."""
    teacher = getattr(config.teacher, "model", None)
    return [teacher if name == "teacher" else config.student for name in which]


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """The first signal raises :class:`Stopped` here, the next ends the program at once. Entered
    again once Ray has started, which sets handlers of its own."""
    known = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in known}

    def stop(number: int, frame: Any) -> None:
        for one in known:
            signal.signal(one, signal.SIG_DFL)
        raise Stopped

    for number in known:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is stop:
                signal.signal(number, handler)


def _wait() -> None:
    while True:
        signal.pause()


def _check_port(settings: ServeConfig) -> None:
    host, port = settings.host, settings.port
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ModelError(
            f"serve.port: cannot listen at {host}:{port} ({error.strerror or error}) -> stop what "
            "listens there, or choose another serve.port or serve.host"
        ) from None


def _ask(settings: ServeConfig, name: str) -> None:
    """One real request, over HTTP; the first ones may come before the proxy knows the way."""
    token = read_token(settings, needed=False)
    headers = {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    end = time.monotonic() + _ANSWER_WITHIN
    last = ""
    while time.monotonic() < end:
        connection = http.client.HTTPConnection(_reach(settings), settings.port, timeout=60)
        try:
            body = json.dumps({"model": name, **_QUESTION})
            connection.request("POST", "/v1/chat/completions", body, headers)
            answer = connection.getresponse()
            last = answer.read().decode("utf-8", "replace")[:500]
            if answer.status == 200:
                return
        except (OSError, http.client.HTTPException) as error:
            last = str(error)
        finally:
            connection.close()
        time.sleep(0.5)
    raise ModelError(
        f"{name} does not answer at {_reach(settings)}:{settings.port} ({last}) -> if Ray Serve "
        "ran on this cluster before, it listens where it was told to then"
    )


def _reach(settings: ServeConfig) -> str:
    """Where this machine reaches the server."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)


def _text(settings: ServeConfig, served: list[str]) -> str:
    host = _reach(settings)
    shown = f"[{host}]" if ":" in host else host
    base = f"http://{shown}:{settings.port}/v1"
    lock = bool(read_token(settings, needed=False))
    header = f' -H "Authorization: Bearer ${settings.token_env}"' if lock else ""
    body = json.dumps({"model": served[0], **_QUESTION})
    return "\n".join(
        (
            f"Serving {', '.join(served)} at {base}"
            + ("" if lock else " (no token: whoever reaches the port may ask)"),
            f"curl {base}/chat/completions{header} -H 'Content-Type: application/json' -d '{body}'",
            "Ctrl-C ends it, after the replies under way.",
        )
    )
