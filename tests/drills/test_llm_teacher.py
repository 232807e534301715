"""A language model as the teacher of a real run, behind a server process that misbehaves in every
way, is killed and comes back: nothing is lost, everything is counted, the key is found nowhere."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from step_ray import store
from step_ray.recipes.verify import verify
from step_ray.schema import from_row
from tests.drills.mad_teacher import BABBLE, PASSING, SLOW

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

KEY = "sk-very-secret-0123456789abcdef"
EPISODES = 6
CONFIG = """\
output: {output}
env:
  games: {{train: {episodes}, valid_seen: 1, valid_unseen: 1}}
  task_types: [pick_and_place_simple]
  max_steps: 10
student: {{temperature: 0.7, max_tokens: 16}}
teacher:
  type: llm
  privileged: true
  model:
    base_url: http://127.0.0.1:{port}/v1
    model: teacher-72b
    key_env: TEACHER_KEY
    timeout: {timeout}
    deadline: 400
    concurrency: 4
    price: {{prompt: 2, completion: 6, cached: 1}}
synthesis: {{max_errors: 10, abort_errors: 10, block_size: 2, keep_clean: true}}
training: {{epochs: 1, workers: 1}}
evaluation: {{max_steps: 2}}
ray: {{num_cpus: 4, object_store_mb: 100}}
"""


class Teacher:
    """The server process, which can be killed and started again on the same port."""

    def __init__(self, folder: Path, mad: int = 0) -> None:
        self.log = folder / "server.log"
        self.log.touch()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start(mad)

    def start(self, mad: int = 0) -> None:
        script = str(Path(__file__).with_name("mad_teacher.py"))
        arguments = [str(self.port), str(self.log), str(mad)]
        self.process = subprocess.Popen([sys.executable, script, *arguments])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def requests(self) -> list[dict[str, str]]:
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]


@pytest.fixture
def teacher(tmp_path: Path) -> Iterator[Callable[..., Teacher]]:
    started: list[Teacher] = []

    def start(**options: Any) -> Teacher:
        started.append(Teacher(tmp_path, **options))
        return started[-1]

    yield start
    for one in started:
        one.kill()


class Driver:
    """A run under way, and what it says."""

    def __init__(self, command: list[str], folder: Path, logs: Path | None = None) -> None:
        self.said = folder / f"said-{time.monotonic_ns()}.txt"
        environment = {
            **os.environ,
            "RAY_AUTH_MODE": "disabled",
            "OMP_NUM_THREADS": "1",
            "TEACHER_KEY": KEY,
            "no_proxy": "127.0.0.1",
        }
        if logs is not None:
            environment["RAY_TMPDIR"] = str(logs)
        with self.said.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )

    def until(self, condition: Callable[[], bool], seconds: float = 300) -> None:
        """Polls; fails if the driver ends before."""
        began = time.monotonic()
        while not condition():
            assert self.process.poll() is None, self.text[-4000:]
            assert time.monotonic() - began < seconds, self.text[-4000:]
            time.sleep(0.05)

    def finish(self, seconds: float = 600) -> None:
        assert self.process.wait(seconds) == 0, self.text[-4000:]

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def text(self) -> str:
        return self.said.read_text()

    def counted(self, name: str) -> float:
        """A count in the last line of progress that has it; 0 before there is one."""
        found = re.findall(rf" {name} ([\d.,]+)", self.text)
        return float(found[-1].replace(",", "")) if found else 0.0


def config(folder: Path, port: int, **options: Any) -> Path:
    settings = {"episodes": EPISODES, "timeout": 2, **options}
    text = CONFIG.format(output=folder / "run", port=port, **settings)
    (folder / "run.yaml").write_text(text)
    return folder / "run.yaml"


def taught(folder: Path, port: int, logs: Path | None = None) -> Driver:
    script = str(Path(__file__).with_name("taught.py"))
    return Driver([script, str(config(folder, port))], folder, logs)


def rows(run: Path) -> list[dict[str, Any]]:
    return list(store.read_rows(run / "reflected", kept_only=False))


def assert_nowhere(secret: str, folder: Path, *others: Path) -> None:
    """In no file below a test's folder (the run, the cache, all that was said) and below others."""
    for place in (folder, *others):
        files = [path for path in place.rglob("*") if path.is_file()]
        assert len(files) > 4
        for path in files:
            assert secret.encode() not in path.read_bytes(), path


def assert_whole(run: Path, episodes: int) -> None:
    made = [from_row(row) for row in rows(run)]
    assert len(made) == episodes
    assert {one.outcome for one in made} <= {"success", "failure", "step_limit"}, Counter(
        one.outcome for one in made
    )
    assert sum(one.corrections for one in made) > 3
    assert verify(run) == []


