"""What the models of a run were asked, what caches saved, and what it cost, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from step_ray.progress import compact, percent
from step_ray.report.charts import esc
from step_ray.report.data import RunData, dictionary, number

_HEADS = (
    ("Asked", "requests"),
    ("From reply cache", "paid for before"),
    ("Prompt tokens", ""),
    ("Prefix cache", "of prompt tokens"),
    ("Reply tokens", ""),
    ("Cost", ""),
    ("Trouble", ""),
)
_SHOWN = (
    "asked",
    "from cache",
    "prompt tokens",
    "of them cached",
    "reply tokens",
    "cost",
    "reply_cache_hit_rate",
    "prefix_cache_hit_rate",
)


def models(data: RunData) -> str:
    """A row for each stage and role; nothing for a run without such figures."""
    body = "".join(
        _row(stage, role, dictionary(counts))
        for stage, roles in dictionary(data.results.get("models")).items()
        for role, counts in dictionary(roles).items()
    )
    if not body:
        return ""
    head = "".join(f"<th scope=col>{a}<small>{b}</small></th>" for a, b in _HEADS)
    return (
        '<div class="scroll"><table class="figures"><thead><tr>'
        f"<th scope=col>Model</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        '<p class="note">Prefix cache: prompt tokens that the engine had read before, as the turns '
        "of an episode share all but their end. A server that does not tell counts as none.</p>"
    )


def _row(stage: str, role: str, counts: Mapping[str, Any]) -> str:
    trouble = (
        f"{name} {compact(value)}"
        for name, item in counts.items()
        if name not in _SHOWN and (value := number(item)) is not None
    )
    hits = number(counts.get("from cache"))
    cells = (
        _amount(counts.get("asked")),
        _share(counts.get("reply_cache_hit_rate")) if hits else "–",
        _amount(counts.get("prompt tokens")),
        _share(counts.get("prefix_cache_hit_rate")),
        _amount(counts.get("reply tokens")),
        _amount(counts.get("cost")),
        esc(", ".join(trouble)) or "–",
    )
    return (
        f"<tr><th scope=row>{esc(role)}<small>{esc(stage)}</small></th>"
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + "</tr>"
    )


def _amount(value: Any) -> str:
    parsed = number(value)
    if parsed is None:
        return "–"
    return compact(int(parsed) if parsed.is_integer() else parsed)


def _share(value: Any) -> str:
    parsed = number(value)
    return "–" if parsed is None else percent(parsed)
