"""STeCa's core (arXiv 2502.14276): step rewards, the deviation test, trajectory deviation distance,
and which trajectories are trained with which weights. Plain computation on finished episodes.

Where the paper and its code differ, the code's rule is the default and the paper's an option. The
code measures the distance of two actions by BERT's embeddings; here it is by their words.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from step_ray.envs.base import Judgement
from step_ray.synthesis.filters import ENDED_BY_ITSELF
from step_ray.trajectory import Trajectory

DEVIATED = Judgement(True, "deviation", (("why", "it made it no likelier that I reach the goal"),))
"""What is said of a step that the environment's judge finds nothing wrong with."""

Rule = Literal["paper", "code"]
Kind = Literal["calibration", "explored", "expert"]
State = tuple[str, tuple[str, ...]]
"""A task and the actions taken in it: what a Monte-Carlo value is of."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One explored episode: it left the expert's way (``golden``) after ``turns`` turns."""

    golden: Trajectory
    explored: Trajectory
    turns: int

    @property
    def proposed(self) -> str:
        """The action that the student chose instead of the expert's; "" if it took none."""
        turns = self.explored.turns
        return turns[self.turns].action if len(turns) > self.turns else ""

    @property
    def before(self) -> State:
        """Where the expert's last step before has led."""
        return state_of(self.golden, self.turns)

    @property
    def expert(self) -> State:
        """Where the expert's own step leads."""
        return state_of(self.golden, self.turns + 1)

    @property
    def after(self) -> State:
        """Where the student's step leads."""
        return state_of(self.explored, self.turns + 1)

    @property
    def went_on(self) -> bool:
        """Whether the explored episode had a turn after the student's first step."""
        return len(self.explored.turns) > self.turns + 1

    @property
    def distance(self) -> float:
        """Trajectory deviation distance: nDTW of what the student did and what the expert did
        after the turns that both share."""
        return ndtw(self._own(self.turns), self._theirs())

    @property
    def distance_behind(self) -> float:
        """That of a calibration, in whose context the student's first step is: what the student did
        behind it, and what the expert did instead of all that. ``inf`` if it did not go on."""
        return ndtw(self._own(self.turns + 1), self._theirs())

    def _own(self, start: int) -> list[str]:
        return [turn.action for turn in self.explored.turns[start:]]

    def _theirs(self) -> list[str]:
        return [turn.action for turn in self.golden.turns[self.turns :]]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A trajectory to be trained from turn ``start`` on, each turn with ``weight``."""

    id: str
    kind: Kind
    start: int
    weight: float


def state_of(trajectory: Trajectory, turns: int) -> State:
    """The state after the first ``turns`` turns of a trajectory."""
    return trajectory.task, tuple(turn.action for turn in trajectory.turns[:turns])


def action_distance(one: str, other: str) -> float:
    """1 - cosine of the word counts of two actions: 0 for the same words, 1 for no common one."""
    a, b = Counter(one.lower().split()), Counter(other.lower().split())
    if a == b:
        return 0.0
    norm = math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))
    return 1.0 - sum(n * b[word] for word, n in a.items()) / norm if norm else 1.0


def ndtw(one: Sequence[str], other: Sequence[str]) -> float:
    """Dynamic time warping of two sequences of actions, divided by sqrt(n^2 + m^2) (eq. 7).

    0 for equal sequences; ``inf`` if just one of them is empty.
    """
    if not one or not other:
        return 0.0 if not one and not other else math.inf
    above = [0.0] + [math.inf] * len(other)
    for action in one:
        row = [math.inf]
        for column, theirs in enumerate(other):
            nearest = min(above[column], above[column + 1], row[column])
            row.append(nearest + action_distance(action, theirs))
        above = row
    return above[-1] / math.hypot(len(one), len(other))


def step_rewards(continued: Iterable[Trajectory], prefix: Mapping[str, int]) -> dict[State, float]:
    """Mean outcome reward of the continuations of each state (eq. 1): the reward of its last step.

    ``prefix`` is the number of turns, by trajectory id, after which the policy went on by itself.
    Continuations that neither the world nor the limit of turns ended have no outcome.
    """
    rewards: dict[State, list[float]] = defaultdict(list)
    for trajectory in continued:
        if trajectory.outcome in ENDED_BY_ITSELF:
            rewards[state_of(trajectory, prefix[trajectory.id])].append(trajectory.reward)
    return {state: math.fsum(found) / len(found) for state, found in rewards.items()}


def differs(probe: Probe, similar: float) -> bool:
    """Whether the student's step is another one than the expert's: other words, of a cosine
    similarity below ``similar``."""
    expert = probe.golden.turns[probe.turns].action
    distance = action_distance(probe.proposed, expert)
    return bool(probe.proposed) and probe.proposed != expert and 1.0 - distance < similar


def deviates(proposed: float, before: float, won: bool, rule: Rule, delta: float) -> bool:
    """The deviation test (eq. 5) of a step of value ``proposed`` after one of value ``before``.

    ``paper``: proposed - before < delta. ``code``: it is not more, and the explored episode was not
    won (``won``).
    """
    if rule == "paper":
        return proposed - before < delta
    return proposed <= before and not won


def own_successes(probes: Iterable[Probe], within: float) -> list[Probe]:
    """Those of the student's successes that are trained (D_e): its own from the first turn on, as
    in the code, and less than ``within`` away from the expert's way."""
    return [
        probe
        for probe in probes
        if probe.turns == 0 and probe.explored.success and probe.distance < within
    ]


def expert_wholes(probes: Iterable[Probe], gap: float) -> list[Probe]:
    """Tasks whose whole expert's way is worth learning again (D_s): the episode that was the
    student's from the first turn on got less reward by more than ``gap``."""
    return [
        probe
        for probe in probes
        if probe.turns == 0 and probe.golden.reward - probe.explored.reward > gap
    ]


def expert_parts(probes: Iterable[Probe], values: Mapping[State, float], gap: float) -> list[Probe]:
    """Those after which the expert's way is worth learning (D_s): the explored episode ended with
    less reward, and its first step is worth less than the expert's by more than ``gap``."""
    return [
        probe
        for probe in probes
        if probe.golden.reward > probe.explored.reward
        and probe.after in values
        and value_of_expert(probe, values) - values[probe.after] > gap
    ]


def value_of_expert(probe: Probe, values: Mapping[State, float]) -> float:
    """The value of the expert's step: its last one has the reward that it brought."""
    if probe.turns + 1 == len(probe.golden.turns):
        return probe.golden.reward
    return values.get(probe.expert, -math.inf)


def pasted(probe: Probe) -> Trajectory:
    """What the original makes of a deviation: the expert's recorded way, observations and all,
    behind the student's step (without the thought that a teacher would put before it)."""
    turns = probe.explored.turns[: probe.turns + 1] + probe.golden.turns[probe.turns :]
    return dataclasses.replace(probe.golden, turns=turns)


def weight_of(kind: Kind, distance: float, scale: float) -> float:
    """Calibrations and experts' parts weigh more the further the student went astray, explored
    successes less (eq. 8-10): 1 + scale * distance, 1 - scale * distance, at least 0."""
    return max(0.0, 1.0 + (-scale if kind == "explored" else scale) * distance)