@pytest.fixture
def logs() -> Iterator[Path]:
    """A folder for Ray's own files; its path has to be short, for sockets."""
    with tempfile.TemporaryDirectory(prefix="sr-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_a_server_that_misbehaves_and_dies(
    tmp_path: Path, logs: Path, teacher: Callable[..., Teacher]
) -> None:
    server = teacher(mad=36)
    driver = taught(tmp_path, server.port, logs)
    driver.until(lambda: len(server.requests()) > 44)
    server.kill()
    driver.until(lambda: driver.counted("outages") >= 1)
    server.start()
    driver.finish()
    run = tmp_path / "run"
    assert_whole(run, EPISODES)

    # what was done to it, and what it says of that
    inflicted = Counter(request["done"] for request in server.requests())
    results = json.loads((run / "results.json").read_text())
    counted = results["models"]["reflected"]["teacher"]
    assert {*PASSING, "babble", "answered"} <= inflicted.keys()
    assert counted["retries"] >= sum(inflicted[what] for what in PASSING)
    assert counted["rate limited"] == inflicted["429"]
    assert counted["unusable no_object"] == inflicted["babble"]
    assert counted["outages"] >= 1
    assert counted["waited s"] > 1
    for name in ("asked", "retries", "rate limited", "waited s", "outages", "unusable no_object"):
        assert 0 < driver.counted(name) < counted[name] + 0.1, "in the line of progress"

    # what it cost
    assert 0.3 < counted["prefix_cache_hit_rate"] < 0.6
    dear = counted["prompt tokens"] - counted["of them cached"]
    cost = 2 * dear + counted["of them cached"] + 6 * counted["reply tokens"]
    assert counted["cost"] == pytest.approx(cost / 1e6, abs=1e-4)
    page = (run / "report" / "index.html").read_text()
    assert "What the models were asked" in page
    assert f"retries {counted['retries']:.0f}" in page
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["stages"]["reflected"]["outputs"]["teacher"]["value"] == counted

    # every reply is kept as it came, also the ones that were no reviews
    with sqlite3.connect(run / "cache" / "replies.sqlite") as cache:
        found = cache.execute("SELECT reply FROM replies_1")
        replies = [json.loads(text)["text"] for (text,) in found]
    assert sum(reply.startswith(BABBLE) for reply in replies) == inflicted["babble"]
    assert_nowhere(KEY, tmp_path, logs)


@pytest.mark.slow
def test_a_killed_run_pays_again_only_for_calls_in_flight(
    tmp_path: Path, teacher: Callable[..., Teacher]
) -> None:
    server = teacher()
    driver = taught(tmp_path, server.port)
    driver.until(lambda: len(server.requests()) > 30)
    driver.kill()
    assert not (tmp_path / "run" / "reflected" / "manifest.json").exists()
    again = taught(tmp_path, server.port)
    again.finish()
    assert_whole(tmp_path / "run", EPISODES)
    paid = Counter(r["asked"] for r in server.requests() if r["done"] == "answered")
    twice = sum(paid.values()) - len(paid)
    assert twice <= 4, "no more than were under way"
    counted = json.loads((tmp_path / "run" / "results.json").read_text())["models"]["reflected"]
    assert counted["teacher"]["from cache"] > 5
    assert 0 < counted["teacher"]["reply_cache_hit_rate"] < 1


def test_a_run_that_fails_does_not_tell_the_key(
    tmp_path: Path, logs: Path, teacher: Callable[..., Teacher]
) -> None:
    """The server refuses for good, and shows in its refusal what it was sent."""
    server = teacher(mad=-1)
    driver = taught(tmp_path, server.port, logs)
    assert driver.process.wait(300) == 1
    assert "status 401: Bearer [key] is not welcome" in driver.text
    assert "check the key in $TEACHER_KEY" in driver.text
    assert_nowhere(KEY, tmp_path, logs)


@pytest.mark.slow
def test_the_whole_recipe_with_replies_that_take_a_minute(
    tmp_path: Path, teacher: Callable[..., Teacher]
) -> None:
    server = teacher(mad=30)
    path = config(tmp_path, server.port, episodes=2 * EPISODES, timeout=SLOW + 30)
    began = time.monotonic()
    driver = Driver(["-m", "step_ray.cli", "run", str(path)], tmp_path)
    driver.finish(840)
    inflicted = Counter(request["done"] for request in server.requests())
    assert inflicted["slow"] >= 1
    assert SLOW < time.monotonic() - began < 800
    assert_whole(tmp_path / "run", EPISODES)
    assert "Students" in driver.text
    assert_nowhere(KEY, tmp_path)
