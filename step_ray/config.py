"""The whole of a run as data. Loads neither torch nor Ray nor Arrow.

A config that cannot work is refused before anything starts, with every problem at once. Fields
that say how the work is done and not what it makes are marked as such: a run folder may be
continued with other values of them.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from step_ray import config_text
from step_ray.config_text import ConfigError as ConfigError
from step_ray.machine import usable_cpus

TINY = "tiny"
_EXECUTION: dict[str, Any] = {"execution": True}  # marks how, as opposed to what

Split = Literal["train", "valid_seen", "valid_unseen"]


class Section(BaseModel):
    """Unknown fields are refused; nothing can be changed after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_number(cls, value: Any, info: Any) -> Any:
        # YAML reads yes and no as booleans, and pydantic would take them for 1 and 0.
        annotation = cls.model_fields[info.field_name].annotation
        if isinstance(value, bool) and annotation in (int, float, int | None, float | None):
            raise ValueError("should be a number")
        return value


class Games(Section):
    """How many games to generate for each split."""

    train: int = Field(
        default=100, ge=2, description="number of generated training games, at least 2"
    )
    valid_seen: int = Field(
        default=20, ge=0, description="number of games in rooms seen in training"
    )
    valid_unseen: int = Field(default=20, ge=0, description="number of games in rooms never seen")


class EnvConfig(Section):
    """The world."""

    name: Literal["alfworld"] = Field(default="alfworld", description="environment: alfworld")
    data: Path | None = Field(
        default=None, description="folder of official game files; null generates games instead"
    )
    backend: Literal["native", "stock"] = Field(
        default="native", description="engine: native (fast, no C++) or stock (the original)"
    )
    games: Games | None = Field(
        default=None, description="numbers of generated games (without data)"
    )
    generator_seed: int | None = Field(
        default=None, ge=0, description="seed of the game generator, a whole number (without data)"
    )
    max_steps: int = Field(
        default=40, ge=1, description="turns an episode may have, a whole number >= 1"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_generation(cls, raw: Any) -> Any:
        # Games are generated exactly if there is no data; a resolved config says how.
        if isinstance(raw, dict) and raw.get("data") is None:
            given = {name: value for name, value in raw.items() if value is not None}
            return {"games": {}, "generator_seed": 0, **given}
        return raw


class StudentConfig(Section):
    """The model that learns."""

    model: str = Field(
        default=TINY,
        min_length=1,
        description="'tiny' (packaged) or the path of a Hugging Face folder",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="number format of the weights: float32, bfloat16 or float16"
    )
    slots: int = Field(
        default=32,
        ge=1,
        description="replies generated at once, >= 1",
        json_schema_extra=_EXECUTION,
    )
    max_tokens: int = Field(default=128, ge=1, description="longest reply, in tokens")
    temperature: float = Field(
        default=0.7, ge=0, le=2, description="sampling temperature in synthesis, 0 (greedy) to 2"
    )
    context: int = Field(default=4096, ge=64, description="longest chat with its reply, in tokens")


class TeacherConfig(Section):
    """Who reviews the student's turns."""

    type: Literal["expert"] = Field(
        default="expert", description="expert: the environment's own expert"
    )
    style: Literal["full", "brief", "bare"] = Field(
        default="brief", description="how much a reflection says: full, brief or bare"
    )


class GoldenConfig(Section):
    """Expert trajectories, D_1."""

    fraction: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="share of training tasks for the base agent, between 0 and 1",
    )
    max_steps: int = Field(default=40, ge=1, description="longest expert trajectory, in turns")


class Deadlines(Section):
    """Seconds until something counts as stuck."""

    reset: float = Field(default=60.0, gt=0, description="seconds to start an episode, > 0")
    step: float = Field(default=30.0, gt=0, description="seconds for one action, > 0")
    student: float = Field(
        default=300.0, gt=0, description="seconds for one reply of the student, > 0"
    )
    review: float = Field(
        default=120.0, gt=0, description="seconds for one review of the teacher, > 0"
    )
    episode: float = Field(default=3600.0, gt=0, description="seconds for a whole episode, > 0")


