"""``step-ray serve`` as a person runs it: what it says, whom it lets in, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray")
httpx = pytest.importorskip("httpx")

from scripted_server import Answer, said, scripted  # noqa: E402

from step_ray.config import ConfigError, parse_config  # noqa: E402

TOKEN = "tok-0123456789-very-secret"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def written(folder: Path, **sections: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"output": str(folder / "run"), **sections}), "utf-8")
    return path


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    kept.pop("STEP_RAY_TOKEN", None)
    return {**kept, "RAY_AUTH_MODE": "disabled", "HF_HUB_OFFLINE": "1", **more}


def command(config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "step_ray.cli", "serve", str(config), *more]


def refused(config: Path, *more: str, **variables: str) -> str:
    """What it says when it does not start."""
    done = subprocess.run(
        command(config, *more),
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@contextlib.contextmanager
def serving(config: Path, *more: str, **variables: str) -> Iterator[tuple[Any, list[str]]]:
    """The process, once it says that it serves, and the lines it has said."""
    process = subprocess.Popen(
        command(config, *more),
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        until(process, lines, "Ctrl-C")
        yield process, lines
    finally:
        process.kill()
        process.wait()


def until(process: Any, lines: list[str], word: str) -> None:
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return
    pytest.fail(f"it ended without saying {word!r}:\n{''.join(lines)}")


def test_a_token_a_limit_and_a_graceful_end(tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def script(number: int, body: dict[str, Any]) -> Answer:
        if body["messages"][0]["content"] == "Take your time.":
            asked.set()
            go_on.wait(300)
        return said("Well.")

    port = free_port()
    with scripted(script) as server:
        config = written(
            tmp_path,
            teacher={"type": "llm", "model": {"base_url": server.url, "model": "m"}},
            serve={"port": port, "max_request_mb": 0.001, "token_env": "MY_TOKEN"},
        )
        replies: list[Any] = []

        def ask(text: str, token: str = TOKEN) -> Any:
            with httpx.Client(trust_env=False, timeout=300) as client:
                return client.post(
                    f"http://127.0.0.1:{port}/v1/chat/completions",
                    json={"model": "teacher", "messages": [{"role": "user", "content": text}]},
                    headers={"authorization": f"Bearer {token}"},
                )

        with serving(config, "--only", "teacher", MY_TOKEN=TOKEN) as (process, lines):
            assert server.bodies, "it is ready when the model has answered"
            shown = "".join(lines)
            assert f"Serving teacher at http://127.0.0.1:{port}/v1" in shown
            assert "curl " in shown
            assert "$MY_TOKEN" in shown
            assert TOKEN not in shown
            assert ask("Hello.").json()["choices"][0]["message"]["content"] == "Well."
            assert ask("Hello.", "another").status_code == 401
            assert ask("a" * 2000).status_code == 413
            slow = threading.Thread(target=lambda: replies.append(ask("Take your time.")))
            slow.start()
            assert asked.wait(60)
            process.send_signal(signal.SIGTERM)
            until(process, lines, "Stopping")
            go_on.set()
            slow.join(120)
            assert process.wait(180) == 0
            assert replies[0].json()["choices"][0]["message"]["content"] == "Well."
        assert TOKEN not in "".join(lines)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = refused(written(tmp_path, serve={"port": port}))
    assert f"serve.port: cannot listen at 127.0.0.1:{port}" in text


def test_no_token_no_door(tmp_path: Path) -> None:
    config = written(tmp_path, serve={"host": "0.0.0.0", "port": free_port()})
    assert "the environment variable STEP_RAY_TOKEN is not set" in refused(config)


def test_a_model_that_does_not_load(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    config = written(tmp_path, student={"model": str(broken)}, serve={"port": free_port()})
    assert f"cannot load the tokenizer in {broken}" in refused(config)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    assert "--only world: no such model" in refused(written(tmp_path), "--only", "world")
    text = refused(written(tmp_path, serve={"port": free_port()}), "--only", "teacher")
    assert "teacher.type: no language model" in text


@pytest.mark.parametrize(
    ("serve", "problem"),
    [
        ({"port": 0}, "serve.port: "),
        ({"token_env": "sk-very secret"}, "serve.token_env: "),
        ({"adapters": {"a": "nowhere"}}, "serve.adapters: one engine with several students"),
        ({"max_request_mb": 0}, "serve.max_request_mb: "),
    ],
)
def test_settings_that_are_refused(serve: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"output": "x", "serve": serve})
    assert any(line.startswith(problem) for line in caught.value.problems)
    assert "secret" not in str(caught.value)


def test_adapters_need_names_and_folders(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    adapters = {"good": str(tmp_path), "teacher": str(tmp_path), "bad": str(tmp_path / "bad")}
    with pytest.raises(ConfigError) as caught:
        parse_config(
            {
                "output": "x",
                "serve": {"adapters": adapters},
                "student": {"backend": "vllm"},
                "ray": {"num_cpus": 8},
            }
        )
    assert [line.split(":")[0] for line in caught.value.problems] == [
        "serve.adapters.teacher",
        "serve.adapters.bad",
    ]


@pytest.mark.vllm
def test_students_by_adapter_on_vllm(tmp_path: Path) -> None:
    """Two students in one engine; a stream under way when the server is stopped is finished."""
    pytest.importorskip("peft")
    from adapters import make_adapter

    port = free_port()
    config = written(
        tmp_path,
        student={
            "backend": "vllm",
            "context": 512,
            "slots": 8,
            "engine": {"enforce_eager": True},
        },
        serve={"port": port, "adapters": {"other": str(make_adapter(tmp_path / "adapter"))}},
        ray={"num_cpus": 4},
    )
    ask = {"messages": [{"role": "user", "content": "You are in a room."}], "temperature": 0}
    variables = {"STEP_RAY_TOKEN": TOKEN, "VLLM_CPU_KVCACHE_SPACE": "1"}
    with serving(config, **variables) as (process, lines):
        assert f"Serving student, other at http://127.0.0.1:{port}/v1" in "".join(lines)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}/v1", trust_env=False, timeout=120
        ) as client:
            assert client.get("/models").status_code == 401
            client.headers["authorization"] = f"Bearer {TOKEN}"
            assert [one["id"] for one in client.get("/models").json()["data"]] == [
                "student",
                "other",
            ]

            def said(model: str, **more: Any) -> Any:
                asked = {"model": model, "max_tokens": 16, **ask, **more}
                return client.post("/chat/completions", json=asked).json()

            texts = [
                said(name)["choices"][0]["message"]["content"] for name in ("student", "other")
            ]
            assert texts[0] != texts[1]
            form = {
                "type": "object",
                "properties": {"is_error": {"type": "boolean"}},
                "required": ["is_error"],
                "additionalProperties": False,
            }
            wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": form}}
            judged = said("student", response_format=wanted)["choices"][0]["message"]["content"]
            assert isinstance(json.loads(judged)["is_error"], bool)

            asked = {"model": "student", "max_tokens": 400, "stream": True, **ask}
            asked["temperature"] = 1.0
            with client.stream("POST", "/chat/completions", json=asked) as answer:
                events = answer.iter_lines()
                assert next(events).startswith("data: ")
                process.send_signal(signal.SIGTERM)
                rest = [line for line in events if line]
            assert len(rest) > 1
            assert rest[-1] == "data: [DONE]"
        until(process, lines, "Stopping")
        assert process.wait(180) == 0
