"""``make bench-synthesis``: what the pipeline costs beside the environments that it runs.

Prints one JSON object as its last line and writes it to ``docs/benchmarks/synthesis.json``. Both
sides take the same recorded actions in the same environments on the same cores, one environment for
each core, and ask at each step for the expert's turn and the judgement, as the expert teacher needs
them:

- bare: a process for each core, which plays one episode after the other, and keeps nothing.
- pipeline: everything from the plan to the published dataset: Ray Data, a worker for each core,
  the episode's loop, a student that answers at once from memory, the expert teacher, rows, Parquet,
  the publication with its checks. Nobody waits for a language model.

Rates are marginal: what further episodes take, from runs of two sizes; the bare processes play as
many as the small run has before their clock starts, so that both sides are as warm. What a run
costs however small it is stands apart as ``startup_seconds`` (``ray_seconds``, Ray's own start,
comes on top).
``efficiency`` is the rate of environment steps of the pipeline over the bare one in ScienceWorld,
whose original engine takes milliseconds a step, as engines do; the other environments, which are
ours and take microseconds, stand below with the microseconds that the pipeline adds to each step.
``growth_10x`` compares the pace late in a run with that when a tenth was done, and
``mb_per_1000_episodes`` is what the driver and the workers (all together) grow by meanwhile, both
in ALFWorld. ScienceWorld's runs are long, as a Java takes a hundred episodes to get warm. About
twelve minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from heading import committed, heading, publish
from measure import growth, private_mb, rounded
from synthesis_sides import Recording, pipeline, record, specs

from step_ray.config import RayConfig
from step_ray.machine import usable_cpus
from step_ray.recipes.cluster import cluster
from step_ray.synthesis.pipeline import Pool

# environment -> its options, recorded tasks, episodes of the small run and of the large one
_SIZES: dict[str, tuple[dict[str, Any], int, int, int]] = {
    "scienceworld": ({"variations": 1}, 12, 240, 720),
    "webshop": ({}, 64, 400, 2_000),
    "alfworld": ({"games": {"train": 64, "valid_seen": 0, "valid_unseen": 0}}, 64, 500, 5_000),
}


def main() -> None:
    arguments = _arguments()
    cores = usable_cpus()
    result: dict[str, Any] = {
        **heading("synthesis"),
        "cores": cores,
    }
    with tempfile.TemporaryDirectory(prefix="step-ray-bench-") as scratch:
        recorded = {}
        for name, (options, tasks, _, _) in _SIZES.items():
            recorded[name] = record(name, options, 4 if arguments.small else tasks)
        begun = time.perf_counter()
        with cluster(RayConfig(num_cpus=cores, object_store_mb=200)):
            result["ray_seconds"] = rounded(time.perf_counter() - begun)
            for name, recording in recorded.items():
                small, large = (4, 8) if arguments.small else _SIZES[name][2:]
                print(f"measuring {name} ...", file=sys.stderr, flush=True)
                result[name] = _measure(recording, Path(scratch), cores, small, large)
    result["efficiency"] = result["scienceworld"]["efficiency"]
    for key in ("startup_seconds", "growth_10x", "mb_per_1000_episodes"):
        result[key] = result["alfworld"][key]
    publish(result, None if arguments.small else committed("synthesis"))


def _measure(
    recording: Recording, scratch: Path, cores: int, small: int, large: int
) -> dict[str, Any]:
    """Both sides of one environment."""
    saved = recording.save(scratch / f"{recording.env}.json")
    per_episode = recording.steps_per_episode
    pool = Pool(workers=cores, block_size=16 if large > 1_000 else 2)
    run = {"recording": recording, "saved": saved, "pool": pool, "envs": 1}
    bare = [_bare(saved, cores, small, large)]
    first = pipeline(planned=specs(recording, small, True, seed=1), **run)
    with _Memory(every=large // 100) as memory:
        planned = specs(recording, large, True, seed=2)
        second = pipeline(planned=planned, watch=memory.look, **run)
    bare.append(_bare(saved, cores, small, large))
    marginal = (second - first) / (large - small)
    rate, bare_rate = per_episode / marginal, sum(bare) / len(bare)
    return {
        "efficiency": rounded(rate / bare_rate),
        "steps_per_second": rounded(rate),
        "bare_steps_per_second": rounded(bare_rate),
        "bare_steps_per_second_before_and_after": [rounded(each) for each in bare],
        "added_us_per_step": rounded(1e6 * cores * (1 / rate - 1 / bare_rate)),
        "ms_per_episode": rounded(1e3 * marginal),
        "steps_per_episode": rounded(per_episode),
        "episodes": [small, large],
        "seconds": [rounded(first), rounded(second)],
        "startup_seconds": rounded(first - small * marginal),
        "growth_10x": rounded(memory.growth_10x()),
        "mb_per_1000_episodes": {role: rounded(mb) for role, mb in memory.growth().items()},
    }


def _bare(saved: Path, cores: int, small: int, large: int) -> float:
    """Environment steps per second of a process for each core, side by side, between the ends of
    the small run and of the large one."""
    script = Path(__file__).with_name("synthesis_sides.py")
    sizes = [str(-(-episodes // cores)) for episodes in (small, large - small)]
    command = [sys.executable, str(script), str(saved), *sizes]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(cores)]
    rate = 0.0
    for process in running:
        said, _ = process.communicate()
        steps, seconds = said.split()[-2:]
        rate += int(steps) / float(seconds)
    return rate


class _Memory:
    """Looks at the clock and at the memory of driver and workers, which takes time itself, after
    ``every`` so many episodes."""

    def __init__(self, every: int) -> None:
        self._every = max(1, every)
        self._looks: list[tuple[int, float, dict[str, float]]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> _Memory:
        return self

    def __exit__(self, *_: object) -> None: ...

    def look(self, done: int) -> None:
        with self._lock:
            if done >= self._every + (self._looks[-1][0] if self._looks else 0):
                self._looks.append((done, time.perf_counter(), private_mb()))

    def growth(self) -> dict[str, float]:
        """MB per 1,000 episodes, once the first tenth is done; by role."""
        return {
            role: 1e3 * growth([(done, mb[role]) for done, _, mb in self._settled() if role in mb])
            for role in ("driver", "workers")
        }

    def growth_10x(self) -> float:
        """Seconds per episode of the last fifth of looks over those of the first fifth, from
        where a tenth of the episodes was done."""
        looks = self._settled()
        cut = max(2, len(looks) // 5)
        early, late = looks[:cut], looks[-cut:]
        pace = [growth([(done, at) for done, at, _ in part]) for part in (early, late)]
        return pace[1] / pace[0] if pace[0] else 0.0

    def _settled(self) -> list[tuple[int, float, dict[str, float]]]:
        last = self._looks[-1][0] if self._looks else 0
        return [look for look in self._looks if look[0] >= last / 10]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="only see that it works")
    return parser.parse_args()


if __name__ == "__main__":
    main()
