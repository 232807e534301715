"""``step-ray teacher-score``: a teacher against the expert, on the episodes of a run."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from step_ray import config_text, files, store
from step_ray.config import RunConfig, parse_config
from step_ray.config_teacher import KnownTeacherConfig, SelfTeacherConfig
from step_ray.lineage import CONFIG, RunError, read_json
from step_ray.models.fingerprint import model_fingerprint
from step_ray.models.make import check_engines
from step_ray.patience import Patience
from step_ray.progress import Progress
from step_ray.recipes.world import open_world, original_model
from step_ray.recorded import config_of
from step_ray.teacher.make import make_teacher
from step_ray.teacher.score import TurnScore, score, summary
from step_ray.trajectory import Trajectory

SCORES = "teacher-scores"


def score_teacher(
    run: Path,
    overrides: Sequence[str],
    progress: Progress,
    *,
    stage: str = "reflected",
    episodes: int | None = None,
) -> dict[str, Any]:
    """Scores the teacher of the run's config, with ``overrides`` such as ``teacher.type=llm``, on
    the student turns of ``stage``; at most ``episodes`` of them, drawn at random.

    Returns the summary with the teacher's identity and what it cost, and writes it to
    ``teacher-scores/`` of the run. Raises RunError if ``run`` is none, ConfigError, StoreError,
    EnvError, ModelError or TeacherError for what is wrong with its parts.
    """
    config_of(run)  # said of the run, and not of the overrides
    raw = {**read_json(run / CONFIG), "output": str(run)}
    found = config_text.apply_overrides(raw, overrides)
    config = parse_config(raw, f"{run / CONFIG} with overrides", found)
    trajectories = list(store.read(run / stage, kept_only=False))
    if episodes is not None and episodes < len(trajectories):
        trajectories = random.Random(config.seed).sample(trajectories, episodes)
    world = open_world(config)
    asked = _known(config, run, trajectories)
    teacher = make_teacher(asked, config.env.name, run)
    counts = getattr(teacher, "counts", dict)
    with (
        _model(config, asked, run, progress),
        progress.stage("teacher-score", len(trajectories), "episodes") as bar,
    ):

        def show(made: list[TurnScore]) -> None:
            bar.advance(1)
            bar.set(**counts())

        scores = asyncio.run(score(trajectories, world.make, teacher, on_episode=show))
    result: Mapping[str, Any] = {
        "teacher": teacher.fingerprint,
        "prompt_version": teacher.prompt_version,
        "stage": stage,
        "episodes": len(trajectories),
        **summary(scores),
        "counts": dict(counts()),
    }
    folder = run / SCORES
    folder.mkdir(exist_ok=True)
    files.write_json_atomic(folder / f"{teacher.fingerprint[:16]}.json", dict(result))
    return dict(result)


def _known(config: RunConfig, run: Path, played: Sequence[Trajectory]) -> KnownTeacherConfig:
    """The teacher; one that is the student itself is the one who ``played``."""
    from step_ray.recipes.teachers import teacher_for

    if not isinstance(config.teacher, SelfTeacherConfig):
        return config.teacher
    models = [folder for folder in sorted(run.glob("*/model")) if folder.is_dir()]
    agents = {model_fingerprint(folder): folder for folder in models}
    agent = agents.get(played[0].provenance.student) if played else None
    first = [folder for folder in models if folder.parent.name in ("merged", "original")]
    original = next(iter(first), None) or original_model(config)
    if agent is None or original is None:
        raise RunError(f"{run}: it does not hold the model that played -> name another teacher")
    return teacher_for(config, agent, original)


@contextlib.contextmanager
def _model(
    config: RunConfig, teacher: KnownTeacherConfig, run: Path, progress: Progress
) -> Iterator[None]:
    """The teacher's model on the cluster, if it is served here; anything else needs no cluster."""
    if getattr(getattr(teacher, "model", None), "backend", "remote") == "remote":
        yield
        return
    from step_ray.recipes.cluster import cluster
    from step_ray.recipes.teachers import teacher_model

    check_engines(config)
    patience = Patience(config.ray.wait_seconds, progress.note)
    with cluster(config.ray), teacher_model(teacher, run, patience=patience):
        yield
