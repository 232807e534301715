"""What a page says, collected from a run folder into plain values.

Everything is optional: a run may be unfinished, of another recipe, or damaged. What is missing is
left empty and what cannot be read becomes a line of ``problems``; the page is made all the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from step_ray.lineage import CONFIG, MANIFEST, RunError
from step_ray.run import RESULTS

FOLDER = "report"  # of the page, in a run
AUDIT = "audit.json"  # in it, what step-ray audit found
METRICS = "metrics.jsonl"
MAX_POINTS = 300  # of a curve: more than a screen can show apart


@dataclass(frozen=True, slots=True)
class Curve:
    """One training's loss; ``points`` are (step, loss), averaged to at most ``MAX_POINTS``."""

    stage: str
    points: list[tuple[float, float]]
    steps: int
    final_loss: float
    tokens_per_second: float | None
    trained_tokens_per_second: float | None


@dataclass(slots=True)
class RunData:
    """Everything but the trajectories."""

    name: str
    config: dict[str, Any]
    manifest: dict[str, Any]
    results: dict[str, Any]
    curves: list[Curve]
    path: Path
    audit: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    others: list[RunData] = field(default_factory=list)
    """Runs that it is compared with."""

    @property
    def stages(self) -> list[dict[str, Any]]:
        """Records of the stages, in the order in which they were begun."""
        records = [r for r in dictionary(self.manifest.get("stages")).values() if _is(r)]
        return sorted(records, key=lambda record: number(record.get("order")) or 0.0)

    @property
    def students(self) -> list[dict[str, Any]]:
        """Rows of ``results.json``: a student on a split."""
        rows = self.results.get("students")
        return [row for row in rows if _is(row)] if isinstance(rows, list) else []

    @property
    def synthesis(self) -> dict[str, Any]:
        return dictionary(self.results.get("synthesis"))

    @property
    def student(self) -> Path | None:
        """The model of the recipe's last training, of STeP's last round if there is one."""
        models: dict[str, Path] = {}
        for record in self.stages:
            output = dictionary(dictionary(record.get("outputs")).get("model"))
            if record.get("status") == "done" and isinstance(output.get("path"), str):
                models[str(record.get("name"))] = self.path / output["path"]
        rounds = [model for name, model in models.items() if name.startswith("step")]
        return next(reversed(rounds or list(models.values())), None)

    @property
    def seconds(self) -> dict[str, dict[str, float]]:
        """Stage -> phase -> seconds, "total" among the phases; from the manifest if need be."""
        given = dictionary(self.results.get("seconds"))
        if not given:
            given = {
                str(record.get("name")): {
                    "total": record.get("seconds"),
                    **dictionary(record.get("seconds_by_phase")),
                }
                for record in self.stages
            }
        return {
            stage: {phase: value for phase, value in _numbers(phases) if value >= 0}
            for stage, phases in given.items()
        }


def collect(path: Path) -> RunData:
    """Reads a run folder. Raises :class:`RunError` if it holds none of a run's files."""
    names = (CONFIG, MANIFEST, RESULTS)
    if not any((path / name).is_file() for name in names):
        raise RunError(f"{path}: not a run folder (no {' or '.join(names)}); check the path")
    problems: list[str] = []
    config, manifest, results = (_read(path / name, problems) for name in names)
    return RunData(
        name=str(config.get("name") or path.name),
        config=config,
        manifest=manifest,
        results=results,
        curves=list(_curves(path, manifest, problems)),
        path=path,
        audit=_read(path / FOLDER / AUDIT, problems),
        problems=problems,
    )


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def dictionary(value: Any) -> dict[str, Any]:
    """The value if it is a dictionary, else an empty one."""
    return value if isinstance(value, dict) else {}


def interval(figure: Any) -> tuple[float, float, float] | None:
    """(value, low, high) of a figure of ``results.json``, or None."""
    parts = [number(dictionary(figure).get(name)) for name in ("value", "low", "high")]
    value, low, high = parts
    return None if value is None or low is None or high is None else (value, low, high)


def _is(value: Any) -> bool:
    return isinstance(value, dict)


def _numbers(values: Any) -> Iterator[tuple[str, float]]:
    for key, value in dictionary(values).items():
        parsed = number(value)
        if parsed is not None:
            yield str(key), parsed


def _read(path: Path, problems: list[str]) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"{path.name}: cannot be read ({error})")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{path.name}: not a JSON object")
        return {}
    return value


def _curves(path: Path, manifest: dict[str, Any], problems: list[str]) -> Iterator[Curve]:
    stages = dictionary(manifest.get("stages"))
    order = {name: number(dictionary(record).get("order")) for name, record in stages.items()}
    found = []
    for file in path.glob(f"*/**/{METRICS}"):
        parts = file.relative_to(path).parts[:-1]
        if parts[0] not in ("stale", "report"):
            found.append((order.get(parts[0]) or math.inf, " / ".join(parts), file))
    for _, stage, file in sorted(found):
        try:
            curve = _curve(stage, file)
        except OSError as error:
            problems.append(f"{stage}/{METRICS}: cannot be read ({error})")
            continue
        if curve is not None:
            yield curve


def _curve(stage: str, file: Path) -> Curve | None:
    losses: dict[float, float] = {}
    speeds: dict[str, list[float]] = {"tokens_per_second": [], "trained_tokens_per_second": []}
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = dictionary(json.loads(line))
            except ValueError:
                continue  # the last line of an interrupted training
            step, loss = number(row.get("step")), number(row.get("loss"))
            if step is None or loss is None:
                continue
            losses[step] = loss  # a resumed training writes some steps again
            for name, values in speeds.items():
                value = number(row.get(name))
                if value is not None:
                    values.append(value)
    if not losses:
        return None
    points = sorted(losses.items())
    tail = [loss for _, loss in points[-max(1, len(points) // 20) :]]
    return Curve(
        stage,
        _thin(points),
        int(points[-1][0]),
        math.fsum(tail) / len(tail),
        _median(speeds["tokens_per_second"]),
        _median(speeds["trained_tokens_per_second"]),
    )


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    size = -(-len(points) // MAX_POINTS)
    buckets = (points[start : start + size] for start in range(0, len(points), size))
    return [
        (
            math.fsum(x for x, _ in bucket) / len(bucket),
            math.fsum(y for _, y in bucket) / len(bucket),
        )
        for bucket in buckets
    ]


def _median(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None
