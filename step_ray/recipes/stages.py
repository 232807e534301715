"""The stages that recipes are made of. Each is done once, resumed, or skipped (step_ray.run)."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from step_ray.config import RunConfig, StudentConfig
from step_ray.config_teacher import SelfTeacherConfig
from step_ray.config_transfer import EVALUATION, elsewhere
from step_ray.envs.base import EnvError, Task, TextEnv
from step_ray.models.base import Sampling
from step_ray.models.fingerprint import model_fingerprint
from step_ray.models.traffic import rates
from step_ray.publication import publish
from step_ray.react import to_messages
from step_ray.recipes.known import take_known
from step_ray.recipes.playing import pool_of, sampling_text, spec_of, worker_settings
from step_ray.recipes.students import Load, students_of
from step_ray.recipes.teachers import counts_of, teacher_for, teacher_of
from step_ray.recipes.workshop import Workshop
from step_ray.recipes.world import PACKAGED_MODEL, fingerprints, original_model
from step_ray.run import Stage
from step_ray.schema import SCHEMA, to_row
from step_ray.synthesis import raw
from step_ray.synthesis.filters import Filter, drop_reason
from step_ray.synthesis.golden import golden_episode
from step_ray.synthesis.pipeline import LOST, run_episodes, unfinished
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.teacher.base import Teacher
from step_ray.teacher.make import make_teacher
from step_ray.training.loop import train as train_model
from step_ray.training.masks import Weighted, verdict_weights
from step_ray.training.preferences import Pair
from step_ray.trajectory import Trajectory, Turn, Verdict

VOCABULARY = 4096  # of a tiny model made on the spot
GOLDEN = Filter(keep_clean=True)
EVERYTHING = Filter(10**9, 0.0, keep_clean=True, keep_unrecovered=True)
Host = Callable[[contextlib.ExitStack], tuple[Teacher, Load | None]]
EXPERT_ROWS = SCHEMA.append(raw.DISTURBED)
WRITTEN_EVERY = 10.0  # seconds of an expert's play that an interruption may cost


def golden(shop: Workshop) -> Stage:
    """Expert trajectories of all training tasks; those that the expert does not win are dropped.

    Raises EnvError if it wins none.
    """
    config, world = shop.config, shop.world
    settings = {"max_steps": config.golden.max_steps, "seed": config.seed}
    inputs = {"data": world.data, "tasks": [task.id for task in world.train]}
    with shop.run.stage("golden", inputs, settings) as stage:
        if skipped(shop, stage):
            return stage
        rows = _expert_rows(shop, stage)
        if all(row["drop_reason"] for row in rows):
            first = rows[0]
            raise EnvError(
                f"the expert won none of {len(rows)} tasks, so there is nothing to learn from; "
                f"{first['task']}: {first['detail'] or first['outcome']}"
            )
        publish(stage.path, rows, note=shop.progress.note)
        stage.finish({"data": stage.path})
    return stage


def _expert_rows(shop: Workshop, stage: Stage) -> list[dict[str, Any]]:
    """A row for each training task, in their order; those of an interrupted attempt are kept."""
    config, world = shop.config, shop.world
    most = config.golden.max_steps
    specs = [spec_of(world, task, seed=config.seed, max_steps=most) for task in world.train]
    order = {spec.id: number for number, spec in enumerate(specs)}
    left = unfinished(specs, stage.path, shop.progress.note)
    block = raw.Block(stage.path, list(order), EXPERT_ROWS, lambda rows: None, every=WRITTEN_EVERY)
    env: TextEnv | None = None
    with shop.progress.stage("golden", len(specs), "episodes") as bar:
        bar.set(completed=len(specs) - len(left))
        for spec in left:
            env = env or world.make()
            trajectory = golden_episode(spec, env, world.train[order[spec.id]])
            reason = drop_reason(trajectory, GOLDEN)
            lost = reason in LOST
            block.add({**to_row(trajectory, spec.to_dict(), reason), "disturbed": lost})
            counts = {f"dropped {reason}": 1} if reason else {}
            bar.advance(1, success=int(trajectory.success), **counts)
            if lost:
                env.close()
                env = None
        block.close()
    if env is not None:
        env.close()
    rows = raw.rows(raw.complete(stage.path), SCHEMA.names)
    return sorted((row for row in rows if row["id"] in order), key=lambda row: order[row["id"]])


def make_original(shop: Workshop, spoken: Sequence[Trajectory], source: Stage) -> Path:
    """The packaged tiny model with a vocabulary of the words that were ``spoken``, for environments
    that no model is packaged for."""
    inputs = {"golden": source, "model": model_fingerprint(PACKAGED_MODEL)}
    with shop.run.stage("original", inputs, {"vocabulary": VOCABULARY}) as stage:
        if not skipped(shop, stage):
            from step_ray.models.tiny import make_tokenizer, save
            from step_ray.models.vocabulary import with_vocabulary

            texts = (message.content for one in spoken for message in to_messages(one))
            tokenizer = make_tokenizer(texts, VOCABULARY)
            model = with_vocabulary(PACKAGED_MODEL, tokenizer)
            save(model, tokenizer, stage.path / "model")
            stage.finish({"model": stage.path / "model"})
    return Path(stage.outputs["model"])


def original(shop: Workshop, spoken: Sequence[Trajectory], source: Stage) -> Path:
    """The model that all students start from: the config's, or one made of what was ``spoken``
    (:func:`make_original`); with the config's adapter merged into it, if there is one."""
    base = original_model(shop.config) or make_original(shop, spoken, source)
    adapter = shop.config.student.adapter
    if adapter is None:
        return base
    adapter = adapter.expanduser()
    inputs = {"model": model_fingerprint(base, adapter)}
    with shop.run.stage("merged", inputs, {}) as stage:
        if not skipped(shop, stage):
            from step_ray.training.checkpoint import merge_adapter

            merge_adapter(base, adapter, stage.path / "model")
            stage.finish({"model": stage.path / "model"})
    return Path(stage.outputs["model"])


