"""Serve applications: started once the cluster has room for them, and taken off it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve.context import _get_global_client

from step_ray.models.base import ModelError
from step_ray.patience import PATIENT, Patience

_EVERY = 0.2  # seconds between two looks at an application that starts


def start(application: serve.Application, name: str, patience: Patience = PATIENT) -> Any:
    """Runs an application without a route and returns its handle once it answers.

    A replica has ``patience`` to find a place on the cluster; one that has its place may take as
    long as it needs. Raises :class:`ModelError` if there is no room, and then takes the application
    off the cluster; RuntimeError if its replicas do not start.
    """
    target = serve.RunTarget(target=application, name=name, route_prefix=None)
    (handle,) = serve.run_many([target], wait_for_applications_running=False)
    _wait(name, patience)
    return handle


def withdraw(*names: str) -> None:
    """Takes those of the applications that there are off the cluster, all at once, each after what
    it is answering."""
    there = [name for name in names if name in serve.status().applications]
    for name in there:  # a driver that is killed while it waits leaves none of them
        serve.delete(name, _blocking=False)
    for name in there:
        serve.delete(name)


def _wait(name: str, patience: Patience) -> None:
    said, since = "", 0.0
    while (app := _details(name))["status"] != "RUNNING":
        if app["status"] == "DEPLOY_FAILED":
            raise RuntimeError(app["message"])
        lacking = [each for each in app["deployments"].values() if _unplaced(each)]
        if not lacking:
            since = 0.0
        else:
            since = since or time.monotonic()
            why = " ".join(filter(None, (each["message"] for each in lacking)))
            if why and why != said:
                said = why
                patience.say(f"{name} waits for room on the cluster: {why}")
            if time.monotonic() - since >= patience.seconds:
                withdraw(name)
                raise ModelError(
                    f"{name} found no room on the cluster in {patience.seconds:g} s for "
                    f"{sum(map(_unplaced, lacking))} of its replicas: ask for fewer or smaller ones"
                    " (replicas, gpus_per_replica, nodes), stop what else runs there, or raise "
                    f"ray.wait_seconds{f'. {why}' if why else ''}"
                )
        time.sleep(_EVERY)


def _unplaced(deployment: Mapping[str, Any]) -> int:
    """How many replicas have no machine yet."""
    return sum(
        replica["state"] == "STARTING" and not replica.get("node_id")
        for replica in deployment["replicas"]
    )


def _details(name: str) -> Mapping[str, Any]:
    """An application as ``ray.serve.schema.ApplicationDetails`` says. ``serve.status()`` leaves out
    where its replicas are, so one that waits for a GPU and one that loads look alike there."""
    found: Mapping[str, Any] | None = (
        _get_global_client().get_serve_details()["applications"].get(name)
    )
    if found is None:
        raise RuntimeError(f"the application {name} was deleted while it started")
    return found
