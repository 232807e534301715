"""The page about a run: ``report/index.html`` and, next to it, the trajectories in chunks.

It opens from disk and loads nothing but its own chunks. Its script and style are the only ones its
content security policy allows, by their hashes, and the script alone may add others: so even text
that slipped through the escaping could not run, load or send anything.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from step_ray import files
from step_ray._version import __version__
from step_ray.lineage import RunError
from step_ray.report import chunks
from step_ray.report.audit import audit
from step_ray.report.budget import seconds
from step_ray.report.charts import esc
from step_ray.report.compare import comparison
from step_ray.report.data import FOLDER, RunData, collect, dictionary, number
from step_ray.report.environments import environments
from step_ray.report.groups import Choice, choose
from step_ray.report.masthead import masthead
from step_ray.report.models import models
from step_ray.report.results import results
from step_ray.report.sections import curves, synthesis
from step_ray.report.tokens import token_view
from step_ray.training.masks import verdict_weights

PAGE, DATA = "index.html", "data-"
LIMIT = 20_000  # trajectories that a page has at most
TOKEN_VIEWS = 100  # trajectories shown as tokens: some 50 KB each

Section = tuple[str, str, Callable[[RunData], str]]
SECTIONS: tuple[Section, ...] = (
    ("results", "Results", results),
    ("comparison", "Comparison", comparison),
    ("training", "Training", curves),
    ("synthesis", "Synthesis", synthesis),
    ("models", "What the models were asked", models),
    ("environments", "Environments", environments),
    ("audit", "Mask audit", audit),
    ("time", "Time budget", seconds),
)
"""Id, title and HTML of each section, in order; one that has nothing to say is left out."""

STYLES = ("base.css", "overview.css", "explorer.css")
SCRIPTS = ("dom.js", "data.js", "filters.js", "list.js", "detail.js", "tokens.js", "main.js")


def build_report(
    run_path: Path,
    compare: Sequence[Path] = (),
    tokenizer: Path | None = None,
    limit: int = LIMIT,
    token_views: int = TOKEN_VIEWS,
) -> Path:
    """Writes the page of a run from what is there; returns its path.

    ``compare`` are folders of other runs; ``tokenizer`` is a model's folder for the token view,
    None for the run's own student. The same run gives the same page.
    Raises :class:`~step_ray.lineage.RunError` if a folder is no run or the page cannot be written,
    :class:`~step_ray.models.base.ModelError` for a tokenizer that cannot be used.
    """
    run_path = Path(run_path)
    data = collect(run_path)
    data.others = [collect(Path(other)) for other in compare]
    weights = _weights(data)
    target = run_path / FOLDER
    try:
        target.mkdir(exist_ok=True)
        choice = choose(run_path, limit, data.problems)
        view = token_view(data, tokenizer, choice.sample(token_views))
        with _folder(target) as temporary:
            meta = chunks.write(temporary, choice, weights, view)
            meta["folder"] = f"{DATA}{files.tree_hash(temporary)[:12]}"
            shutil.rmtree(target / meta["folder"], ignore_errors=True)
            temporary.replace(target / meta["folder"])
        meta["tokenizer"] = view.about if view else None
        files.write_text_atomic(target / PAGE, render(data, choice, meta))
        for old in target.glob(f"{DATA}*"):
            if old.name != meta["folder"]:
                shutil.rmtree(old)
    except OSError as error:
        raise RunError(files.explain(error, target)) from error
    return target / PAGE


def render(data: RunData, choice: Choice, meta: dict[str, Any]) -> str:
    """The page's text."""
    css, js = ("\n".join(_asset(name) for name in names) for names in (STYLES, SCRIPTS))
    policy = (
        f"default-src 'none'; style-src '{_hash(css)}'; "
        f"script-src '{_hash(js)}' 'strict-dynamic'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    made = [(name, title, section(data)) for name, title, section in SECTIONS]
    shown = [(name, title, text) for name, title, text in made if text]
    page = Template(_asset("page.html")).substitute(
        title=esc(data.name),
        policy=policy,
        css=css,
        js=js,
        masthead=masthead(data),
        links="".join(f'<a href="#{name}">{title}</a>' for name, title, _ in shown),
        sections="\n".join(
            f'<section id="{name}"><h2>{title}</h2>\n{text}\n</section>'
            for name, title, text in shown
        ),
        count=f"{sum(group.total for group in choice.groups):,}",
        data=chunks.embeddable(meta),
        version=esc(__version__),
    )
    # JSON files can name half a surrogate pair, which no UTF-8 file can hold.
    return page.encode("utf-8", "replace").decode("utf-8")


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    """A new folder for unfinished files; what is still there at the end is removed."""
    temporary = files.temporary_name(parent / "data")
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _weights(data: RunData) -> dict[str, float]:
    """The loss weight of each verdict under the mask of the run's config."""
    mask: Any = dictionary(data.config.get("training")).get("mask", "partial")
    if isinstance(mask, dict):
        mask = {key: value for key, value in mask.items() if number(value) is not None}
    try:
        return {str(verdict): weight for verdict, weight in verdict_weights(mask).items()}
    except (TypeError, ValueError) as error:
        data.problems.append(f"training.mask: {error}; the page shows the mask 'partial'")
        return {str(verdict): weight for verdict, weight in verdict_weights("partial").items()}


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("web", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """How a content security policy names exactly this inline text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