class SynthesisConfig(Section):
    """Reflected trajectories, D_r."""

    on_error: Literal["execute", "veto"] = Field(
        default="execute", description="what becomes of an error turn: execute it, or veto it"
    )
    max_errors: int = Field(default=2, ge=1, description="errors a kept trajectory may have, >= 1")
    abort_errors: int = Field(
        default=6,
        ge=1,
        description="errors an episode may have; the next one ends it; >= max_errors",
    )
    rollouts: int = Field(default=1, ge=1, description="episodes per task, >= 1")
    min_reward: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="final reward a kept trajectory needs, above 0 and up to 1",
    )
    keep_clean: bool = Field(
        default=False, description="whether episodes without any error are kept too (true or false)"
    )
    workers: int = Field(
        default=1,
        ge=1,
        description="processes that play episodes, >= 1",
        json_schema_extra=_EXECUTION,
    )
    envs_per_worker: int = Field(
        default=8,
        ge=1,
        description="episodes a worker interleaves, >= 1",
        json_schema_extra=_EXECUTION,
    )
    block_size: int = Field(
        default=16,
        ge=1,
        description="episodes per block, the unit of resuming, >= 1",
        json_schema_extra=_EXECUTION,
    )
    deadlines: Deadlines = Field(
        default_factory=Deadlines,
        description="deadlines, each in seconds",
        json_schema_extra=_EXECUTION,
    )


class TrainingConfig(Section):
    """Training of every student; see the trainer's own fields."""

    sequential: bool = Field(
        default=False,
        description="ablation: go on from the base agent instead of the original model",
    )


class EvaluationConfig(Section):
    """Unaided roll-outs of every student."""

    splits: tuple[Split, ...] = Field(
        default=("valid_seen", "valid_unseen"), min_length=1, description="splits, each once"
    )
    max_steps: int = Field(default=40, ge=1, description="turns an episode may have, >= 1")
    tasks: int | None = Field(
        default=None, ge=1, description="at most this many tasks of each split; null for all"
    )
    temperature: float = Field(
        default=0.0, ge=0, le=2, description="sampling temperature in evaluation, 0 (greedy) to 2"
    )
    seeds: tuple[int, ...] = Field(
        default=(0,), min_length=1, description="sampling seeds, each once"
    )
    workers: int = Field(
        default=1,
        ge=1,
        description="processes that play episodes, >= 1",
        json_schema_extra=_EXECUTION,
    )

    @field_validator("splits", "seeds")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) != len(values):
            raise ValueError("has an element twice -> name each once")
        return values


class RayConfig(Section):
    """The cluster."""

    address: Literal["auto"] | None = Field(
        default=None,
        description="auto: the running cluster; null: start Ray on this machine",
    )
    num_cpus: int | None = Field(
        default=None, ge=1, description="CPUs Ray may count on; null for those of the machine"
    )
    object_store_mb: int | None = Field(
        default=None,
        ge=80,
        description="size of Ray's object store in MB, >= 80; null for its default",
    )


class RunConfig(Section):
    """A run of the STeP recipe."""

    recipe: Literal["step"] = Field(default="step", description="method: step")
    name: str = Field(
        default="step", min_length=1, description="label for reports", json_schema_extra=_EXECUTION
    )
    output: Path = Field(description="the run's folder", json_schema_extra=_EXECUTION)
    seed: int = Field(default=0, ge=0, description="seed of everything random, a whole number >= 0")
    env: EnvConfig = Field(default_factory=EnvConfig, description="the world")
    student: StudentConfig = Field(default_factory=StudentConfig, description="who learns")
    teacher: TeacherConfig = Field(default_factory=TeacherConfig, description="who reviews")
    golden: GoldenConfig = Field(default_factory=GoldenConfig, description="expert trajectories")
    synthesis: SynthesisConfig = Field(
        default_factory=SynthesisConfig, description="reflected trajectories"
    )
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="training")
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig, description="evaluation")
    ray: RayConfig = Field(
        default_factory=RayConfig, description="the cluster", json_schema_extra=_EXECUTION
    )

    def resolved(self) -> dict[str, Any]:
        """Every field with its value, as plain JSON; loading it gives this config again."""
        return self.model_dump(mode="json")


