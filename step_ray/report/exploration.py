"""What came of exploring: ETO's pairs of each round, STeCa's deviations, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from step_ray.report.data import RunData, dictionary, number
from step_ray.report.parts import bars, count, counts, share, tile

_PAIRS = {
    "lose": "The expert won",
    "win": "The policy won",
    "tie": "Neither",
    "no_golden": "No expert",
    "unfinished": "Unfinished",
    "no_turn": "No turn",
}
_CHOSEN = {
    "calibration": "the way back after a deviation",
    "explored": "the policy's own successes",
    "expert": "the expert's way where the policy's failed",
}


def exploration(data: RunData) -> str:
    """The part of ETO's or STeCa's runs; empty for others."""
    return _rounds(data) + _calibration(data)


def _rounds(data: RunData) -> str:
    given = data.results.get("rounds")
    rounds = [dictionary(one) for one in given] if isinstance(given, list) else []
    if not rounds:
        return ""
    used = [name for name in _PAIRS if any(number(one.get(name)) for one in rounds)]
    heads = "".join(f"<th scope=col>{_PAIRS[name]}</th>" for name in used)
    body = "".join(
        f"<tr><th scope=row>{index}</th>"
        + "".join(f"<td>{count(one.get(name, 0))}</td>" for name in used)
        + f"<td><b>{count(_pairs(one))}</b></td></tr>"
        for index, one in enumerate(rounds, 1)
    )
    return (
        '<div class="scroll"><table class="figures"><thead><tr><th scope=col>Round</th>'
        f"{heads}<th scope=col>Pairs</th></tr></thead><tbody>{body}</tbody></table></div>"
        '<p class="note">Explored episodes by who had the higher reward. Where one of the two had '
        "it, DPO prefers that one.</p>"
    )


def _pairs(counts: Mapping[str, Any]) -> float:
    return sum(number(counts.get(name)) or 0.0 for name in ("lose", "win"))


def _calibration(data: RunData) -> str:
    facts = dictionary(data.results.get("calibration"))
    if not facts:
        return ""
    explored, deviations = (number(facts.get(name)) for name in ("explored", "deviations"))
    pasted = dictionary(facts.get("pasted"))
    wrong, whole = (number(pasted.get(name)) for name in ("not_executable", "trajectories"))
    tiles = [
        tile(explored, "steps explored", "one from each state on an expert's way"),
        tile(number(facts.get("continuations")), "continuations", "to value what steps lead to"),
        tile(deviations, "deviations", share(deviations, explored, "steps")),
        tile(wrong, "not executable if pasted", share(wrong, whole, "expert's endings")),
    ]
    return (
        f'<div class="tiles">{"".join(tiles)}</div><div class="panels">'
        f"{bars('What is trained', counts(facts.get('chosen')), _CHOSEN, 'kind')}</div>"
    )
