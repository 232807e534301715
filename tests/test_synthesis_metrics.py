"""What a stage counts is what Prometheus gets, and what the dashboard asks for."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from step_ray.synthesis.metrics import COUNTERS, TAGS, StageMetrics

DASHBOARD = Path(__file__).parents[1] / "deploy" / "grafana" / "step_ray.json"
ROOT = Path(__file__).parents[1]

# A run's driver on a Ray whose metrics port is known, asked as Prometheus asks.
REPORT = """
import sys, time, urllib.request
import ray
from step_ray.synthesis.metrics import COUNTERS, StageMetrics

port = int(sys.argv[1])
ray.init(
    address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
    object_store_memory=100_000_000, _metrics_export_port=port,
    _system_config={"metrics_report_interval_ms": 500},
)
metrics = StageMetrics("alfworld", "reflected")
counts = {count: 2 for count, _ in COUNTERS.values()}
until, found = time.monotonic() + 150, {}
while time.monotonic() < until and len(found) < len(COUNTERS):
    counts = {name: value + 1 for name, value in counts.items()}
    metrics.update(counts)
    time.sleep(0.5)  # a poll
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        continue
    for line in text.splitlines():
        if line.startswith("ray_step_ray_"):
            found[line.partition("{")[0]] = line
ray.shutdown()
print("\\n".join(found.values()))
"""


def asked() -> set[str]:
    """The metrics that the dashboard's queries name."""
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    queries += [v["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    assert all(queries)
    return {name for query in queries for name in re.findall(r"ray_step_ray_\w+", query)}


def test_the_dashboard_asks_for_all_that_there_is_and_nothing_else() -> None:
    assert asked() == {f"ray_{name}_total" for name in COUNTERS}


def test_only_what_has_grown_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float, dict[str, str]]] = []

    class Counter:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            assert tag_keys == TAGS
            self.name = name

        def inc(self, value: float, tags: dict[str, str]) -> None:
            told.append((self.name, value, tags))

    monkeypatch.setattr("step_ray.synthesis.metrics.Counter", Counter)
    metrics = StageMetrics("webshop", "reflected")
    metrics.update({"done": 2, "steps": 10, "success": 0, "dropped loop": 1})
    metrics.update({"done": 2, "steps": 10})
    metrics.update({"done": 5, "steps": 11, "tokens": 70.0})
    tags = {"environment": "webshop", "stage": "reflected"}
    assert told == [
        ("step_ray_episodes", 2, tags),
        ("step_ray_steps", 10, tags),
        ("step_ray_episodes", 3, tags),
        ("step_ray_steps", 1, tags),
        ("step_ray_tokens", 70.0, tags),
    ]


@pytest.mark.ray
def test_ray_serves_them_to_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(port)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert {line.partition("{")[0] for line in lines} == asked()
    assert all('environment="alfworld"' in line and 'stage="reflected"' in line for line in lines)
