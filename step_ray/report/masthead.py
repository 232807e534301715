"""The head of a page: name, date, the result in a sentence, and how it was made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from step_ray.lineage import flat
from step_ray.progress import duration, percent
from step_ray.report.charts import esc
from step_ray.report.data import RunData, dictionary, interval, number
from step_ray.report.parts import count, date, joined, plain, rows_of, span

_SUMMARY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Environment", ("env.name", "env.backend")),
    ("Official data", ("env.data", "env.lists")),
    ("Generated games", ("env.games",)),
    ("Student", ("student.model", "student.dtype")),
    ("Teacher", ("teacher.type", "teacher.model.model", "teacher.style")),
    ("Golden share of tasks", ("golden.fraction",)),
    ("On an error", ("synthesis.on_error",)),
    ("Errors a kept trajectory may have", ("synthesis.max_errors",)),
    ("Loss mask", ("training.mask",)),
    ("Epochs", ("training.epochs",)),
    ("Learning rate", ("training.learning_rate",)),
    ("Temperature in synthesis, evaluation", ("student.temperature", "evaluation.temperature")),
    ("Evaluation seeds", ("evaluation.seeds",)),
    ("Seed", ("seed",)),
)


def masthead(data: RunData) -> str:
    """Name, date, the result in a sentence, how it was made, and what it is made of."""
    recipe = {"step": "STeP", "eto": "ETO", "steca": "STeCa"}.get(
        str(data.config.get("recipe", "")), str(data.config.get("recipe", ""))
    )
    kicker = [f"{recipe} run" if recipe else "Run", dictionary(data.config.get("env")).get("name")]
    total = number(data.manifest.get("seconds"))
    version = data.manifest.get("code_version")
    byline = [
        date(data.manifest.get("created")),
        f"took {duration(total)}" if total else "",
        f"step-ray {version}" if version else "",
    ]
    facts = "".join(f"<div><dt>{esc(k)}</dt><dd>{esc(v)}</dd></div>" for k, v in _facts(data))
    return (
        f'<p class="kicker">{joined(kicker)}</p><h1>{esc(data.name)}</h1>'
        f'<p class="byline">{joined(byline)}</p>{_lede(data)}{_warnings(data)}'
        f'<dl class="facts">{facts}</dl>{_lineage(data)}'
    )


def _lede(data: RunData) -> str:
    splits = [str(row.get("split", "?")) for row in data.students]
    if not splits:
        return ""
    split = "valid_unseen" if "valid_unseen" in splits else splits[-1]
    said: list[str] = []
    for row in reversed(rows_of(data.students, split)):
        success = interval(row.get("success"))
        if success is not None:
            value, low, high = success
            name, share = f"<b>{esc(row.get('student', '?'))}</b>", f"<b>{percent(value)}</b>"
            between = f'<span class="whole">{span(low, high, 100, 1)}</span>'
            if not said:
                name, between = f"{name} succeeds", f"95 % interval {between}"
                share += f" of {count(row.get('n'))} episodes"
            said.append(f"{name} in {share} ({between})")
    if not said:
        return ""
    return f'<p class="lede">On <code>{esc(split)}</code>, {", ".join(said)}.</p>'


def _warnings(data: RunData) -> str:
    lines = [
        f"Stage {record.get('name')} is {record.get('status')}"
        + (f": {record['error']}" if record.get("error") else "")
        for record in data.stages
        if record.get("status") != "done"
    ]
    lines += data.problems
    if not lines:
        return ""
    items = "".join(f"<li>{esc(line)}</li>" for line in lines)
    return f'<div class="warning"><b>This run is not whole.</b><ul>{items}</ul></div>'


def _facts(data: RunData) -> Iterable[tuple[str, str]]:
    known = dict(flat({k: v for k, v in data.config.items() if k != "env"}))
    env = dictionary(data.config.get("env"))
    known |= {f"env.{key}": value for key, value in env.items()}
    for name, fields in _SUMMARY:
        values = [plain(known[field]) for field in fields if known.get(field) is not None]
        if values:
            yield name, ", ".join(values)


def _lineage(data: RunData) -> str:
    stages = "".join(
        f"<tr><th scope=row>{esc(record.get('name', '?'))}</th><td>{esc(record.get('status', '?'))}"
        f"</td><td><code>{esc(str(record.get('fingerprint', ''))[:12])}</code></td>"
        f"<td>{esc(record.get('attempts', ''))}</td><td>{esc(date(record.get('started')))}</td>"
        f"<td>{esc(record.get('code_version', ''))}</td></tr>"
        for record in data.stages
    )
    parts = []
    if stages:
        parts.append(
            '<h4>Stages</h4><div class="scroll"><table class="plain"><thead><tr><th>Stage</th>'
            "<th>Status</th><th>Fingerprint</th><th>Attempts</th><th>Begun</th><th>Code</th></tr>"
            f"</thead><tbody>{stages}</tbody></table></div>"
        )
    machine = dictionary(data.manifest.get("machine"))
    versions = dictionary(data.manifest.get("packages"))
    groups: dict[str, dict[str, Any]] = {
        "Identity": {
            name: data.manifest[name]
            for name in ("config_hash", "data_version", "created", "updated")
            if name in data.manifest
        },
        "Machine": machine,
        "Packages": versions,
        "Config": dict(flat(data.config)),
    }
    for title, values in groups.items():
        if values:
            rows = "".join(
                f"<div><dt>{esc(key)}</dt><dd>{esc(plain(value))}</dd></div>"
                for key, value in values.items()
            )
            parts.append(f'<h4>{title}</h4><dl class="pairs">{rows}</dl>')
    if not parts:
        return ""
    return (
        "<details class=lineage><summary>Fingerprints, versions, machine and the whole "
        f"config</summary>{''.join(parts)}</details>"
    )
