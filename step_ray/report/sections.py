"""The sections of a page as HTML. Whatever comes from a run goes through ``esc`` or a chart."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from typing import Any

from step_ray.progress import compact, duration, percent
from step_ray.report.charts import axis, bar, curve, dot_and_interval, esc, stacked, ticks
from step_ray.report.data import Curve, RunData, dictionary, flat, interval, number

ABSENT = '<p class="absent">Not part of this run.</p>'
PHASES = ("env", "student", "teacher", "queue", "write")
ENDED_BY_ITSELF = {"success", "failure", "step_limit"}
REASONS = {
    "kept": "became training data",
    "low_reward": "final reward below the threshold",
    "too_many_errors": "more errors than a training trajectory may have",
    "unrecovered_error": "an error without a valid correction right after it",
    "no_correction": "nothing had to be corrected",
    "too_long": "more turns than allowed",
    "failure": "the environment ended it without success",
    "step_limit": "the turn budget ran out",
    "error_limit": "the student made more errors than an episode allows",
    "env_timeout": "the environment passed a deadline",
    "env_error": "the engine failed",
    "student_error": "the student gave no reply",
    "teacher_error": "the teacher gave no usable reply",
    "episode_timeout": "the whole episode passed its deadline",
}
KINDS = {
    "invalid": "the action is not possible here",
    "loop": "repeats what brought nothing before",
    "wrong_object": "acts on a thing the task does not ask for",
    "misplaced": "puts something in the wrong place, or too early",
    "undo": "takes back what the task needs",
    "detour": "leaves the way although the next step is known",
    "other": "harms the task in another way",
}
_SUMMARY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Environment", ("env.name", "env.backend")),
    ("Official data", ("env.data",)),
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
        _date(data.manifest.get("created")),
        f"took {duration(total)}" if total else "",
        f"step-ray {version}" if version else "",
    ]
    facts = "".join(f"<div><dt>{esc(k)}</dt><dd>{esc(v)}</dd></div>" for k, v in _facts(data))
    return (
        f'<p class="kicker">{_joined(kicker)}</p><h1>{esc(data.name)}</h1>'
        f'<p class="byline">{_joined(byline)}</p>{_lede(data)}{_warnings(data)}'
        f'<dl class="facts">{facts}</dl>{_lineage(data)}'
    )


def results(data: RunData) -> str:
    """Every student on every split."""
    rows = data.students
    if not rows:
        return ABSENT
    splits = list(dict.fromkeys(str(row.get("split", "?")) for row in rows))
    css = student_classes(data)
    panels = "".join(_panel(split, _of(rows, split), css) for split in splits)
    bodies = "".join(_results_body(split, _of(rows, split), css) for split in splits)
    types = "".join(_by_type(split, _of(rows, split), css) for split in splits)
    heads = (
        ("Student", ""),
        ("Trained on", "training trajectories"),
        ("Episodes", ""),
        ("Success", "95 % interval"),
        ("Average reward", "95 % interval"),
        ("Invalid actions", "of all turns"),
        ("Recovery", "of episodes with an invalid action"),
        ("Loops", "of all turns"),
        ("Turns", "mean"),
    )
    head = "".join(f"<th scope=col>{a}<small>{b}</small></th>" for a, b in heads)
    return (
        f'<figure><div class="panels">{panels}</div><figcaption>Success rate in per cent. Dots are '
        "what was measured, lines are 95 % intervals (Wilson).</figcaption></figure>"
        f'<div class="scroll"><table class="figures"><thead><tr>{head}</tr></thead>{bodies}</table>'
        f"</div>{_technical(rows)}"
        '<p class="note">Recovery: episodes with at least one action the environment did not '
        "understand that were won all the same. Loops: turns that repeat the turn before and get "
        "the same answer. Intervals of average rewards are bootstrapped over episodes.</p>"
        f'<div class="panels types">{types}</div>'
    )


def curves(data: RunData) -> str:
    """Loss over steps, one small chart per training, on one scale."""
    if not data.curves:
        return ABSENT
    losses = [loss for item in data.curves for _, loss in item.points]
    low, high = min(losses), max(losses)
    scale = ticks(0.0 if 0 <= low < 0.5 * high else low, high)
    return f'<div class="panels curves">{"".join(_curve(c, scale) for c in data.curves)}</div>'


def synthesis(data: RunData) -> str:
    """What the teacher caught, and what became of the episodes."""
    figures = data.synthesis
    if not figures:
        return ABSENT
    episodes, errors, corrections, recovered, kept = (
        number(figures.get(name))
        for name in ("episodes", "errors", "corrections", "recovered", "kept")
    )
    tiles = [
        _tile(episodes, "episodes", "student and teacher together"),
        _tile(errors, "errors caught", _per(errors, episodes, "per episode")),
        _tile(
            recovered, "corrections that recovered", _share(recovered, corrections, "corrections")
        ),
        _tile(kept, "kept for training", _share(kept, episodes, "episodes")),
    ]
    reasons = _counts(figures.get("drop_reasons"))
    if kept is not None and reasons:
        reasons = [("kept", kept), *reasons]
    kinds = _counts(figures.get("error_kinds"))
    return (
        f'<div class="tiles">{"".join(tiles)}</div><div class="panels">'
        f"{_bars('What became of the episodes', reasons, REASONS, 'quiet')}"
        f"{_bars('Kinds of errors', kinds, KINDS, 'kind')}</div>"
    )


def seconds(data: RunData) -> str:
    """Where the time went, by stage and by phase."""
    stages = data.seconds
    if not stages:
        return ABSENT
    longest = max((phases.get("total", 0.0) for phases in stages.values()), default=0.0) or 1.0
    named = {p for phases in stages.values() for p in phases if p not in (*PHASES, "total")}
    order = [*PHASES, *sorted(named)]
    used = [p for p in order if any(p in phases for phases in stages.values())]
    css = {phase: f"p{index % 7}" for index, phase in enumerate(order)}
    body = ""
    for stage, phases in stages.items():
        parts = [(css[phase], phases[phase]) for phase in used if phases.get(phase)]
        cells = "".join(
            f"<td>{esc(duration(phases[p])) if phases.get(p) else ''}</td>" for p in used
        )
        total = phases.get("total")
        body += (
            f'<tr><th scope=row>{esc(stage)}</th><td class="wide">'
            f"{bar(phases.get('total', 0.0) / longest, 'quiet')}"
            f"{stacked(parts, 6) if parts else ''}</td>"
            f"<td>{esc(duration(total)) if total is not None else ''}</td>{cells}</tr>"
        )
    heads = "".join(
        f'<th scope=col><span class="key {css[phase]}"></span>{esc(phase)}</th>' for phase in used
    )
    note = (
        '<p class="note">Phases are summed over episodes that run side by side, so they can add up '
        "to more than the stage took. The thin bar shows their shares.</p>"
    )
    return (
        '<div class="scroll"><table class="figures time"><thead><tr><th scope=col>Stage</th>'
        f'<th scope=col class="wide"></th><th scope=col>Took</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{note if used else ''}"
    )


def student_classes(data: RunData) -> dict[str, str]:
    """A colour class for each student: the base agent is grey, what STeP made has the accent."""
    names = list(dict.fromkeys(str(row.get("student", "?")) for row in data.students))
    fixed = {"base": "s-base", "golden_only": "s-golden", "step": "s-step"}
    others = [name for name in names if name not in fixed]
    return {n: fixed.get(n) or f"s{others.index(n) % 4}" for n in names}


# -- masthead --------------------------------------------------------------------------------------


def _lede(data: RunData) -> str:
    splits = [str(row.get("split", "?")) for row in data.students]
    if not splits:
        return ""
    split = "valid_unseen" if "valid_unseen" in splits else splits[-1]
    said: list[str] = []
    for row in reversed(_of(data.students, split)):
        success = interval(row.get("success"))
        if success is not None:
            value, low, high = success
            name, share = f"<b>{esc(row.get('student', '?'))}</b>", f"<b>{percent(value)}</b>"
            between = f'<span class="whole">{_range(low, high, 100, 1)}</span>'
            if not said:
                name, between = f"{name} succeeds", f"95 % interval {between}"
                share += f" of {_count(row.get('n'))} episodes"
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
        values = [_plain(known[field]) for field in fields if known.get(field) is not None]
        if values:
            yield name, ", ".join(values)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "none" if value is None else str(value)


def _lineage(data: RunData) -> str:
    stages = "".join(
        f"<tr><th scope=row>{esc(record.get('name', '?'))}</th><td>{esc(record.get('status', '?'))}"
        f"</td><td><code>{esc(str(record.get('fingerprint', ''))[:12])}</code></td>"
        f"<td>{esc(record.get('attempts', ''))}</td><td>{esc(_date(record.get('started')))}</td>"
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
                f"<div><dt>{esc(key)}</dt><dd>{esc(_plain(value))}</dd></div>"
                for key, value in values.items()
            )
            parts.append(f'<h4>{title}</h4><dl class="pairs">{rows}</dl>')
    if not parts:
        return ""
    return (
        "<details class=lineage><summary>Fingerprints, versions, machine and the whole "
        f"config</summary>{''.join(parts)}</details>"
    )


# -- results ---------------------------------------------------------------------------------------


def _of(rows: Sequence[dict[str, Any]], split: str) -> list[dict[str, Any]]:
    return [row for row in rows if str(row.get("split", "?")) == split]


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
            _count(row.get("train_trajectories")),
            _count(row.get("n")),
            _figure(success, 100, 1, " %"),
            _figure(interval(row.get("average_reward")), 1, 3, ""),
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
            f"{_count(count)} × {esc(name)}"
            for name, count in dictionary(row.get("outcomes")).items()
            if name not in ENDED_BY_ITSELF
        ]
        if ends:
            who = f"{esc(row.get('student', '?'))} on {esc(row.get('split', '?'))}"
            said.append(f"{who}: {', '.join(ends)}")
    if not said:
        return ""
    return f'<p class="note">Ended by a failure and counted as lost: {"; ".join(said)}.</p>'


# -- pieces ----------------------------------------------------------------------------------------


def _curve(item: Curve, scale: Sequence[float]) -> str:
    facts = [f"{item.steps:,} steps", f"loss {compact(item.final_loss)} at the end"]
    if item.tokens_per_second is not None:
        facts.append(f"{compact(round(item.tokens_per_second))} tokens/s")
    if item.trained_tokens_per_second is not None:
        facts.append(f"{compact(round(item.trained_tokens_per_second))} of them trained")
    said = f"Loss of {item.stage}: {', '.join(facts)}"
    return (
        f'<div class="panel"><h3>{esc(item.stage)}</h3>{curve(item.points, scale, said)}'
        f'<p class="caption">{_joined(facts)}</p></div>'
    )


def _bars(title: str, counts: Sequence[tuple[str, float]], words: dict[str, str], css: str) -> str:
    if not counts:
        return f'<div class="panel"><h3>{title}</h3>{ABSENT}</div>'
    most = max(value for _, value in counts) or 1.0
    total = math.fsum(value for _, value in counts) or 1.0
    rows = "".join(
        f'<li><span class="name">{esc(name.replace("_", " "))}</span>'
        f'<span class="count">{_count(value)}<small>{percent(value / total, 0)}</small></span>'
        f"{bar(value / most, 'good' if name == 'kept' else css, 8)}"
        f'<span class="what">{esc(words.get(name, ""))}</span></li>'
        for name, value in counts
    )
    return f'<div class="panel"><h3>{title}</h3><ul class="bars">{rows}</ul></div>'


def _tile(value: float | None, name: str, remark: str) -> str:
    return f"<div><b>{_count(value)}</b><span>{name}</span><small>{esc(remark)}</small></div>"


def _per(part: float | None, whole: float | None, words: str) -> str:
    return f"{part / whole:.2f} {words}" if part is not None and whole else ""


def _share(part: float | None, whole: float | None, words: str) -> str:
    return f"{percent(part / whole)} of {whole:,.0f} {words}" if part is not None and whole else ""


def _counts(value: Any) -> list[tuple[str, float]]:
    found = [(str(k), number(v)) for k, v in dictionary(value).items()]
    return sorted(((k, v) for k, v in found if v is not None), key=lambda item: (-item[1], item[0]))


def _count(value: Any) -> str:
    parsed = number(value)
    return "–" if parsed is None else f"{parsed:,.0f}"


def _figure(figure: tuple[float, float, float] | None, scale: float, digits: int, unit: str) -> str:
    if figure is None:
        return "–"
    value, low, high = figure
    return f"{scale * value:.{digits}f}{unit}<small>{_range(low, high, scale, digits)}</small>"


def _range(low: float, high: float, scale: float, digits: int) -> str:
    return f"{scale * low:.{digits}f}–{scale * high:.{digits}f}"


def _date(value: Any) -> str:
    try:
        moment = datetime.datetime.fromisoformat(str(value))
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y, %H:%M}{' UTC' if moment.tzinfo else ''}"


def _joined(parts: Iterable[Any]) -> str:
    return " · ".join(esc(part) for part in parts if part)
