"""ETO's pairs (arXiv 2403.02502): what the policy did in a task against what the expert did.

The rules are those of its code, ``construct_preference.py``: the one with more reward is chosen; a
tie makes no pair; an episode that no world ended, nor the limit of turns, has no reward and makes
none. A failure can be cut shortly after the length of the expert's way, so that DPO does not spend
itself on the tail of a loop; a success never is.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

from step_ray.synthesis.filters import ENDED_BY_ITSELF
from step_ray.training.preferences import Pair
from step_ray.trajectory import Trajectory


def contrast(
    golden: Iterable[Trajectory], explored: Iterable[Trajectory], extra_turns: int | None
) -> tuple[list[Pair], dict[str, int]]:
    """The pairs, in the order of ``explored``, and the number of episodes by what became of them.

    An explored failure keeps at most ``extra_turns`` more turns than the expert took; None: all.
    Counted are ``lose`` (chosen: the expert), ``win`` (chosen: the policy), ``tie``, ``no_golden``
    (the expert's trajectory is not kept), ``unfinished`` and ``no_turn``.
    """
    experts = {trajectory.task: trajectory for trajectory in golden}
    pairs: list[Pair] = []
    counts: Counter[str] = Counter(lose=0, win=0, tie=0)
    for own in explored:
        expert = experts.get(own.task)
        if expert is None:
            counts["no_golden"] += 1
        elif own.outcome not in ENDED_BY_ITSELF:
            counts["unfinished"] += 1
        elif not own.turns:
            counts["no_turn"] += 1
        elif own.reward < expert.reward:
            counts["lose"] += 1
            pairs.append(Pair(expert, _cut(own, len(expert.turns), extra_turns)))
        elif own.reward > expert.reward:
            counts["win"] += 1
            pairs.append(Pair(own, expert))
        else:
            counts["tie"] += 1
    return pairs, dict(counts)


def _cut(failure: Trajectory, expert_turns: int, extra_turns: int | None) -> Trajectory:
    if extra_turns is None:
        return failure
    return dataclasses.replace(failure, turns=failure.turns[: expert_turns + extra_turns])
