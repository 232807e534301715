"""The sections on training and on synthesis. Whatever comes from a run goes through ``esc``."""

from __future__ import annotations

from collections.abc import Sequence

from step_ray.progress import compact
from step_ray.report.charts import curve, esc, ticks
from step_ray.report.data import Curve, RunData, number
from step_ray.report.exploration import exploration
from step_ray.report.parts import ABSENT, bars, counts, joined, per, share, tile
from step_ray.teacher.schemas import KINDS

REASONS = {
    "kept": "became training data",
    "low_reward": "final reward below the threshold",
    "too_many_errors": "more errors than a training trajectory may have",
    "unrecovered_error": "an error without a valid correction right after it",
    "no_correction": "nothing had to be corrected",
    "failure": "the environment ended it without success",
    "step_limit": "the turn budget ran out",
    "error_limit": "the student made more errors than an episode allows",
    "env_timeout": "the environment passed a deadline",
    "env_error": "the engine failed",
    "student_error": "the student gave no reply",
    "teacher_error": "the teacher gave no usable reply",
    "episode_timeout": "the whole episode passed its deadline",
}


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
    figures, explored = data.synthesis, exploration(data)
    if not figures:
        return explored or ABSENT
    episodes, errors, corrections, recovered, kept = (
        number(figures.get(name))
        for name in ("episodes", "errors", "corrections", "recovered", "kept")
    )
    tiles = [
        tile(episodes, "episodes", "student and teacher together"),
        tile(errors, "errors caught", per(errors, episodes, "per episode")),
        tile(recovered, "corrections that recovered", share(recovered, corrections, "corrections")),
        tile(kept, "kept for training", share(kept, episodes, "episodes")),
    ]
    reasons = counts(figures.get("drop_reasons"))
    if kept is not None and reasons:
        reasons = [("kept", kept), *reasons]
    kinds = counts(figures.get("error_kinds"))
    return (
        f'<div class="tiles">{"".join(tiles)}</div><div class="panels">'
        f"{bars('What became of the episodes', reasons, REASONS, 'quiet')}"
        f"{bars('Kinds of errors', kinds, KINDS, 'kind')}</div>"
    )


def _curve(item: Curve, scale: Sequence[float]) -> str:
    facts = [f"{item.steps:,} steps", f"loss {compact(item.final_loss)} at the end"]
    if item.tokens_per_second is not None:
        facts.append(f"{compact(round(item.tokens_per_second))} tokens/s")
    if item.trained_tokens_per_second is not None:
        facts.append(f"{compact(round(item.trained_tokens_per_second))} of them trained")
    said = f"Loss of {item.stage}: {', '.join(facts)}"
    return (
        f'<div class="panel"><h3>{esc(item.stage)}</h3>{curve(item.points, scale, said)}'
        f'<p class="caption">{joined(facts)}</p></div>'
    )
