"""What can be wrong with a config whose every field is right by itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from step_ray import config_protocols, config_recipes, config_transfer
from step_ray.config_env import data_problems
from step_ray.config_models import adapter_problem, gpu_problems
from step_ray.config_teacher import SelfTeacherConfig
from step_ray.config_text import Problem
from step_ray.machine import usable_cpus

if TYPE_CHECKING:
    from step_ray.config import RunConfig

_PLACES = (
    "env.data",
    "env.lists",
    "transfer.*.env.data",
    "transfer.*.env.lists",
    "student.model",
    "student.adapter",
    "teacher.model.model",
    "teacher.model.adapter",
)


_MOST = 1e-4  # learning rate of all weights of a model that is larger than the tiny one


def is_address(place: str | Path) -> bool:
    """Whether it is something like s3://bucket/folder, which as a path would be a local folder."""
    return re.match(r"[a-z][a-z0-9+.-]*:/", str(place), re.IGNORECASE) is not None


def cautions(config: RunConfig) -> Iterator[str]:
    """What can be done but is hardly meant, a line each."""
    student, training = config.student, config.training
    if not student.tiny and training.lora is None and training.learning_rate > _MOST:
        yield (
            f"training.learning_rate: all weights of {student.model} are trained at a rate for "
            f"tiny models ({training.learning_rate:g}) -> set it to 2.0e-5 (1e-5 to 5e-5 for 7B), "
            "or set training.lora"
        )


def of_place(fields: tuple[str, ...]) -> bool:
    """Whether what is wrong is only that something is not on this machine."""
    return len(fields) == 1 and any(fnmatchcase(fields[0], place) for place in _PLACES)


def not_here(config: RunConfig) -> Iterator[str]:
    """What is not on this machine, a line each."""
    return (line for fields, line in problems(config) if of_place(fields))


def problems(config: RunConfig) -> Iterator[Problem]:
    """What is wrong with a config whose every field is right by itself."""
    yield from _paths(config)
    yield from _publish(config)
    yield from config.env.problems(config.evaluation.splits)
    yield from config.teacher.problems(config.synthesis.deadlines.review)
    if isinstance(config.teacher, SelfTeacherConfig):
        student = config.student
        yield from config.teacher.student_problems(student.backend, student.context)
    yield from config.serve.problems(config.student)
    yield from _student(config)
    yield from _episodes(config)
    yield from config_recipes.problems(config)
    yield from config_protocols.problems(config)
    yield from config_transfer.problems(config)
    yield from _cluster(config)


def _publish(config: RunConfig) -> Iterator[Problem]:
    if config.publish is None:
        return
    from step_ray.bucket import BucketError, check_uri

    try:
        check_uri(config.publish)
    except BucketError as error:
        yield ("publish",), f"publish: {error} -> write s3://bucket/folder"


def _paths(config: RunConfig) -> Iterator[Problem]:
    folders = {
        "output": config.output,
        "share": config.share,
        "training.token_cache": config.training.token_cache,
    }
    for field, folder in folders.items():
        if folder is not None and is_address(folder):
            yield (
                (field,),
                f"{field}: a run writes to a file system, not to an address ({folder}) -> choose "
                "a folder, and set publish to have its datasets copied",
            )
    if not is_address(config.output):
        yield from _output(config.output)
    yield from data_problems(config.env)


def _output(output: Path) -> Iterator[Problem]:
    place = output.expanduser().absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        yield ("output",), f"output: {place} is a file ({output}) -> choose a folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        yield (
            ("output",),
            f"output: {place} is not writable ({output}) -> choose another folder, or "
            "change its permissions",
        )


def _student(config: RunConfig) -> Iterator[Problem]:
    student = config.student
    if not student.tiny and not (Path(student.model).expanduser() / "config.json").is_file():
        yield (
            ("student.model",),
            f"student.model: not a Hugging Face folder, it has no config.json ({student.model}) -> "
            "use tiny, or download the model and give its folder",
        )
    if student.adapter is not None and (problem := adapter_problem(student.adapter)):
        yield ("student.adapter",), f"student.adapter: {problem}"
    yield from student.scaling_problems("student")
    yield from gpu_problems("student", student.engine, student.gpus_per_replica)
    if student.share_engine and (reason := _no_common_base(config)):
        yield (
            ("student.share_engine", "training.lora", "training.sequential", "recipe"),
            f"student.share_engine: the students are no adapters of one model, as {reason} (true) "
            "-> set it to false, or train with LoRA, recipe step, not sequentially",
        )
    if student.backend == "local":
        unused = {"engine": {}, "gpus_per_replica": 0, "share_engine": False}
        for name, unset in {**unused, "replicas": 1, "autoscale": None, "nodes": {}}.items():
            if getattr(student, name) != unset:
                yield (
                    (f"student.{name}", "student.backend"),
                    f"student.{name}: does nothing with backend local ({getattr(student, name)}) ->"
                    " remove it, or set student.backend to vllm",
                )
        if student.slots < (envs := config.synthesis.envs_per_worker):
            yield (
                ("student.slots", "synthesis.envs_per_worker"),
                f"student.slots: fewer than the {envs} episodes that a worker interleaves, so that "
                f"chats would be read anew at each turn ({student.slots}) -> raise it to {envs}, "
                "or lower synthesis.envs_per_worker",
            )
    if student.max_tokens >= student.context:
        yield (
            ("student.max_tokens", "student.context"),
            f"student.max_tokens: leaves no room in the context ({student.max_tokens} >= "
            f"{student.context}) -> lower it, or raise student.context",
        )


