"""The end of every recipe: its students are evaluated, and what came of it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from step_ray import store
from step_ray.evaluation.statistics import results_of
from step_ray.lineage import stage_records
from step_ray.models.fingerprint import model_fingerprint
from step_ray.recipes.stages import evaluate, evaluate_elsewhere
from step_ray.recipes.workshop import Workshop
from step_ray.report.page import build_report
from step_ray.run import Stage

Until = Literal["synthesis", "training"]
"""What a run may end after: all data are published, or all students trained."""


def conclude(
    shop: Workshop, original: Path, trained: Mapping[str, Stage], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Evaluates the models of the stages ``trained`` (student -> stage), and the ``original`` one
    if the config asks for it; writes ``results.json``, with ``facts`` in it, and the report.

    Rows of other environments say so in ``transfer``, and before their split.
    """
    students = {name: stage.outputs["model"] for name, stage in trained.items()}
    if shop.config.evaluation.original:
        students = {"original": original, **students}
    names = {name: model_fingerprint(path) for name, path in students.items()}
    rows = _rows(evaluate(shop, students), names, shop.config.evaluation.splits)
    for name, there in shop.config.transfer.items():
        for row in _rows(evaluate_elsewhere(shop, name, students), names, there.splits):
            rows.append({**row, "split": f"{name}/{row['split']}", "transfer": name})
    trained_on = {name: stage.outputs["trajectories"] for name, stage in trained.items()}
    results = {
        "students": [
            {**row, "train_trajectories": trained_on.get(row["student"], 0)} for row in rows
        ],
        **facts,
        "models": asked_models(shop.run.path),
        "seconds": shop.run.seconds(),
    }
    shop.run.write_results(results)
    build_report(shop.run.path)
    return results


def _rows(tested: Stage, names: Mapping[str, str], splits: Sequence[str]) -> list[dict[str, Any]]:
    """The figures of an evaluation, by student (``names``: with its fingerprint) and split."""
    return results_of(list(store.read(tested.path, kept_only=False)), names, splits)


def asked_models(run: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Stage -> "student" or "teacher" -> what it was asked, what came from caches, what it cost.
    An expert teacher is no model and not in it."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for record in stage_records(run):
        for role in ("student", "teacher"):
            counts = record["outputs"].get(role, {}).get("value")
            if counts:
                found.setdefault(record["name"], {})[role] = counts
    return found
