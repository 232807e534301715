"""The documentation as a site, and what it says of commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from step_ray.cli import app
from step_ray.config import load_config

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason='pip install "step-ray[docs]"')
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    for page in (ROOT / "docs").glob("*.md"):
        assert (tmp_path / f"{page.stem}.html").is_file(), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_file_that_a_page_names_is_there(page: Path) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    text = page.read_text("utf-8")
    for name in re.findall(r"^(?:\S+=\S+ )*step-ray ([a-z][a-z-]*)", text, re.MULTILINE):
        assert name in commands, name
    # What a benchmark writes is there when it has been run.
    for path in re.findall(r"\b(?:jobs|deploy|docs(?!/benchmarks)|tests)/[\w./-]+\w", text):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"^make ([a-z][a-z-]*)", text, re.MULTILINE):
        assert target in targets, target


def test_every_ablation_in_the_docs_is_a_config(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    table = page.split("\n## Ablations\n")[1].split("\n## ")[0]
    settings = re.findall(r"^\| [^`|]+ \| `([^`]+)` \|$", table, re.MULTILINE)
    assert len(settings) >= 18
    path = tmp_path / "run.yaml"
    path.write_text("output: runs/x\nray: {num_cpus: 8}\n")
    plain = load_config(path)
    for setting in settings:
        assert load_config(path, [setting]) != plain, setting
