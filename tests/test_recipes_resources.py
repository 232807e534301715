"""What will not fit is said before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ray.config import parse_config
from step_ray.doctor.cluster import fits
from step_ray.recipes.resources import Need, Node, as_text, misfits, needs, parameters
from step_ray.recipes.world import PACKAGED_MODEL


def config(tmp_path: Path, **sections: Any) -> Any:
    return parse_config({"output": str(tmp_path / "run"), "ray": {"num_cpus": 64}, **sections})


def test_parameters_are_counted_without_loading_them() -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    tensors = safetensors.load_file(PACKAGED_MODEL / "model.safetensors").values()
    assert parameters(PACKAGED_MODEL) == sum(tensor.numel() for tensor in tensors)
    assert parameters(None) == parameters(Path("/nowhere")) == 0


def test_every_process_of_every_phase_is_there(tmp_path: Path) -> None:
    served = {"backend": "vllm", "model": str(PACKAGED_MODEL), "gpus_per_replica": 2, "replicas": 3}
    wanted = list(
        needs(
            config(
                tmp_path,
                student={"backend": "vllm", "model": str(PACKAGED_MODEL), "gpus_per_replica": 1},
                teacher={"type": "llm", "model": served},
                training={"workers": 4, "use_gpu": True},
                synthesis={"workers": 5},
            )
        )
    )
    found = {(need.phase, need.what): (need.count, need.gpus) for need in wanted}
    assert found["training", "training process"] == (4, 1)
    assert found["synthesis", "teacher's engine"] == (3, 2)
    assert found["synthesis", "student's engine"] == (1, 1)
    assert found["evaluation", "student's engine"] == (3, 1)
    assert found["synthesis", "worker of episodes"] == (5, 0)


@pytest.mark.parametrize(
    ("training", "bytes_each"),
    [
        ({}, 16),
        ({"workers": 2, "parallel": "fsdp"}, 8),
        ({"workers": 8, "parallel": "fsdp"}, 4),  # all of it is loaded, then shared out
        ({"workers": 8, "parallel": "fsdp", "precision": "bf16_weights"}, 2),
        ({"precision": "bf16_weights"}, 8),
        ({"workers": 8, "parallel": "fsdp", "lora": {}}, 2),
    ],
)
def test_the_memory_of_a_training_process(
    tmp_path: Path, training: dict[str, Any], bytes_each: int
) -> None:
    made = config(tmp_path, training=training, student={"model": str(PACKAGED_MODEL)})
    (need,) = (one for one in needs(made) if one.phase == "training")
    assert need.gib * 2**30 == bytes_each * parameters(PACKAGED_MODEL)


@pytest.mark.parametrize(
    ("student", "weights", "engines"),
    [
        ({"backend": "vllm"}, "acting", 0),  # the agent's own answers for both
        ({"backend": "vllm"}, "original", 1),
        ({"backend": "local"}, "acting", 1),
    ],
)
def test_a_student_that_teaches_itself_needs(
    tmp_path: Path, student: dict[str, Any], weights: str, engines: int
) -> None:
    made = config(
        tmp_path,
        student={**student, "model": str(PACKAGED_MODEL)},
        teacher={"type": "self", "weights": weights, "constrain": False, "replicas": 2},
    )
    found = {need.what: need.count for need in needs(made) if need.phase == "synthesis"}
    assert found["teacher"] == 2
    assert found.get("teacher's engine", 0) == engines


def test_what_does_not_fit_says_why() -> None:
    engine = Need("synthesis", "teacher's engine", 1, 1, 4)
    workers = Need("synthesis", "worker", 8, 0.9)
    small = [Node("a", 4, 1), Node("b", 4, 2)]
    (said,) = misfits([engine, workers], small)
    assert "1 of 1 x teacher's engine" in said
    assert "most GPUs has 2" in said
    (said,) = misfits([Need("p", "worker", 12, 0.9)], small)
    assert "4 of 12" in said
    (said,) = misfits([Need("p", "worker", 1, 1, 0, 30.0)], [Node("a", 4, 0, 16.0)])
    assert "16.0 GiB" in said
    assert list(misfits([engine, workers], [Node("a", 16, 4)])) == []
    assert "no node" in next(misfits([engine], []))


def test_what_fits_exactly_fits() -> None:
    wanted = [Need("p", "reader", 1, 1), Need("p", "worker", 1, 0.9), Need("p", "teacher", 1, 0.1)]
    assert list(misfits(wanted, [Node("a", 2, 0)])) == []
    (said,) = misfits([*wanted, Need("p", "one more", 1, 0.1)], [Node("a", 2, 0)])
    assert "one more" in said
    tenths = [Need("p", "engine", 10, 0, 0.1)]
    assert list(misfits(tenths, [Node("a", 0, 1)])) == []
    assert list(misfits([Need("p", "engine", 11, 0, 0.1)], [Node("a", 0, 1)]))


def test_what_keeps_to_labelled_nodes_needs_room_there(tmp_path: Path) -> None:
    cpu, gpu = {"kind": "cpu"}, {"kind": "big"}
    model = {"backend": "vllm", "model": str(PACKAGED_MODEL), "gpus_per_replica": 1, "nodes": gpu}
    run = parse_config(
        {
            "output": str(tmp_path / "run"),
            "student": {**model, "nodes": {"kind": "small"}},
            "teacher": {"type": "llm", "model": model},
            "synthesis": {"workers": 2},
            "ray": {"address": "auto", "env_nodes": cpu},
        }
    )
    wanted = [need for need in needs(run) if need.phase == "synthesis"]
    there = [
        Node("head", 64, 0),
        Node("a", 4, 0, None, cpu),
        Node("b", 4, 1, None, gpu),
        Node("c", 4, 1, None, {"kind": "small"}),
    ]
    assert list(misfits(wanted, there)) == []
    (said,) = misfits(wanted, [there[0], *there[2:]])
    assert said.endswith("there is no node with the labels kind=cpu")
    (said,) = misfits(wanted, [*there[:2], *there[3:], Node("d", 4, 8)])
    assert "teacher's engine" in said
    assert said.endswith("there is no node with the labels kind=big")
    assert "worker of episodes (0.9 CPU, on nodes with the labels kind=cpu)" in as_text(wanted, [])


def test_a_plan_says_what_it_asks_for_and_whether_it_fits(tmp_path: Path) -> None:
    wanted = list(needs(config(tmp_path, synthesis={"workers": 3})))
    assert "DOES NOT FIT synthesis" in as_text(wanted, [Node("this machine", 2, 0)])
    assert "fits         this machine: 8 CPUs" in as_text(wanted, [Node("this machine", 8, 0)])
    assert "doctor CONFIG --cluster" in as_text(wanted, None)


def test_the_doctor_notes_what_does_not_fit(tmp_path: Path) -> None:
    few, many = [Node("a", 1, 0)], [Node("a", 1, 0), Node("b", 8, 0)]
    run = config(tmp_path, synthesis={"workers": 3})
    assert {one.status for one in fits(run, few)} == {"note"}
    assert {one.status for one in fits(run, many)} == {"ok"}


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2)), max_size=4),
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4)), min_size=1, max_size=4),
)
def test_more_nodes_never_hurt_and_enough_nodes_always_do(
    asked: list[tuple[int, int, int]], there: list[tuple[int, int]]
) -> None:
    wanted = [Need("p", str(i), *one) for i, one in enumerate(asked)]
    nodes = [Node(str(i), *one) for i, one in enumerate(there)]
    total = (sum(need.count * need.cpus for need in wanted), sum(n.count * n.gpus for n in wanted))
    big = Node("big", *total)
    assert list(misfits(wanted, [big, *nodes])) == []
    offered = (sum(node.cpus for node in nodes), sum(node.gpus for node in nodes))
    if total[0] > offered[0] or total[1] > offered[1]:
        assert list(misfits(wanted, nodes))