def execution_fields() -> list[str]:
    """Dotted fields and sections that say how the work is done, not what it makes."""
    return [
        field
        for field, info in config_text.fields_of(RunConfig)
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get("execution")
    ]


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a YAML file, sets ``section.field=value`` overrides, and checks everything.

    Raises :class:`ConfigError`, whose text lists every problem.
    """
    path = Path(path)
    raw = config_text.read_yaml(path)
    problems = config_text.apply_overrides(raw, overrides)
    return parse_config(raw, str(path), problems)


def parse_config(
    raw: dict[str, Any], where: str = "config", found: Sequence[str] = ()
) -> RunConfig:
    """A checked config from plain values; ``found`` are problems known already."""
    lines = list(found)
    bad: list[str] = []
    rest = copy.deepcopy(raw)
    config: RunConfig | None = None
    while config is None:
        try:
            config = RunConfig.model_validate(rest)
        except ValidationError as error:
            described = config_text.describe(error, RunConfig)
            lines += [line for _, line in described if line not in lines]
            bad += [config_text.dotted(location) for location, _ in described]
            # What is right is checked all the same, so that a person need not come back twice.
            # From the last one on, as removing one element of a list moves those behind it.
            pruned = [config_text.prune(rest, location) for location, _ in reversed(described)]
            if not any(pruned):
                raise ConfigError(lines, where) from None
    for fields, line in _problems(config):
        if not any(_overlap(field, other) for field in fields for other in bad):
            lines.append(line)
    if lines:
        raise ConfigError(lines, where)
    return config


def _overlap(field: str, other: str) -> bool:
    return f"{field}.".startswith(f"{other}.") or f"{other}.".startswith(f"{field}.")


_Problem = tuple[tuple[str, ...], str]  # the fields it concerns, and the line for a person


def _problems(config: RunConfig) -> Iterator[_Problem]:
    """What is wrong with a config whose every field is right by itself."""
    yield from _paths(config)
    yield from _episodes(config)
    yield from _cluster(config)


def _paths(config: RunConfig) -> Iterator[_Problem]:
    place = config.output.expanduser().absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        yield ("output",), f"output: {place} is a file ({config.output}) -> choose a folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        yield (
            ("output",),
            f"output: {place} is not writable ({config.output}) -> choose another folder, or "
            "change its permissions",
        )
    data = config.env.data
    if data is not None and not data.expanduser().is_dir():
        yield (
            ("env.data",),
            f"env.data: no such folder ({data}) -> check the path, or use null to generate games",
        )
    for name in ("games", "generator_seed"):
        if data is not None and getattr(config.env, name) is not None:
            yield (
                (f"env.{name}", "env.data"),
                f"env.{name}: does nothing, as env.data is given and so no game is generated -> "
                f"remove env.{name} or env.data",
            )
    model = config.student.model
    if model != TINY and not (Path(model).expanduser() / "config.json").is_file():
        yield (
            ("student.model",),
            f"student.model: not a Hugging Face folder, it has no config.json ({model}) -> use "
            f"{TINY}, or download the model and give its folder",
        )


def _episodes(config: RunConfig) -> Iterator[_Problem]:
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
    if student.max_tokens >= student.context:
        yield (
            ("student.max_tokens", "student.context"),
            f"student.max_tokens: leaves no room in the context ({student.max_tokens} >= "
            f"{student.context}) -> lower it, or raise student.context",
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
    games = config.env.games
    for split in evaluation.splits:
        if games is not None and getattr(games, split) == 0:
            yield (
                ("evaluation.splits", f"env.games.{split}"),
                f"evaluation.splits: no {split} games are generated (0) -> raise "
                f"env.games.{split}, or leave the split out",
            )


def _cluster(config: RunConfig) -> Iterator[_Problem]:
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
    cpus = ray.num_cpus if ray.num_cpus is not None else usable_cpus()
    for section in ("synthesis", "evaluation"):
        workers = getattr(config, section).workers
        # One CPU is for reading and writing: a pool that takes them all waits for ever.
        if workers + 1 > cpus:
            yield (
                (f"{section}.workers", "ray.num_cpus", "ray.address"),
                f"{section}.workers: {workers} workers and one CPU to read and write do not fit "
                f"the {cpus} CPUs of Ray ({workers}) -> lower it, or set ray.num_cpus to at "
                f"least {workers + 1}",
            )
