"""How environments fared: what hung, failed, was replaced or recycled in each stage, as HTML."""

from __future__ import annotations

from step_ray.report.charts import esc
from step_ray.report.data import RunData, dictionary, number
from step_ray.report.parts import count

FATES = {
    "env_timeout": ("Hung", "a deadline passed"),
    "env_error": ("Failed", "raised, or died"),
    "replaced": ("Replaced", "as it hung or failed"),
    "recycled": ("Recycled", "for their memory"),
    "restarted": ("Engine restarted", "several may share it"),
}


def environments(data: RunData) -> str:
    """How environments fared, by stage; empty for a run that counted none."""
    found = {
        str(record.get("name")): dictionary(
            dictionary(dictionary(record.get("outputs")).get("environments")).get("value")
        )
        for record in data.stages
    }
    found = {stage: fates for stage, fates in found.items() if fates}
    if not found:
        return ""
    if not any(number(value) for fates in found.values() for value in fates.values()):
        return f"<p>None hung, failed, was replaced or recycled in {esc(', '.join(found))}.</p>"
    heads = "".join(f"<th scope=col>{a}<small>{b}</small></th>" for a, b in FATES.values())
    body = "".join(
        f"<tr><th scope=row>{esc(stage)}</th>"
        + "".join(f"<td>{count(fates.get(name, 0))}</td>" for name in FATES)
        + "</tr>"
        for stage, fates in found.items()
    )
    return (
        '<div class="scroll"><table class="figures"><thead><tr><th scope=col>Stage</th>'
        f"{heads}</tr></thead><tbody>{body}</tbody></table></div>"
        '<p class="note">An environment that hangs or fails ends its episode as '
        "<code>env_timeout</code> or <code>env_error</code> and is replaced; the filter "
        "“Outcome” of the trajectories finds these episodes, and each says which call it was.</p>"
    )
