"""Workers get fractions of CPUs that fit, or the run says in seconds that there is no room."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ray.synthesis import placement
from step_ray.synthesis.placement import (
    LEAST,
    MOST,
    PipelineError,
    cpus_for,
    fraction,
    spared,
)

NODES = st.lists(st.integers(0, 16).map(float), max_size=5)  # CPUs of each


@given(st.integers(1, 200), NODES, st.floats(0, 1))
def test_a_fraction_fits_the_machines_and_what_is_free(
    workers: int, nodes: list[float], share: float
) -> None:
    free = share * sum(nodes)
    each = fraction(workers, nodes, free)
    if each is None:
        return
    assert LEAST <= each <= MOST
    assert workers * each <= free + 1e-6
    assert sum(math.floor(cpus / each + 1e-9) for cpus in nodes) >= workers


@given(st.integers(1, 90), NODES.filter(lambda nodes: sum(nodes) >= 2))
def test_any_number_of_workers_fits_free_machines(workers: int, nodes: list[float]) -> None:
    assert fraction(workers, nodes, sum(nodes)) is not None


@given(st.integers(1, 90), st.integers(1, 16), st.integers(2, 6))
def test_workers_of_a_lost_machine_find_room_on_its_likes(
    workers: int, cpus: int, machines: int
) -> None:
    each = spared(workers, [cpus] * machines, cpus * machines)
    assert each is not None
    assert (machines - 1) * math.floor(cpus / each + 1e-9) >= workers


@given(st.integers(1, 200), NODES, st.floats(0, 1))
def test_to_spare_a_machine_costs_no_more_than_half(
    workers: int, nodes: list[float], share: float
) -> None:
    free = share * sum(nodes)
    whole, each = (rule(workers, nodes, free) for rule in (fraction, spared))
    assert (whole is None) == (each is None)
    if whole is not None and each is not None:
        assert whole / 2 - LEAST <= each <= whole


def test_machines_that_are_too_small_one_by_one() -> None:
    assert fraction(3, [1.0] * 3, 3.0) == MOST
    assert fraction(3, [1.0] * 2, 3.0) == pytest.approx(0.5, abs=0.05), "two on one of them"
    assert fraction(1, [4.0], 0.0) is None


def test_free_cpus_in_pieces_are_found_by_asking_for_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes with half a CPU free each; eight are free where the labels are not."""
    asked: list[float] = []

    def reserved(workers: int, cpus: float, *_: object) -> bool:
        asked.append(cpus)
        return 2 * math.floor(0.5 / cpus) >= workers

    monkeypatch.setattr(placement, "_nodes", lambda labels: [2.0, 2.0])
    monkeypatch.setattr(placement, "_reserved", reserved)
    monkeypatch.setattr("ray.available_resources", lambda: {"CPU": 9.0})
    found = cpus_for(4, 30.0, lambda text: None, {"step-ray/kind": "cpu"})
    assert asked == sorted(asked, reverse=True)
    assert asked[-1] == found == pytest.approx(0.25, abs=0.1)


@pytest.mark.ray
def test_a_cluster_without_room_is_given_up(ray_cluster: None) -> None:
    with pytest.raises(PipelineError, match=r"100000 workers found no room .* 0\.5 s: its"):
        cpus_for(100_000, 0.5, lambda text: None)


@pytest.mark.ray
def test_room_is_waited_for(ray_cluster: None) -> None:
    """Others use all CPUs; we say so, and go on as soon as they end."""
    import ray

    @ray.remote
    class Hog:
        def ready(self) -> None: ...

    free = ray.available_resources()["CPU"]
    hog = Hog.options(num_cpus=free).remote()  # type: ignore[attr-defined]
    ray.get(hog.ready.remote())
    with pytest.raises(PipelineError, match="others use all of its CPUs"):
        cpus_for(1, 0.5, lambda text: None)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        ray.kill(hog)

    assert cpus_for(2, 120.0, say) > 0
    assert "waiting for room on the cluster for 2 workers" in said[0]