def _no_common_base(config: RunConfig) -> str:
    if config.training.lora is None:
        return "training.lora is null"
    if config.training.sequential:
        return "training.sequential is true"
    return "" if config.recipe == "step" else f"recipe is {config.recipe}"


def _episodes(config: RunConfig) -> Iterator[Problem]:
    synthesis, evaluation, student = config.synthesis, config.evaluation, config.student
    if synthesis.max_errors > synthesis.abort_errors:
        yield (
            ("synthesis.max_errors", "synthesis.abort_errors"),
            f"synthesis.max_errors: more than abort_errors, so episodes end before "
            f"({synthesis.max_errors} > {synthesis.abort_errors}) -> raise synthesis.abort_errors",
        )
    if synthesis.rollouts > 1 and student.temperature == 0:
        yield (
            ("synthesis.rollouts", "student.temperature"),
            f"synthesis.rollouts: at temperature 0 all are alike ({synthesis.rollouts}) -> use 1, "
            "or raise student.temperature",
        )
    if len(evaluation.seeds) > 1 and evaluation.temperature == 0:
        yield (
            ("evaluation.seeds", "evaluation.temperature"),
            f"evaluation.seeds: at temperature 0 all are alike ({list(evaluation.seeds)}) -> name "
            "one seed, or raise evaluation.temperature",
        )
    if config.training.loss == "dpo" and config.recipe == "step":
        yield (
            ("training.loss", "recipe"),
            "training.loss: dpo needs pairs, and the recipe step makes none -> use cross_entropy",
        )
    if config.training.turn_weights is not None:
        yield (
            ("training.turn_weights",),
            "training.turn_weights: there is no file yet with weights of what the run will make "
            f"({config.training.turn_weights}) -> leave it out; it is for step-ray train",
        )
    limits = synthesis.deadlines
    for name in ("reset", "step", "student", "review"):
        if getattr(limits, name) > limits.episode:
            yield (
                (f"synthesis.deadlines.{name}", "synthesis.deadlines.episode"),
                f"synthesis.deadlines.{name}: longer than the whole episode may take "
                f"({getattr(limits, name):g} > {limits.episode:g} seconds) -> lower it, or raise "
                "synthesis.deadlines.episode",
            )


def _cluster(config: RunConfig) -> Iterator[Problem]:
    ray = config.ray
    if ray.address is not None:
        for name in ("num_cpus", "object_store_mb"):
            if getattr(ray, name) is not None:
                yield (
                    (f"ray.{name}", "ray.address"),
                    f"ray.{name}: a running cluster has its own ({getattr(ray, name)}) -> remove "
                    "it, or remove ray.address",
                )
        return  # what a running cluster offers is known only once we are connected to it
    model = getattr(config.teacher, "model", None)
    labelled = {
        "ray.env_nodes": ray.env_nodes,
        "student.nodes": config.student.nodes,
        "teacher.model.nodes": getattr(model, "nodes", {}),
    }
    for field, labels in labelled.items():
        if labels:
            yield (
                (field, "ray.address"),
                f"{field}: a Ray that is started on this machine has no labels ({labels}) -> "
                "remove it, or set ray.address to auto",
            )
    cpus = ray.num_cpus if ray.num_cpus is not None else usable_cpus()
    training = config.training
    needed = training.workers * training.threads_per_worker
    if needed > cpus and not training.use_gpu:
        yield (
            ("training.workers", "training.threads_per_worker", "ray.num_cpus", "ray.address"),
            f"training.workers: {training.workers} workers of {training.threads_per_worker} CPU "
            f"each do not fit the {cpus} CPUs of Ray ({training.workers}) -> lower it, or set "
            f"ray.num_cpus to at least {needed}",
        )
