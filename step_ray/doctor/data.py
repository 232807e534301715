"""Data folders: how many tasks, which content, and whether all speak the same action dialect.

ALFWorld's games say ``put X in/on Y`` or ``move X to Y``, by the version that made them. Both are
understood here, but what a model learned in one reads differently in the other, so figures from
one say nothing of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from step_ray.doctor.finding import Finding, broken, note, ok
from step_ray.envs import make_env
from step_ray.envs.base import EnvError, TextEnv
from step_ray.envs.fetched import RECORD, changed_files, fetched_folders
from step_ray.envs.terminal import splits_of
from step_ray.files import tree_hash
from step_ray.lineage import CONFIG, MANIFEST, RunError
from step_ray.manifest import StoreError
from step_ray.recipes.world import PACKAGED_MODEL

_SAMPLE = 3  # tasks of a split whose dialect is read


def check_fetched() -> Iterator[Finding]:
    """What ``step-ray data fetch`` brought: still as it was when it came?"""
    for name, folder in fetched_folders().items():
        changed = changed_files(folder)
        if changed:
            yield broken(
                "data",
                f"{folder}: not as it was fetched: {', '.join(changed[:3])}"
                + (f" and {len(changed) - 3} more" if len(changed) > 3 else ""),
                f"delete the folder, then: step-ray data fetch {name}",
            )
        else:
            yield ok("data", f"{folder}: as it was fetched")


def check_data(
    name: str,
    data: Path | None,
    options: Mapping[str, Any],
    run: Path | None = None,
    model: Path | None = None,
) -> Iterator[Finding]:
    """Tasks of every split, the folder's checksum, and dialects: of the data, of the run that
    these data are to continue, and of the run that the student's ``model`` comes from."""
    try:
        env = make_env(name, data, **options)
    except EnvError as error:
        remedy = "correct it in the section env; env.data is the folder of official files, or null"
        yield broken("data", str(error), remedy)
        return
    try:
        counts, dialects = _look(env)
    except EnvError as error:
        yield broken("data", str(error), "repair the data folder, or use null for built-in data")
        return
    finally:
        env.close()
    where = data or "embedded"
    yield ok("data", f"{name} ({where}): " + ", ".join(f"{s} {n}" for s, n in counts.items()))
    if data is not None:
        yield ok("data", f"{data}: sha256 of all names and contents {tree_hash(data, [RECORD])}")
    yield from compare(dialects, learned(run) if run else {}, learned_by(model) if model else {})


def _look(env: TextEnv) -> tuple[dict[str, int], dict[str, set[str]]]:
    counts: dict[str, int] = {}
    dialects: dict[str, set[str]] = {}
    for split in splits_of(env):
        try:
            tasks = env.tasks(split)
        except EnvError:  # an official release may lack a split; one that is needed is told of
            continue
        counts[split] = len(tasks)
        for task in tasks[:: max(1, len(tasks) // _SAMPLE)][:_SAMPLE]:
            env.reset(task)
            dialects.setdefault(split, set()).add(env.build().dialect)
    if not counts:
        raise EnvError(f"{env.name}: no split can be listed")
    return counts, dialects


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / CONFIG).is_file() and (folder / MANIFEST).is_file()


def learned(run: Path) -> dict[str, set[str]]:
    """Stage -> dialects of the trajectories that a run has published; {} if it is no run."""
    from step_ray import store

    if not is_run(run):
        return {}
    found: dict[str, set[str]] = {}
    for stage in ("golden", "reflected"):
        if (run / stage / "manifest.json").is_file():
            rows = store.read_rows(run / stage, ["provenance"])
            found[stage] = {row["provenance"]["dialect"] for row in rows} - {""}
    return found


def learned_by(model: Path) -> dict[str, set[str]]:
    """What a model was trained on, if its folder lies in a run (or is the packaged one)."""
    if model == PACKAGED_MODEL:
        return {"pre-training": {"move"}}  # aimless play in generated games
    runs = (folder for folder in model.expanduser().absolute().parents if is_run(folder))
    return learned(next(runs, model))


def compare(
    data: Mapping[str, set[str]],
    run: Mapping[str, set[str]],
    model: Mapping[str, set[str]] = MappingProxyType({}),
) -> Iterator[Finding]:
    """Data against data, against what the run holds, against what the model has learned."""
    spoken = set().union(*data.values()) if data else set()
    if len(spoken) > 1:
        each = ", ".join(f"{split}: {'/'.join(sorted(words))}" for split, words in data.items())
        yield broken(
            "dialect",
            f"the data folder mixes action dialects ({each})",
            "use games of one release in all splits",
        )
    elif spoken:
        yield ok("dialect", f"all sampled tasks speak {min(spoken)!r}")
    for stage, words in run.items():
        if words and spoken and words != spoken:
            yield broken(
                "dialect",
                f"the run's {stage} trajectories speak {'/'.join(sorted(words))}, the data "
                f"{'/'.join(sorted(spoken))}: a model that learned one is tested in the other",
                "use the data that the run was begun with, or another output folder",
            )
    for stage, words in model.items():
        if words and spoken and words != spoken:
            yield note(
                "dialect",
                f"the student's {stage} speaks {'/'.join(sorted(words))}, the data "
                f"{'/'.join(sorted(spoken))}: both are understood, but it has to learn the other",
                "expect a worse start, or use data of the same dialect",
            )


def check_run_readable(run: Path) -> Iterator[Finding]:
    """Whether what a run has published can be read; says nothing if there is no run."""
    try:
        stages = learned(run)
    except (RunError, StoreError) as error:
        yield broken("run", str(error), f"step-ray verify {run} says more")
        return
    if stages:
        yield note("run", f"{run} holds {', '.join(stages)}; the same command continues it")