def train(
    shop: Workshop,
    name: str,
    start: Path,
    data: Sequence[Trajectory] | Sequence[Pair] | Sequence[Weighted],
    inputs: Mapping[str, Any],
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> Stage:
    """Masked SFT of the model in ``start`` on ``data``, or what else ``changes`` of the config's
    training make of it; the stage's output ``model`` is a Hugging Face folder, ``trajectories`` the
    number (of pairs, if it is of pairs) trained on."""
    changes = {**mask_of(shop.config, data), **changes}
    recorded = training_identity(shop.config, data, changes)
    trainer = shop.config.training.trainer(changes)
    with shop.run.stage(name, {**inputs, "start": model_fingerprint(start)}, recorded) as stage:
        if skipped(shop, stage):
            return stage
        with shop.progress.stage(name, unit="steps") as bar:
            wait = shop.config.ray.wait_seconds
            result = train_model(start, data, stage.path, trainer, bar, wait)
        stage.finish(
            {"model": result.model, "trajectories": len(data), **result.facts},
            {"train": result.seconds},
        )
    return stage


def mask_of(
    config: RunConfig, data: Sequence[Trajectory] | Sequence[Pair] | Sequence[Weighted]
) -> dict[str, Any]:
    """The change of a mask that leaves nothing of experts' turns, where there are no others: they
    are trained whole. What is masked is a question of trajectories that a teacher corrected."""
    if _verdicts(data) == {"correct"} and not verdict_weights(config.training.mask)["correct"]:
        return {"mask": "partial"}
    return {}


def training_identity(
    config: RunConfig,
    data: Sequence[Trajectory] | Sequence[Pair] | Sequence[Weighted],
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    """What of the training's settings decides about this one: of the mask, the weights of what
    there is to weigh. So an ablation has the base agent that the others have."""
    settings = {**config.identity()["training"], **changes}
    del settings["sequential"]  # the model that it starts from says it
    weights = verdict_weights(config.training.trainer(changes).mask)
    return {**settings, "mask": {verdict: weights[verdict] for verdict in sorted(_verdicts(data))}}


def _verdicts(data: Iterable[Trajectory | Pair | Weighted]) -> set[Verdict]:
    return {turn.verdict for one in data for turn in _turns(one)}


def _turns(one: Trajectory | Pair | Weighted) -> tuple[Turn, ...]:
    if isinstance(one, Pair):
        return one.chosen.turns + one.rejected.turns
    return (one.trajectory if isinstance(one, Weighted) else one).turns


def synthesize(
    shop: Workshop, name: str, student: Path, tasks: Sequence[Task], original: Path
) -> Stage:
    """Monitored episodes of ``student`` on ``tasks``: the reflected trajectories, all of them
    published, with what is kept marked as such. ``original`` is the model that it was trained from.
    """
    config, world, rules = shop.config, shop.world, shop.config.synthesis
    settings = identity(config, "synthesis", "teacher", "student", "env", "seed")
    asked = teacher_for(config, student, original)
    named = make_teacher(asked, world.name, shop.run.path)
    inputs = {
        "tasks": [task.id for task in tasks],
        "student": model_fingerprint(student),
        "teacher": [named.fingerprint, named.prompt_version],
    }
    with shop.run.stage(name, inputs, settings) as stage:
        if skipped(shop, stage):
            return stage
        sampling = Sampling(config.student.temperature, 1.0, config.student.max_tokens)
        specs = [
            spec_of(
                world,
                task,
                seed=config.seed,
                rollout=rollout,
                student=model_fingerprint(student),
                teacher=named.fingerprint,
                prompt_version=named.prompt_version,
                sampling=sampling_text(sampling),
                on_error=rules.on_error,
                style=config.teacher.style,
                max_steps=config.env.max_steps,
                abort_errors=rules.abort_errors,
            )
            for rollout in range(rules.rollouts)
            for task in tasks
        ]
        keep = Filter(rules.max_errors, rules.min_reward, rules.keep_clean)
        run, patience = shop.run.path, shop.patience

        def host(running: contextlib.ExitStack) -> tuple[Teacher, Load | None]:
            load = None
            if isinstance(config.teacher, SelfTeacherConfig) and config.student.backend == "vllm":
                models = {student, student if config.teacher.weights == "acting" else original}
                engines = students_of(config.student, sorted(models), run, patience)
                load = running.enter_context(engines)
            teacher = teacher_of(asked, world.name, run, load, patience)
            return running.enter_context(teacher), load

        episodes(shop, stage, specs, [student], sampling, keep, host, rules.workers)
    return stage


def evaluate(shop: Workshop, students: Mapping[str, Path]) -> Stage:
    """Unaided roll-outs of all ``students`` (name -> model folder) on the held-out splits."""
    settings = identity(shop.config, "evaluation", "student")
    return _evaluate(shop, EVALUATION, students, settings, shop.config.evaluation.max_steps)


def evaluate_elsewhere(shop: Workshop, name: str, students: Mapping[str, Path]) -> Stage:
    """The same in the environment that the config's section ``transfer`` calls ``name``."""
    there, test = shop.config.transfer[name], shop.config.evaluation
    settings = {
        "transfer": shop.config.identity()["transfer"][name],
        "evaluation": {
            "seeds": list(test.seeds),
            "temperature": test.temperature,
            "judge": test.judge,
        },
        **identity(shop.config, "student"),
    }
    shop = replace(shop, world=shop.world.transfer[name])
    return _evaluate(shop, elsewhere(name), students, settings, there.max_steps)


def _evaluate(
    shop: Workshop,
    name: str,
    students: Mapping[str, Path],
    settings: Mapping[str, Any],
    max_steps: int,
) -> Stage:
    config, world = shop.config, shop.world
    rules = config.evaluation
    names = {name: model_fingerprint(path) for name, path in students.items()}
    played = {split: [task.id for task in tasks] for split, tasks in world.held_out.items()}
    inputs = {"students": names, "data": world.data, "tasks": played}
    with shop.run.stage(name, inputs, settings) as stage:
        if skipped(shop, stage):
            return stage
        sampling = Sampling(rules.temperature, 1.0, config.student.max_tokens)
        specs = [
            spec_of(
                world,
                task,
                seed=seed,
                student=student,
                sampling=sampling_text(sampling),
                max_steps=max_steps,
                judged=rules.judge,
            )
            for student in sorted(set(names.values()))  # a worker changes its model seldom
            for seed in rules.seeds
            for tasks in world.held_out.values()
            for task in tasks
        ]
        take_known(stage, shop.run.shared, specs, shop.progress.note)
        models = list(students.values())
        episodes(shop, stage, specs, models, sampling, EVERYTHING, None, rules.workers)
    return stage


def explore(
    shop: Workshop, name: str, policy: Path, tasks: Sequence[Task], rollouts: int, heat: float
) -> Stage:
    """Unaided roll-outs of ``policy`` on training ``tasks``, sampled at temperature ``heat``."""
    config = shop.config
    settings = {"rollouts": rollouts, "temperature": heat, **identity(config, "student", "env")}
    if heat:  # a greedy episode is the same with every seed
        settings |= identity(config, "seed")
    student = model_fingerprint(policy)
    inputs = {"student": student, "tasks": [task.id for task in tasks]}
    with shop.run.stage(name, inputs, settings) as stage:
        if skipped(shop, stage):
            return stage
        sampling = Sampling(heat, 1.0, config.student.max_tokens)
        specs = [
            spec_of(
                shop.world,
                task,
                seed=config.seed,
                rollout=rollout,
                student=student,
                sampling=sampling_text(sampling),
                max_steps=config.env.max_steps,
            )
            for rollout in range(rollouts)
            for task in tasks
        ]
        workers = config.synthesis.workers
        episodes(shop, stage, specs, [policy], sampling, EVERYTHING, None, workers)
    return stage


def synthesis_summary(reflected: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the teacher caught, and what became of it, from the rows of a synthesis."""
    reasons: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    episodes = errors = corrections = recovered = kept = 0
    for row in reflected:
        episodes += 1
        errors += row["errors"]
        corrections += row["corrections"]
        recovered += row["corrections"] if row["success"] else 0
        kept += row["keep"]
        if not row["keep"]:
            reasons[row["drop_reason"]] += 1
        kinds.update(
            turn["review"]["kind"]
            for turn in row["turns"]
            if turn["verdict"] == "error" and turn["review"]
        )
    return {
        "episodes": episodes,
        "errors": errors,
        "corrections": corrections,
        "recovered": recovered,
        "kept": kept,
        "drop_reasons": dict(reasons.most_common()),
        "error_kinds": dict(kinds.most_common()),
    }


def skipped(shop: Workshop, stage: Stage) -> bool:
    """Whether the stage is done already; says so."""
    if stage.done:
        shop.progress.skipped(stage.name, "done before, same fingerprint")
    return stage.done


def episodes(
    shop: Workshop,
    stage: Stage,
    specs: Sequence[EpisodeSpec],
    models: Sequence[Path],
    sampling: Sampling,
    keep: Filter,
    host: Host | None,
    workers: int,
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Plays and publishes a stage's episodes, and finishes it with ``facts`` and what models and
    environments did. ``host`` starts the teacher, and gives the students if they run with it. Of
    what is served only that is started which episodes are left for."""
    config, students = shop.config, fingerprints(models)
    settings = worker_settings(config, shop.world, students, keep, sampling)
    pool = pool_of(config, workers)
    left = unfinished(specs, stage.path, shop.progress.note)
    teacher, load = None, None
    with contextlib.ExitStack() as running:
        if host is not None and left:
            teacher, load = host(running)
        bar = running.enter_context(shop.progress.stage(stage.name, len(specs), "episodes"))
        if load is None:
            needed = acting(config.student, students, left)
            engines = students_of(config.student, needed, shop.run.path, shop.patience)
            load = running.enter_context(engines)
        made = run_episodes(
            specs,
            stage.path,
            settings,
            load,
            (lambda: teacher) if teacher else None,
            pool,
            bar,
            {"stage": stage.name, "fingerprint": stage.fingerprint},
            counts_of(teacher),
            left,
        )
    outputs = {
        "data": stage.path,
        "student": made.student | rates(made.student),
        "environments": made.environments,
        **facts,
    }
    if host is not None:
        told = dict(counts_of(teacher)())  # once it is stopped they are final
        outputs["teacher"] = told | rates(told)
    stage.finish(outputs, made.seconds)


def acting(
    config: StudentConfig, students: Mapping[str, str], left: Sequence[EpisodeSpec]
) -> list[Path]:
    """The students (fingerprint -> folder) that have episodes ``left``; all of them if they share
    one engine and any has."""
    names = {spec.student for spec in left}
    if names and config.share_engine:
        names = set(students)
    return [Path(folder) for name, folder in students.items() if name in names]


def identity(config: RunConfig, *sections: str) -> dict[str, Any]:
    """The sections without what says how the work is done and not what it makes."""
    whole = config.identity()
    return {section: whole[section] for section in sections}
