"""What goes wrong at test time, turn by turn: nobody corrects anything there.

A *slip* is an executed turn of which one of these is true, the first that is giving its kind:

- the environment's judge called it an error (``evaluation.judge``); the kind is the judge's,
- ``invalid``: the environment did not understand it, or it had no effect,
- ``loop``: it ends a run of turns that is, answers included, the run of turns just before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from step_ray.trajectory import Trajectory, Turn

INVALID, LOOP, OTHER = "invalid", "loop", "other"


@dataclass(frozen=True, slots=True)
class Recovery:
    """``slips`` happened, and the episode of ``recovered`` of them was won all the same."""

    slips: int
    recovered: int

    @property
    def rate(self) -> float | None:
        """Share of slips after which the episode was won; None if there was none."""
        return self.recovered / self.slips if self.slips else None


def slips(trajectory: Trajectory) -> list[str]:
    """The kind of every slip of an episode, in order."""
    turns = [turn for turn in trajectory.turns if turn.executed]
    return [
        kind for turn, loop in zip(turns, loops(turns), strict=True) if (kind := _kind(turn, loop))
    ]


def loops(turns: Sequence[Turn]) -> list[bool]:
    """For each turn whether it ends a run of turns that is the run before it once more: of length 1
    (the same action again, with the same answer), 2 (to and fro), or any other."""
    said = [(turn.action, turn.observation) for turn in turns]
    # alike[k]: how many turns in a row, up to the present one, were those of k turns before.
    alike = [0] * (len(said) // 2 + 1)
    found = []
    for now, this in enumerate(said):
        for back in range(1, min(now, len(alike) - 1) + 1):
            alike[back] = alike[back] + 1 if said[now - back] == this else 0
        found.append(any(count >= back for back, count in enumerate(alike) if back))
    return found


def recoveries(trajectories: Sequence[Trajectory]) -> dict[str, Recovery]:
    """Kind of slip -> how many there were and in how many of these cases the episode was won; the
    most frequent kind first."""
    all_of: Counter[str] = Counter()
    won: Counter[str] = Counter()
    for trajectory in trajectories:
        kinds = slips(trajectory)
        all_of.update(kinds)
        if trajectory.success:
            won.update(kinds)
    return {kind: Recovery(count, won[kind]) for kind, count in all_of.most_common()}


def _kind(turn: Turn, loop: bool) -> str:
    if turn.verdict == "error":
        return (turn.review.kind if turn.review else "") or OTHER
    return INVALID if not turn.valid else LOOP if loop else ""
