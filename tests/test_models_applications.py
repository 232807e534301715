"""Applications that start, with and without room, and how they end; Serve itself is a double."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from step_ray.models import applications
from step_ray.models.base import ModelError
from step_ray.patience import Patience

PLACED, UNPLACED = "a machine", None
LACKING = 'Resources required for each replica: {"GPU": 4}, available: {"GPU": 2}.'
App = tuple[str, list[str | None], str]


class Double:
    """Serve, and a clock that a look at it moves by 10 s. ``looks``: the application's status, the
    machine of each replica that starts, and what Serve says of them."""

    RunTarget = SimpleNamespace

    def __init__(self, looks: Sequence[App] = (), names: Sequence[str] = ("model",)) -> None:
        self.looks, self.done = iter(looks), list[str]()
        self.now, self.names = 0.0, list(names)

    def details(self, name: str) -> dict[str, Any]:
        self.now += 10
        status, machines, message = next(self.looks)
        # Before a replica has a machine Serve does not name the field.
        replicas = [
            {"state": "STARTING", **({"node_id": machine} if machine else {})}
            for machine in machines
        ]
        deployed = {"message": message, "replicas": replicas}
        return {"status": status, "message": f"{name}: {message}", "deployments": {"one": deployed}}

    def run_many(self, targets: Sequence[Any], wait_for_applications_running: bool) -> list[str]:
        assert not wait_for_applications_running, "Serve would wait for ever"
        return [f"handle of {target.name}" for target in targets]

    def status(self) -> Any:
        return SimpleNamespace(applications=dict.fromkeys(self.names))

    def delete(self, name: str, _blocking: bool = True) -> None:
        self.done.append(f"{'wait for' if _blocking else 'delete'} {name}")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def use(double: Double) -> Double:
        monkeypatch.setattr(applications, "serve", double)
        monkeypatch.setattr(applications, "_details", double.details)
        clock = SimpleNamespace(monotonic=lambda: double.now, sleep=lambda seconds: None)
        monkeypatch.setattr(applications, "time", clock)
        return double

    return use


def start(double: Double, seconds: float = 60) -> tuple[Any, list[str]]:
    said: list[str] = []
    application: Any = None
    return applications.start(application, "model", Patience(seconds, said.append)), said


def test_without_room_it_is_said_once_and_given_up(serve: Any) -> None:
    waiting: list[App] = [("DEPLOYING", [PLACED, UNPLACED], LACKING)] * 9
    double, said = serve(Double([("DEPLOYING", [UNPLACED], ""), *waiting])), list[str]()
    application: Any = None
    with pytest.raises(ModelError, match=r"model found no room .* in 60 s for 1 .*wait_seconds"):
        applications.start(application, "model", Patience(60, said.append))
    assert said == [f"model waits for room on the cluster: {LACKING}"]
    assert double.done == ["delete model", "wait for model"]
    assert double.now <= 80


def test_a_replica_with_a_machine_may_take_as_long_as_it_needs(serve: Any) -> None:
    loading: list[App] = [("DEPLOYING", [PLACED], "slow to initialize")] * 100
    begun: App = ("DEPLOYING", [UNPLACED], "")
    double = serve(Double([begun, *loading, begun, begun, ("RUNNING", [], "")]))
    assert start(double) == ("handle of model", []), "one that begins again has its own patience"
    assert double.done == []


def test_what_fails_to_start_is_no_lack_of_room(serve: Any) -> None:
    double = serve(Double([("DEPLOY_FAILED", [], "no such folder")]))
    with pytest.raises(RuntimeError, match="model: no such folder") as failed:
        start(double)
    assert not isinstance(failed.value, ModelError)


def test_all_are_told_to_end_before_one_is_waited_for(serve: Any) -> None:
    double = serve(Double(names=["teacher", "model"]))
    applications.withdraw("teacher", "model", "never started")
    assert double.done == ["delete teacher", "delete model", "wait for teacher", "wait for model"]
