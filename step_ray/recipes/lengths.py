"""How long episodes are, for an estimate: turns and tokens (bytes / 4) by task type.

A trajectory has head + each x turns tokens. That line and the turns of each type are measured on
the packaged experts. With official data of all task types a run is of ETO's scale: the line is
stretched so that golden trajectories have the mean length of ETO's published ones. WebShop has one
length, which is ETO's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from step_ray.config_env import EnvConfig, ScienceWorldConfig
from step_ray.envs.base import Task
from step_ray.envs.scienceworld.tasks import VARIATIONS, step_limit

# (head, each) and turns by type: tests/benchmarks/lengths.py alfworld 100, scienceworld 5 and
# webshop 100; lifespan-longest-lived, -shortest-lived and find-non-living-thing by the 274 golden
# trajectories of jobs/configs/compare_scienceworld.yaml. ScienceWorld's line goes through the means
# of the types; mendelian-genetics, which takes the expert many minutes, is not measured.
_LINES = {"alfworld": (137.0, 55.0), "scienceworld": (703.0, 61.0), "webshop": (97.0, 236.0)}
TURNS = {
    "look_at_obj_in_light": 5.9,
    "pick_and_place_simple": 5.7,
    "pick_clean_then_place_in_recep": 9.3,
    "pick_cool_then_place_in_recep": 9.7,
    "pick_heat_then_place_in_recep": 9.5,
    "pick_two_obj_and_place": 11.7,
    "boil": 36.4,
    "melt": 25.2,
    "freeze": 20.0,
    "change-the-state-of-matter-of": 17.4,
    "use-thermometer": 14.4,
    "measure-melting-point-known-substance": 30.4,
    "measure-melting-point-unknown-substance": 38.0,
    "power-component": 8.2,
    "power-component-renewable-vs-nonrenewable-energy": 21.8,
    "test-conductivity": 21.6,
    "test-conductivity-of-unknown-substances": 20.2,
    "find-living-thing": 7.8,
    "find-non-living-thing": 4.9,
    "find-plant": 8.0,
    "find-animal": 7.8,
    "grow-plant": 27.8,
    "grow-fruit": 66.0,
    "chemistry-mix": 22.2,
    "chemistry-mix-paint-secondary-color": 12.8,
    "chemistry-mix-paint-tertiary-color": 17.8,
    "lifespan-longest-lived": 3.8,
    "lifespan-shortest-lived": 3.8,
    "lifespan-longest-lived-then-shortest-lived": 6.4,
    "identify-life-stages-1": 34.4,
    "identify-life-stages-2": 12.8,
    "inclined-plane-determine-angle": 104.8,
    "inclined-plane-friction-named-surfaces": 60.5,
    "inclined-plane-friction-unnamed-surfaces": 128.8,
}
# Tokens and turns of a golden trajectory: ETO's files hold 18.5, 10.7 and 13.4 MB of 3,119, 1,824
# and 1,483 trajectories; turns are our estimate.
_ETO = {"alfworld": (1480, 10), "webshop": (1470, 5), "scienceworld": (2260, 14)}
_OTHER = (1500, 10)
# A student that fails goes on to its limit. In compare.yaml (compare_scienceworld.yaml), where an
# expert takes 6.1 (4.4) turns, unaided episodes of tiny students have 19 to 27 of 30 turns (12.7 to
# 13.9 of 15), and 49 to 88 % (76 to 89 %) fail.
_LONGER, _FAIL = 1.5, 0.5


@dataclass(frozen=True, slots=True)
class Lengths:
    """Mean turns of a golden trajectory (``golden``) and of an ``unaided`` episode of a student,
    which may have ``limit``; tokens by turns, at most ``context``."""

    head: float
    each: float
    golden: float
    unaided: float
    limit: float
    context: int

    def tokens(self, turns: float) -> float:
        """Of a trajectory of so many turns."""
        return min(self.head + self.each * turns, self.context)


def lengths(
    env: EnvConfig, tasks: Sequence[Task], max_steps: int, golden_steps: int, context: int
) -> Lengths:
    """The lengths in ``tasks``, where an episode may have ``max_steps`` turns, a golden trajectory
    ``golden_steps`` and a chat ``context`` tokens."""
    published = env.data is not None and getattr(env, "task_types", None) is None
    tokens, usual = _ETO.get(env.name, _OTHER)
    head, each = _LINES.get(env.name, (0.0, 1.0))
    known = TURNS
    if published or env.name not in _LINES or env.name == "webshop":
        stretch = tokens / (head + each * usual)
        head, each, known = stretch * head, stretch * each, {}
    kinds = Counter(task.type for task in tasks)
    total = max(kinds.total(), 1)
    golden = unaided = limits = 0.0
    for kind, count in kinds.items():
        turns, limit = known.get(kind, usual), _limit(env, kind, max_steps)
        turns = min(turns, golden_steps)
        golden += turns * count / total
        unaided += ((1 - _FAIL) * min(_LONGER * turns, limit) + _FAIL * limit) * count / total
        limits += limit * count / total
    return Lengths(head, each, golden, unaided, limits, context)


def _limit(env: EnvConfig, kind: str, max_steps: int) -> float:
    """The turns that an episode may have; of a type that is not known, the mean of all types."""
    if not isinstance(env, ScienceWorldConfig):
        return max_steps
    found = [step_limit(name, env.step_limits) for name in ([kind] if kind else VARIATIONS)]
    given = [limit for limit in found if limit is not None]
    return min(max_steps, mean(given)) if given else max_steps
