"""The section of the time budget: where the time went, by stage and by phase."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from step_ray.progress import duration, percent
from step_ray.report.charts import bar, esc, stacked
from step_ray.report.data import RunData
from step_ray.report.parts import ABSENT

PHASES = ("env", "student", "teacher", "queue", "write")


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
        f"{_whole(list(stages.values()), used, css)}"
        '<div class="scroll"><table class="figures time"><thead><tr><th scope=col>Stage</th>'
        f'<th scope=col class="wide"></th><th scope=col>Took</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{note if used else ''}"
    )


def _whole(
    stages: Sequence[Mapping[str, float]], used: Sequence[str], css: Mapping[str, str]
) -> str:
    """One bar of all phases of all episodes; training is no part of an episode."""
    sums = {phase: math.fsum(phases.get(phase, 0.0) for phases in stages) for phase in PHASES}
    sums = {phase: value for phase, value in sums.items() if value and phase in used}
    total = math.fsum(sums.values())
    if not total:
        return ""
    legend = "".join(
        f'<span><span class="key {css[phase]}"></span>{esc(phase)} '
        f"<b>{percent(value / total)}</b> {esc(duration(value))}</span>"
        for phase, value in sums.items()
    )
    bars = stacked([(css[phase], value) for phase, value in sums.items()], 18)
    return (
        f'<div class="budget"><h3>Of {esc(duration(total))} of episodes</h3>{bars}'
        f'<div class="legend">{legend}</div></div>'
    )
