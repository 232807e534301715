"""The section of results: every student on every split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from step_ray.progress import percent
from step_ray.report.charts import axis, bar, dot_and_interval, esc
from step_ray.report.data import RunData, dictionary, interval, number
from step_ray.report.parts import ABSENT, count, figure, rows_of, student_classes

ENDED_BY_ITSELF = {"success", "failure", "step_limit"}


def results(data: RunData) -> str:
    """Every student on every split."""
    rows = data.students
    if not rows:
        return ABSENT
    splits = list(dict.fromkeys(str(row.get("split", "?")) for row in rows))
    css = student_classes(data)
    panels = "".join(_panel(split, rows_of(rows, split), css) for split in splits)
    bodies = "".join(_results_body(split, rows_of(rows, split), css) for split in splits)
    types = "".join(_by_type(split, rows_of(rows, split), css) for split in splits)
    heads = (
        ("Student", ""),
        ("Trained on", "training trajectories"),
        ("Episodes", ""),
        ("Success", "95 % interval"),
        ("Average reward", "95 % interval"),
        ("Invalid actions", "of all turns"),
        ("Recovery", "of errors"),
        ("Loops", "of all turns"),
        ("Turns", "mean"),
    )
    head = "".join(f"<th scope=col>{a}<small>{b}</small></th>" for a, b in heads)
    return (
        f'<figure><div class="panels">{panels}</div><figcaption>Success rate in per cent. Dots are '
        "what was measured, lines are 95 % intervals (Wilson).</figcaption></figure>"
        f'<div class="scroll"><table class="figures"><thead><tr>{head}</tr></thead>{bodies}</table>'
        f"</div>{_technical(rows)}"
        '<p class="note">Average reward counts the highest that an episode had, as ETO does. '
        "Recovery: the share of errors whose episode was won all the same; an error is a turn that "
        "had no effect, one that ends a loop, or one that the environment's judge calls so "
        "(evaluation.judge). Loops: turns that end a run of turns which, answers included, is the "
        "run before once more. Intervals are over tasks; those of average rewards are "
        "bootstrapped, or Wilson's where all tasks have the same.</p>"
        f'<div class="panels types">{types}</div>'
    )


def _panel(split: str, rows: Sequence[dict[str, Any]], css: dict[str, str]) -> str:
    lines = ""
    for row in rows:
        name, success = str(row.get("student", "?")), interval(row.get("success"))
        if success is None:
            continue
        said = f"{name}: {percent(success[0])}, from {percent(success[1])} to {percent(success[2])}"
        plot = dot_and_interval(success, (0.0, 0.5, 1.0), css[name], said)
        lines += f"<span>{esc(name)}</span>{plot}<b>{percent(success[0])}</b>"
    labels = axis(("0", "25", "50", "75", "100"))
    return (
        f'<div class="panel"><h3>{esc(split)}</h3><div class="dots">{lines}<span></span>{labels}'
        "<b></b></div></div>"
    )


def _results_body(split: str, rows: Sequence[dict[str, Any]], css: dict[str, str]) -> str:
    best = max((s[0] for s in (interval(r.get("success")) for r in rows) if s), default=None)
    body = ""
    for row in rows:
        name, success = str(row.get("student", "?")), interval(row.get("success"))
        mark = ' class="best"' if success is not None and success[0] == best else ""
        turns = number(row.get("mean_turns"))
        cells = (
            count(row.get("train_trajectories")),
            count(row.get("n")),
            figure(success, 100, 1, " %"),
            figure(interval(row.get("average_reward")), 1, 3, ""),
            *(percent(number(row.get(f"{rate}_rate"))) for rate in ("invalid_action", "recovery")),
            percent(number(row.get("loop_rate"))),
            "–" if turns is None else f"{turns:.1f}",
        )
        body += (
            f'<tr{mark}><th scope=row><span class="key {css[name]}"></span>{esc(name)}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    head = f'<tr class="group"><th colspan=9 scope=rowgroup>{esc(split)}</th></tr>'
    return f"<tbody>{head}{body}</tbody>"


def _by_type(split: str, rows: Sequence[dict[str, Any]], css: dict[str, str]) -> str:
    tables = {str(row.get("student", "?")): dictionary(row.get("by_type")) for row in rows}
    types = sorted({kind for table in tables.values() for kind in table})
    if not types:
        return ""
    body = ""
    for kind in types:
        cells, sizes = "", set()
        for name, table in tables.items():
            entry = dictionary(table.get(kind))
            success, size = number(entry.get("success")), number(entry.get("n"))
            if size is not None:
                sizes.add(f"{size:.0f}")
            shown = "–" if success is None else f"{percent(success, 0)}{bar(success, css[name], 6)}"
            cells += f'<td class="cell">{shown}</td>'
        body += (
            f"<tr><th scope=row>{esc(kind.replace('_', ' '))}"
            f"<small>n {esc(', '.join(sorted(sizes)))}</small></th>{cells}</tr>"
        )
    names = {name: esc(name).replace("_", "_<wbr>") for name in tables}  # may break on a phone
    heads = "".join(
        f'<th scope=col><span class="key {css[name]}"></span>{shown}</th>'
        for name, shown in names.items()
    )
    return (
        f'<div class="panel"><h3>By task type, <code>{esc(split)}</code></h3><div class="scroll">'
        f'<table class="figures"><thead><tr><th scope=col>Task type</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></div>"
    )


def _technical(rows: Sequence[dict[str, Any]]) -> str:
    """Episodes that something other than the task ended: they count as lost, so they are named."""
    said = []
    for row in rows:
        ends = [
            f"{count(times)} × {esc(name)}"
            for name, times in dictionary(row.get("outcomes")).items()
            if name not in ENDED_BY_ITSELF
        ]
        if ends:
            who = f"{esc(row.get('student', '?'))} on {esc(row.get('split', '?'))}"
            said.append(f"{who}: {', '.join(ends)}")
    if not said:
        return ""
    return f'<p class="note">Ended by a failure and counted as lost: {"; ".join(said)}.</p>'
