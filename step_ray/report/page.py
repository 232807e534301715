"""One page about a run: a single HTML file that loads nothing and can be opened from anywhere.

The page's own script and style are the only ones its content security policy allows, by their
hashes. So even text that slipped through the escaping could not run, load or send anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from step_ray import files
from step_ray._version import __version__
from step_ray.report import samples, sections
from step_ray.report.charts import esc
from step_ray.report.data import RunData, collect, dictionary, number
from step_ray.report.models import models
from step_ray.training.masks import verdict_weights

FOLDER, PAGE = "report", "index.html"


def build_report(run_path: Path) -> Path:
    """Writes ``report/index.html`` into a run folder, from what is there; returns its path.

    The same run gives the same page. Raises :class:`~step_ray.lineage.RunError` if the folder is
    no run, ``OSError`` if the page cannot be written.
    """
    run_path = Path(run_path)
    data = collect(run_path)
    groups = samples.groups(run_path, data.problems)
    page = render(data, groups)
    target = run_path / FOLDER / PAGE
    target.parent.mkdir(exist_ok=True)
    files.write_text_atomic(target, page)
    return target


def render(data: RunData, groups: Sequence[samples.Group]) -> str:
    """The page's text."""
    packed = samples.pack(groups, _weights(data))  # first, as it may find something to warn of
    css, js = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(css)}'; script-src '{_hash(js)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    page = Template(_asset("page.html")).substitute(
        title=esc(data.name),
        policy=policy,
        css=css,
        js=js,
        masthead=sections.masthead(data),
        results=sections.results(data),
        curves=sections.curves(data),
        synthesis=sections.synthesis(data) + models(data),
        seconds=sections.seconds(data),
        trajectories=_browser(groups),
        data=packed,
        version=esc(__version__),
    )
    # JSON files can name half a surrogate pair, which no UTF-8 file can hold.
    return page.encode("utf-8", "replace").decode("utf-8")


def _browser(groups: Sequence[samples.Group]) -> str:
    if not groups:
        return sections.ABSENT
    return (
        '<div id="browser"></div><noscript><p class="absent">The trajectories are in this page and '
        "need its script to be shown.</p></noscript>"
    )


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
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """How a content security policy names exactly this inline text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
