"""The Ray cluster of a run: the one that is there, or one on this machine for as long as needed."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator

import ray

from step_ray.config import RayConfig

_ACCESS = "ray._private.authentication.authentication_token_setup"


@contextlib.contextmanager
def cluster(config: RayConfig) -> Iterator[None]:
    """Connects to or starts Ray. A cluster that was there before is left running.

    Inside a submitted job ``RAY_ADDRESS`` names the cluster, and it is used whatever the config
    says: a job must never start a second one beside it.
    """
    if ray.is_initialized():
        yield
        return
    address = _address(config)
    # Serve's optional external proxy is a binary of its own; handles need no proxy at all.
    os.environ.setdefault("RAY_SERVE_ENABLE_HA_PROXY", "0")
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # the line of progress says enough
    quiet = {"logging_level": logging.WARNING, "log_to_driver": False}
    if address:
        ray.init(address=address, **quiet)
    else:
        if "RAY_AUTH_MODE" not in os.environ:  # access by token, of which Ray would warn
            logging.getLogger(_ACCESS).setLevel(logging.ERROR)
        ray.init(
            address="local",  # without it Ray joins whatever cluster runs on this machine
            num_cpus=config.num_cpus,
            object_store_memory=config.object_store_mb and config.object_store_mb * 2**20,
            include_dashboard=False,
            **quiet,
        )
    with _terminated():
        try:
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does. Ray's own handler prints a trace of C++ and aborts.

    Who set another handler meanwhile, as a server does that is ending, keeps it.
    """
    if threading.current_thread() is not threading.main_thread():  # nobody else may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is signal.default_int_handler:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def patience(config: RayConfig) -> float:
    """Seconds to wait for room: in a cluster of our own nobody else will leave or come."""
    return config.wait_seconds if _address(config) else 5.0


def _address(config: RayConfig) -> str | None:
    return os.environ.get("RAY_ADDRESS") or config.address
