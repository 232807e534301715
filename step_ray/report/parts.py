"""Pieces that sections are made of. Whatever comes from a run goes through ``esc`` or a chart."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from step_ray.progress import percent
from step_ray.report.charts import bar, esc
from step_ray.report.data import RunData, dictionary, number

ABSENT = '<p class="absent">Not part of this run.</p>'


def student_classes(data: RunData) -> dict[str, str]:
    """A colour class for each student: the base agent is grey, what STeP made has the accent."""
    names = list(dict.fromkeys(str(row.get("student", "?")) for row in data.students))
    fixed = {"base": "s-base", "golden_only": "s-golden", "step": "s-step"}
    others = [name for name in names if name not in fixed]
    return {n: fixed.get(n) or f"s{others.index(n) % 4}" for n in names}


def rows_of(rows: Sequence[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    """Rows of ``results.json`` on one split."""
    return [row for row in rows if str(row.get("split", "?")) == split]


def bars(
    title: str, counts: Sequence[tuple[str, float]], words: Mapping[str, str], css: str
) -> str:
    """Counts as bars; ``words`` explain their names."""
    if not counts:
        return f'<div class="panel"><h3>{title}</h3>{ABSENT}</div>'
    most = max(value for _, value in counts) or 1.0
    total = math.fsum(value for _, value in counts) or 1.0
    rows = "".join(
        f'<li><span class="name">{esc(name.replace("_", " "))}</span>'
        f'<span class="count">{count(value)}<small>{percent(value / total, 0)}</small></span>'
        f"{bar(value / most, 'good' if name == 'kept' else css, 8)}"
        f'<span class="what">{esc(words.get(name, ""))}</span></li>'
        for name, value in counts
    )
    return f'<div class="panel"><h3>{title}</h3><ul class="bars">{rows}</ul></div>'


def tile(value: float | None, name: str, remark: str) -> str:
    """A large number with its name."""
    return f"<div><b>{count(value)}</b><span>{name}</span><small>{esc(remark)}</small></div>"


def per(part: float | None, whole: float | None, words: str) -> str:
    """A mean; empty if there is none."""
    return f"{part / whole:.2f} {words}" if part is not None and whole else ""


def share(part: float | None, whole: float | None, words: str) -> str:
    """A share in per cent; empty if there is none."""
    return f"{percent(part / whole)} of {whole:,.0f} {words}" if part is not None and whole else ""


def counts(value: Any) -> list[tuple[str, float]]:
    """(name, count) of a dictionary, the largest first."""
    found = [(str(k), number(v)) for k, v in dictionary(value).items()]
    return sorted(((k, v) for k, v in found if v is not None), key=lambda item: (-item[1], item[0]))


def count(value: Any) -> str:
    """A whole number, or a dash."""
    parsed = number(value)
    return "–" if parsed is None else f"{parsed:,.0f}"


def figure(figure: tuple[float, float, float] | None, scale: float, digits: int, unit: str) -> str:
    """(value, low, high), the interval below the value; or a dash."""
    if figure is None:
        return "–"
    value, low, high = figure
    return f"{scale * value:.{digits}f}{unit}<small>{span(low, high, scale, digits)}</small>"


def span(low: float, high: float, scale: float, digits: int) -> str:
    """An interval."""
    return f"{scale * low:.{digits}f}–{scale * high:.{digits}f}"


def date(value: Any) -> str:
    """An ISO moment as a person writes it; empty for anything else."""
    try:
        moment = datetime.datetime.fromisoformat(str(value))
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y, %H:%M}{' UTC' if moment.tzinfo else ''}"


def joined(parts: Iterable[Any]) -> str:
    return " · ".join(esc(part) for part in parts if part)


def plain(value: Any) -> str:
    """A value of a config as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    return "none" if value is None else str(value)
