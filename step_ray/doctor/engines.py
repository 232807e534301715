"""Each environment proves itself: one real episode, played by its expert, in its own process."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from step_ray.doctor.finding import Finding, broken, note, ok
from step_ray.envs.listing import install_of, list_environments

# The cheapest task of each; all of it is embedded, nothing is downloaded.
SMALLEST: dict[str, dict[str, Any]] = {
    "alfworld": {
        "types": ("pick_and_place_simple",),
        "games": {"train": 2, "valid_seen": 0, "valid_unseen": 0},
    },
    "scienceworld": {"types": ("lifespan-longest-lived",), "variations": 1},
    "webshop": {"products": 200},
}
DEADLINE = 180.0  # seconds; a cold Java on a busy machine takes 20


def check_engine(name: str, needed: bool = False, deadline: float = DEADLINE) -> Iterator[Finding]:
    """Plays one episode; an engine that crashes or hangs is a finding and not the end of this.

    An environment that is not installed is broken only if it is ``needed``.
    """
    missing = {env.name: env for env in list_environments() if env.missing}
    if name in missing:
        says = f"not installed: {', '.join(missing[name].missing)} is missing"
        make = broken if needed else note
        yield make(name, says, missing[name].install)
        return
    command = [sys.executable, "-m", "step_ray.doctor.engines", name]
    remedy = f"python -m step_ray.doctor.engines {name} shows the whole error; " + _install(name)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline)
    except subprocess.TimeoutExpired:
        yield broken(name, f"an episode did not end within {deadline:.0f} s", remedy)
        return
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        yield broken(name, last[:500], remedy)
        return
    played = json.loads(done.stdout.splitlines()[-1])
    says = f"{played['engine']}: {played['outcome']} in {played['turns']} turns of the expert"
    if played["outcome"] == "success":
        yield ok(name, says)
    else:
        yield broken(name, f"{says}: {played['detail']}", remedy)


def check_java() -> Iterator[Finding]:
    """The Java that ScienceWorld would start."""
    if importlib.util.find_spec("scienceworld") is None:
        yield note("java", "not looked for, as only ScienceWorld needs it")
        return
    from step_ray.envs.base import EnvError
    from step_ray.envs.scienceworld.jvm import find_java, java_version

    remedy = 'pip install "step-ray[scienceworld]" brings a Java'
    try:
        java = find_java()
    except EnvError as error:
        yield broken("java", str(error), remedy)
        return
    if version := java_version(java):
        yield ok("java", f"Java {version} ({java})")
    else:
        yield broken("java", f"{java} does not start", remedy)


def _install(name: str) -> str:
    again = install_of(name).replace("pip install", "pip install --force-reinstall")
    return again or "install the package that it comes from again"


def play_one(name: str) -> dict[str, Any]:
    """One episode in this process, as JSON-like values."""
    from step_ray.envs import make_env
    from step_ray.synthesis.golden import golden_episode
    from step_ray.synthesis.spec import EpisodeSpec

    env = make_env(name, **SMALLEST.get(name, {}))
    try:
        task = env.tasks("train")[0]
        spec = EpisodeSpec(name, "doctor", task.split, task.id, task.type, seed=0)
        played = golden_episode(spec, env, task)
    finally:
        env.close()
    return {
        "engine": played.provenance.env_build,
        "outcome": played.outcome,
        "turns": len(played.turns),
        "detail": played.detail,
    }


if __name__ == "__main__":
    print(json.dumps(play_one(sys.argv[1])))
