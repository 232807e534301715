"""The documentation as a site, and what it says of commands."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args
from urllib.parse import unquote, urlsplit

import pytest
from typer.main import get_command

from step_ray import config_text, schema
from step_ray.cli import app
from step_ray.config import RunConfig, load_config
from step_ray.evaluation.statistics import summarise
from step_ray.trajectory import Outcome
from tests import config_reference

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


class Page(HTMLParser):
    """What a page of the built site points at, and what can be pointed at in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built documentation; mkdocs says nothing of it."""
    pytest.importorskip("mkdocs", reason='pip install "step-ray[docs]"')
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_every_page_is_on_the_site_and_none_of_its_links_is_dead(site: Path) -> None:
    pages = {path: Page(path.read_text("utf-8")) for path in site.glob("*.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= {path.stem for path in pages}
    checked = 0
    for path, page in pages.items():
        if path.name == "404.html":  # shown for any address, so its links begin at the root
            continue
        for link in page.links:
            target = urlsplit(link)
            if target.scheme or target.netloc or link == "#":
                continue
            there = (path.parent / unquote(target.path)).resolve() if target.path else path
            there = there / "index.html" if there.is_dir() else there
            assert there.is_file(), f"{path.name}: {link}"
            if target.fragment and there in pages:
                assert target.fragment in pages[there].anchors, f"{path.name}: {link}"
            checked += 1
    assert checked > 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_in_the_repository_is_alive(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not urlsplit(link).scheme and (path := link.partition("#")[0]):
            assert (page.parent / path).exists(), link


@pytest.mark.parametrize("entrance", ["README.md", "docs/index.md"])
def test_every_page_can_be_reached(entrance: str) -> None:
    text = (ROOT / entrance).read_text("utf-8")
    for page in {*(ROOT / "docs").glob("*.md")} - {ROOT / "docs" / "index.md"}:
        assert f"({page.relative_to((ROOT / entrance).parent).as_posix()})" in text, page
    listed = re.findall(r"^- \[[^]]+\]\(([^)]+)\)", text, re.MULTILINE)
    assert len(listed) == len(set(listed))


def test_the_reference_of_configs_is_that_of_the_models() -> None:
    remedy = "run python -m tests.config_reference"
    assert config_reference.PAGE.read_text("utf-8") == config_reference.page(), remedy
    text = config_reference.page()
    for field, _ in config_text.fields_of(RunConfig):
        if not field.startswith("transfer.*.env.") and "." in field:
            assert f"`{field.replace('.*.', '.NAME.')}`" in text, field


def test_files_are_described_as_they_are() -> None:
    text = (ROOT / "docs" / "files.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z_]+)`", text))
    turn, provenance = (schema.SCHEMA.field(name).type for name in ("turns", "provenance"))
    review = turn.value_type.field("review").type
    structs = (turn.value_type, provenance, review)
    fields = [field.name for struct in structs for field in struct]
    assert {*schema.SCHEMA.names, *fields} <= named
    assert set(get_args(Outcome)) | set(summarise([])) <= named


def test_extras_are_those_of_the_package() -> None:
    text = (ROOT / "docs" / "install.md").read_text("utf-8")
    table = text.split("\n## Extras\n")[1].split("\n## ")[0]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == set(
        project["optional-dependencies"]
    )


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


def _said(path: Path) -> list[str]:
    """What a page or a module says: of a module, its string literals."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        return [text]
    tree = ast.parse(text)
    parts = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    whole = ["".join(getattr(value, "value", "X") if isinstance(value, ast.Constant) else "X"
                     for value in part.values) for part in parts]  # fmt: skip
    plain = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    return [*whole, *(value for value in plain if isinstance(value, str))]


# Of sentences about the program, "this step-ray reads", and of other things that are called so.
_PROGRAM = ("that", "reads", "itself", "on", "is", "runs", "of", "and", "held", "batches", "does")


@pytest.mark.parametrize(
    "path", [*PAGES, *sorted((ROOT / "step_ray").rglob("*.py"))], ids=lambda path: path.name
)
def test_every_command_that_is_named_is_one(path: Path) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for text in _said(path):
        for name, rest in re.findall(r"\bstep-ray ([a-z][a-z-]+)(?: ([a-z][a-z-]*))?", text):
            assert name in commands or name in _PROGRAM, f"step-ray {name}"
            if inner := getattr(commands.get(name), "commands", None):
                assert rest in inner, f"step-ray {name} {rest}"


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
