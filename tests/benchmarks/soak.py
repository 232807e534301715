"""``make soak``: 10,000 monitored episodes on two cores, watched from outside.

Prints one JSON object as its last line and writes it to ``docs/benchmarks/soak.json``: memory of
the driver and of all workers per 1,000 episodes (a straight line through what they hold of their
own from the 1,000th episode on), the cost of an episode around the 10,000th over that around the
1,000th, and how many processes were left two minutes after three short runs that ended by
themselves, by SIGINT and by SIGKILL, and when the last was gone (Ray's own agents try for a minute
to report that their node has died). The student is scripted and errs at each tenth turn, the
teacher is the expert, the environment ALFWorld. It fails where the limits below are not kept. About
five minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from heading import committed, heading, publish
from measure import growth, marked, private_mb, rounded
from synthesis_sides import Recording, pipeline, record, specs

from step_ray import store
from step_ray.config import RayConfig
from step_ray.recipes.cluster import cluster
from step_ray.synthesis.pipeline import Pool

_GAMES = {"train": 64, "valid_seen": 0, "valid_unseen": 0}
_MARK = "STEP_RAY_SOAK"  # in the environment of every process of a run
_LIMITS = {"mb_per_1000_episodes": 1.0, "cost_growth": 1.1, "orphans": 0.0}


def main() -> None:
    arguments = _arguments()
    if arguments.drive:
        _drive(arguments.drive, arguments.episodes, arguments.workers)
        return
    with tempfile.TemporaryDirectory(prefix="step-ray-soak-") as scratch:
        recording = record("alfworld", {"games": _GAMES}, 64)
        recording.save(Path(scratch) / "recording.json")
        result: dict[str, Any] = {
            **heading("soak", "make soak"),
            "episodes": arguments.episodes,
            "workers": arguments.workers,
            **_soak(Path(scratch), arguments.episodes, arguments.workers),
        }
        ends = {"by_itself": None, "sigint": signal.SIGINT, "sigkill": signal.SIGKILL}
        left = {name: _orphans(Path(scratch), name, end) for name, end in ends.items()}
        result["orphans"] = {name: count for name, (count, _) in left.items()}
        result["gone_after_seconds"] = {name: seconds for name, (_, seconds) in left.items()}
    found = {
        "mb_per_1000_episodes": max(result["mb_per_1000_episodes"].values()),
        "cost_growth": result["cost_growth"],
        "orphans": float(sum(result["orphans"].values())),
    }
    result["missed"] = [name for name, limit in _LIMITS.items() if found[name] > limit]
    publish(result, committed("soak") if arguments.episodes == 10_000 else None)
    sys.exit(1 if result["missed"] else 0)


def _drive(folder: Path, episodes: int, workers: int) -> None:
    """The run itself, in a process of its own; a line for each look at its progress."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job begins without
    saved = folder.parent / "recording.json"
    recording = Recording.load(saved)
    planned = specs(recording, episodes, monitored=True)
    pool = Pool(workers=workers)
    with (
        open(folder.with_suffix(".progress"), "a", encoding="utf-8") as file,
        cluster(RayConfig(num_cpus=2, object_store_mb=200)),
    ):

        def watch(done: int) -> None:
            print(time.monotonic(), done, file=file, flush=True)

        pipeline(recording, saved, planned, pool, errors=0.1, folder=folder, watch=watch)


def _start(folder: Path, episodes: int, workers: int) -> tuple[subprocess.Popen[bytes], str]:
    mark = secrets.token_hex(8)
    command = [sys.executable, __file__, "--drive", str(folder), "--episodes", str(episodes)]
    environment = {**os.environ, _MARK: mark, "RAY_AUTH_MODE": "disabled"}
    process = subprocess.Popen(
        [*command, "--workers", str(workers)],
        stdout=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # an interrupt is for the driver alone, as from a scheduler
    )
    return process, mark


def _soak(scratch: Path, episodes: int, workers: int) -> dict[str, Any]:
    folder = scratch / "soak"
    begun = time.monotonic()
    process, _ = _start(folder, episodes, workers)
    looks: list[tuple[int, float, dict[str, float]]] = []  # episodes, moment, MB
    while process.poll() is None:
        time.sleep(0.5)
        if (line := _last(folder)) and (not looks or line[1] > looks[-1][0]):
            looks.append((line[1], line[0], private_mb(process.pid)))
    if process.returncode:
        raise SystemExit(f"the run failed with exit status {process.returncode}")
    seconds = time.monotonic() - begun
    assert store.verify_store(folder) == []
    tenth = episodes / 10
    settled = [look for look in looks if look[0] >= tenth]
    early = [(done, at) for done, at, _ in looks if 0.5 * tenth <= done <= 1.5 * tenth]
    late = [(done, at) for done, at, _ in looks if done >= episodes - tenth]
    if min(map(len, (early, late))) < 2:
        raise SystemExit("too few looks at the run: give it more episodes")
    pace = [growth(part) for part in (early, late)]
    return {
        "published": store.read_manifest(folder).rows,
        "seconds": rounded(seconds),
        "ms_per_episode_at_a_tenth": rounded(1e3 * pace[0]),
        "ms_per_episode_at_the_end": rounded(1e3 * pace[1]),
        "cost_growth": rounded(pace[1] / pace[0]),
        "mb_per_1000_episodes": {
            role: rounded(1e3 * growth([(done, mb[role]) for done, _, mb in settled]))
            for role in ("driver", "workers")
        },
        "mb": {
            role: [rounded(look[2][role]) for look in (settled[0], settled[-1])]
            for role in ("driver", "workers")
        },
    }


def _last(folder: Path) -> tuple[float, int] | None:
    """The last look of the driver at its progress: moment and number of episodes."""
    try:
        lines = folder.with_suffix(".progress").read_text().rpartition("\n")[0].splitlines()
        moment, done = lines[-1].split()
    except (FileNotFoundError, IndexError):
        return None
    return float(moment), int(done)


def _orphans(scratch: Path, name: str, end: signal.Signals | None) -> tuple[int, float]:
    """Processes that are left two minutes after a short run was ended so; the seconds from the
    signal, or from the driver's end, to the last one's."""
    process, mark = _start(scratch / name, 400 if end is None else 20_000, 2)
    if end is not None:
        while not ((line := _last(scratch / name)) and line[1] > 50):
            if process.poll() is not None:
                raise SystemExit(f"the run failed with exit status {process.returncode}")
            time.sleep(0.1)
        process.send_signal(end)
    else:
        process.wait()
    ended = time.monotonic()
    process.wait()
    while (left := marked(_MARK, mark)) and time.monotonic() < ended + 120:
        time.sleep(0.5)
    seconds = rounded(time.monotonic() - ended)
    for pid in left:
        print(f"left by {name}: {Path(f'/proc/{pid}/cmdline').read_text()}", file=sys.stderr)
    return len(left), seconds


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
