from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import step_ray

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "ray", "pyarrow", "transformers", "numpy", "pandas"}


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("step_ray", HEAVY),
        ("step_ray.config", HEAVY),
        ("step_ray.run", HEAVY),
        ("step_ray.files", HEAVY),
        ("step_ray.trajectory", HEAVY),
        ("step_ray.store", {"torch", "ray", "transformers"}),
    ],
)
def test_importing_costs_little(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert heavy.isdisjoint(done.stdout.split())


def test_every_public_name_is_there() -> None:
    assert set(step_ray.__all__) <= set(dir(step_ray))
    for name in step_ray.__all__:
        assert getattr(step_ray, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        step_ray.nothing  # noqa: B018


def test_there_is_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == step_ray.__version__
    assert f"## {step_ray.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for image in re.findall(r"step-ray(?:-gpu)?:([\d.]+)", _all(ROOT / "deploy")):
        assert image == step_ray.__version__


def _all(folder: Path) -> str:
    files = [*folder.glob("Dockerfile*"), *folder.rglob("*.yaml")]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)
