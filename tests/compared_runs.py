"""Small finished runs to compare, as recipes leave them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from step_ray.evaluation.statistics import results_of
from step_ray.publication import publish
from step_ray.run import Run
from step_ray.schema import to_row
from step_ray.trajectory import Provenance, Trajectory, Turn

CONFIG = {
    "output": "runs/x",
    "training": {"workers": 2, "threads_per_worker": 3, "use_gpu": True},
    "student": {"backend": "local"},
}


def episode(model: str, task: str, won: bool, data: str = "") -> Trajectory:
    turns = (Turn("", "look", "dark", valid=won), Turn("", "go", "out", reward=float(won)))
    return Trajectory(
        f"{model}-{task}", task, "corridor", "test", f"type {int(task) % 2}", "", "", turns,
        float(won), won, "success" if won else "step_limit",
        provenance=Provenance(student=model, data_hash=data),
    )  # fmt: skip


def make(
    path: Path,
    seed: int,
    students: dict[str, tuple[str, list[bool]]],
    data: str = "",
    config: Mapping[str, Any] = CONFIG,
) -> Path:
    """A run whose students (name -> model, wins) were trained one after the other."""
    with Run.open(path, config) as run:
        before = None
        for name in students:
            with run.stage(
                name, {"before": before} if before else {}, {"epochs": 2, "seed": seed}
            ) as stage:
                (stage.path / "model").mkdir()
                (stage.path / "model" / "w").write_text(name)
                stage.finish({"model": stage.path / "model", "tokens": 100, "trajectories": 10})
            before = stage
        names = {name: model for name, (model, _) in students.items()}
        with run.stage("evaluation", {"students": names}) as stage:
            played = [
                episode(model, str(task), won, data)
                for model, wins in students.values()
                for task, won in enumerate(wins)
            ]
            publish(stage.path, [to_row(one, {"x": one.id}) for one in played])
            stage.finish({"data": stage.path})
        rows = results_of(played, names, ["test"])
        run.write_results(
            {
                "students": [{**row, "train_trajectories": 10} for row in rows],
                "synthesis": {"error_kinds": {"loop": 2}},
            }
        )
    return path
