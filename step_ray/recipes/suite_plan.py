"""What the runs of a suite are going to share, told before anything runs.

A stage's real fingerprint is known once the stages before it are done. Here a stage is known by all
settings that it and the stages before it depend on: stages with the same key will be the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from step_ray.config import RunConfig
from step_ray.config_suite import Cell
from step_ray.config_transfer import EVALUATION
from step_ray.lineage import stage_records
from step_ray.recipes.plan import stage_names
from step_ray.run import RESULTS
from step_ray.training.masks import verdict_weights
from step_ray.trajectory import content_hash

_TASKS = ("env", "evaluation.splits", "seed")
_MODEL = ("student.model", "student.adapter", "seed")
_PLAY = ("env", "student", "seed")
# Kind of stage (its name without a number) -> the settings that it depends on by itself.
_READS: dict[str, tuple[str, ...]] = {
    "golden": (*_TASKS, "golden.max_steps"),
    "base": ("golden.fraction", *_MODEL),
    "golden_only": _MODEL,
    "golden_same": _MODEL,
    "reflected": (*_PLAY, "synthesis", "teacher"),
    "step": ("training.sequential", *_MODEL),
    "pairs": ("eto.extra_turns",),
    "eto": ("eto",),
    "valued": ("steca",),
    "calibrated": ("steca", "teacher"),
    "chosen": ("steca",),
    "steca": ("steca",),
}
_READS_BY_RECIPE: dict[tuple[str, str], tuple[str, ...]] = {
    ("explored", "eto"): (*_PLAY, "eto.rollouts", "eto.temperature"),
    ("explored", "steca"): (*_PLAY, "steca.temperature", "steca.tasks"),
}
_CLEAN = ("base", "golden_only", "golden_same")  # trained on experts' turns alone
_TRAINED = (*_CLEAN, "step", "eto", "steca")


def stage_keys(config: RunConfig) -> dict[str, str]:
    """Stage -> key, in the order of the run. Stages of one name with equal keys will be the same;
    others will differ, unless their data leave nothing that their settings concern."""
    keys: dict[str, str] = {}
    before = ""
    whole = config.identity()
    for name in stage_names(config):
        if name.startswith(EVALUATION):  # of all students
            how = [
                whole["evaluation"],
                whole["student"],
                whole.get("transfer"),
                list(keys.values()),
            ]
            keys[name] = content_hash([name, how], 16)
            continue
        kind = re.sub(r"_\d+$", "", name)
        fields = _READS.get(kind) or _READS_BY_RECIPE[kind, config.recipe]
        settings: dict[str, Any] = {field: _at(whole, field) for field in fields}
        if kind in _TRAINED:
            settings["training"] = _training(config, clean=kind in _CLEAN)
        if kind == "reflected" and name != kind:  # a later round
            settings["revisit"] = _at(whole, "step.revisit")
        # Nothing is made of STeP's rivals.
        aside = kind == "golden_same" or (kind == "golden_only" and config.recipe == "step")
        source = keys["golden"] if kind == "golden_only" else before
        if kind == "golden_same":
            source = content_hash([key for name, key in keys.items() if "reflected" in name], 16)
        keys[name] = content_hash([name, source, settings], 16)
        before = before if aside else keys[name]
    return keys


def overview(cells: Sequence[Cell]) -> str:
    """Every run in a line or two: what of it is there, what it will make, and what another run of
    the suite makes for it."""
    makers: dict[tuple[str, str], str] = {}
    lines, total, shared = [], 0, 0
    for cell in cells:
        own: list[str] = []
        given: list[str] = []
        for name, key in stage_keys(cell.config).items():
            maker = makers.setdefault((name, key), cell.method)
            (own if maker == cell.method else given).append(name)
        total, shared = total + len(own) + len(given), shared + len(given)
        lines.append(
            f"{cell.label}: {_state(cell)}\n"
            f"    makes  {', '.join(own)}" + (f"\n    shares {', '.join(given)}" if given else "")
        )
    head = f"{len(cells)} runs of {total} stages, {shared} of which another run makes"
    return "\n".join([head, *lines])


def _state(cell: Cell) -> str:
    folder = cell.config.output
    if (folder / RESULTS).exists():
        return f"finished, {folder}"
    done = [record["name"] for record in stage_records(folder) if record["status"] == "done"]
    if not done:
        return f"not begun, {folder}"
    return f"begun ({', '.join(done)} done), {folder}"


def _training(config: RunConfig, clean: bool) -> dict[str, Any]:
    settings = dict(config.identity()["training"])
    del settings["sequential"]
    if clean:
        # Trained whole where the mask leaves nothing: see mask_of in recipes/stages.py.
        settings["mask"] = verdict_weights(config.training.trainer().mask)["correct"] or 1.0
    return settings


def _at(values: dict[str, Any], field: str) -> Any:
    found: Any = values
    for name in field.split("."):
        found = (found or {}).get(name)
    return found
