"""The whole of a run as data. Loads neither torch nor Ray nor Arrow.

A config that cannot work is refused before anything starts, with every problem at once. Fields
that say how the work is done and not what it makes are marked as such: a run folder may be
continued with other values of them.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from step_ray import (
    config_checks,
    config_defaults,
    config_recipes,
    config_text,
    config_transfer,
)
from step_ray.config_deadlines import Deadlines
from step_ray.config_defaults import ENVS, ERRORS, SLOTS, TURNS
from step_ray.config_env import ALFWorldConfig, EnvConfig, held_out, split_names, unknown_names
from step_ray.config_models import (
    EngineArguments,
    FolderModelConfig,
    LocalModelConfig,
    Replicas,
    VllmModelConfig,
)
from step_ray.config_protocols import Protocol, protocol_of
from step_ray.config_recipes import EtoConfig, StecaConfig, StepConfig
from step_ray.config_section import EXECUTION, Section, each_once, of_execution
from step_ray.config_serve import ServeConfig
from step_ray.config_teacher import ExpertTeacherConfig, TeacherConfig
from step_ray.config_text import ConfigError as ConfigError
from step_ray.config_training import TrainConfig
from step_ray.config_transfer import Transfers

TINY = "tiny"
RUNS = "STEP_RAY_RUNS"


class StudentConfig(Replicas):
    """The model that learns."""

    model: str = Field(
        default=TINY,
        min_length=1,
        description="'tiny' (the packaged model; in other environments than alfworld with a "
        "vocabulary of the experts' words) or the path of a Hugging Face folder",
    )
    adapter: Path | None = Field(
        default=None,
        description="folder of a LoRA adapter (peft) on `model`: the two together are the model to "
        "begin with; null: none",
    )
    backend: Literal["local", "vllm"] = Field(
        default="local",
        description="local (in each worker, by transformers) or vllm (served to all workers)",
    )
    engine: EngineArguments = Field(
        default_factory=dict,
        description="vLLM's engine arguments, such as tensor_parallel_size (backend vllm)",
    )
    share_engine: bool = Field(
        default=False,
        description="whether students that were trained with LoRA answer as adapters of one engine "
        "with the original model, instead of an engine each (backend vllm; true or false)",
        json_schema_extra=EXECUTION,
    )
    gpus_per_replica: float = Field(
        default=0.0,
        ge=0,
        description="GPUs of each engine; 0 for a CPU (backend vllm)",
        json_schema_extra=EXECUTION,
    )
    dtype: Literal["float32", "float64", "bfloat16"] = Field(
        default="float32", description="number format of the weights: float32, float64 or bfloat16"
    )
    slots: int = Field(
        default=SLOTS,
        ge=1,
        description=f"replies generated at once, >= 1; by default {SLOTS}, or "
        "synthesis.envs_per_worker if that is more. A chat without a slot is read anew "
        "(backend local)",
        json_schema_extra=EXECUTION,
    )
    max_tokens: int = Field(default=96, ge=1, description="longest reply, in tokens")
    temperature: float = Field(
        default=0.7, ge=0, le=2, description="sampling temperature in synthesis, 0 (greedy) to 2"
    )
    context: int = Field(default=4096, ge=64, description="longest chat with its reply, in tokens")

    @property
    def tiny(self) -> bool:
        """Whether the model is ours and not a folder."""
        return self.model == TINY

    def served(self, folder: str | Path, adapter: str | Path | None = None) -> FolderModelConfig:
        """How the model in ``folder`` is served with these settings."""
        same: dict[str, Any] = {
            "model": str(folder),
            "adapter": adapter,
            "replicas": self.replicas,
            "autoscale": self.autoscale,
            "nodes": self.nodes,
        }
        if self.backend == "local":
            return LocalModelConfig(
                **same, dtype=self.dtype, slots=self.slots, context=self.context
            )
        ours = {
            "dtype": self.dtype,
            "max_model_len": self.context,
            "max_num_seqs": self.slots,
        }
        return VllmModelConfig(
            **same, engine={**ours, **self.engine}, gpus_per_replica=self.gpus_per_replica
        )


class GoldenConfig(Section):
    """Expert trajectories, D_1."""

    fraction: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="share of training tasks for the base agent, between 0 and 1",
    )
    max_steps: int = Field(
        default=TURNS,
        ge=1,
        description=f"longest expert trajectory, in turns; by default {TURNS}, or env.max_steps if "
        "that is more",
    )


class SynthesisConfig(Section):
    """Reflected trajectories, D_r."""

    on_error: Literal["execute", "veto"] = Field(
        default="execute", description="what becomes of an error turn: execute it, or veto it"
    )
    max_errors: int = Field(
        default=ERRORS,
        ge=1,
        description=f"errors a kept trajectory may have, >= 1; by default {ERRORS}, in webshop 1",
    )
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
        json_schema_extra=EXECUTION,
    )
    envs_per_worker: int = Field(
        default=ENVS,
        ge=1,
        description=f"episodes a worker interleaves, >= 1; by default {ENVS}, or student.slots if "
        "that is less",
        json_schema_extra=EXECUTION,
    )
    block_size: int = Field(
        default=16,
        ge=1,
        description="episodes that a worker is given at a time, >= 1",
        json_schema_extra=EXECUTION,
    )
    deadlines: Deadlines = Field(
        default_factory=Deadlines,
        description="deadlines, each in seconds",
        json_schema_extra=EXECUTION,
    )


class TrainingConfig(TrainConfig):
    """Training of every student; see the trainer's own fields."""

    sequential: bool = Field(
        default=False,
        description="ablation: go on from the base agent instead of the original model",
    )

    def trainer(self, changes: Mapping[str, Any] = MappingProxyType({})) -> TrainConfig:
        """The part of it that concerns one training, with ``changes`` of some fields."""
        return TrainConfig.model_validate({**self.model_dump(exclude={"sequential"}), **changes})


class EvaluationConfig(Section):
    """Unaided roll-outs of every student."""

    splits: tuple[str, ...] = Field(
        default=("valid_seen", "valid_unseen"),
        min_length=1,
        description="splits of the environment, each once; by default those that it holds out",
    )
    protocol: Protocol = Field(
        default="own",
        description="whose evaluation: eto or verl-agent (they set max_steps and temperature), or "
        "own",
    )
    max_steps: int = Field(default=40, ge=1, description="turns an episode may have, >= 1")
    original: bool = Field(
        default=False,
        description="whether the original model, untrained, is evaluated too (true or false)",
    )
    judge: bool = Field(
        default=False,
        description="whether the environment's judge names the errors of all turns (true or "
        "false); scienceworld's takes seconds for each turn",
    )
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
        json_schema_extra=EXECUTION,
    )

    _each_once = field_validator("splits", "seeds")(each_once)


class RayConfig(Section):
    """The cluster."""

    address: Literal["auto"] | None = Field(
        default=None,
        description="auto: the running cluster; null: start Ray on this machine",
    )
    num_cpus: int | None = Field(
        default=None, ge=1, description="CPUs Ray may count on; null for those of the machine"
    )
    wait_seconds: float = Field(
        default=300.0,
        gt=0,
        description="seconds to wait for room on the cluster, for others to end or for its "
        "autoscaler, > 0",
    )
    object_store_mb: int | None = Field(
        default=None,
        ge=80,
        description="size of Ray's object store in MB, >= 80; null for its default",
    )
    env_nodes: dict[str, str] = Field(
        default_factory=dict,
        description="labels of the nodes that play episodes, so that they leave those with GPUs "
        "alone; empty: any node",
    )


class RunConfig(Section):
    """A run of a recipe."""

    recipe: Literal["step", "eto", "steca"] = Field(
        default="step", description="method: step, eto or steca"
    )
    name: str = Field(
        default="step", min_length=1, description="label for reports", json_schema_extra=EXECUTION
    )
    output: Path = Field(
        description="the run's folder, which all machines of the cluster see; a relative one is "
        "below $STEP_RAY_RUNS, if that is set",
        json_schema_extra=EXECUTION,
    )
    publish: str | None = Field(
        default=None,
        description="s3://bucket/folder where the dataset of every finished stage is copied to; "
        "null for nowhere",
        json_schema_extra=EXECUTION | {"secret": True},
    )
    share: Path | None = Field(
        default=None,
        description="folder of finished stages that runs have in common: each is made once, and "
        "linked into the others; a relative one is below $STEP_RAY_RUNS, if that is set; null: "
        "none",
        json_schema_extra=EXECUTION,
    )
    seed: int = Field(
        default=0,
        ge=0,
        description="seed, >= 0, of the draw and halves of training tasks and of all episodes but "
        "the evaluation's; others: training.seed, env.generator_seed, evaluation.seeds",
    )
    env: EnvConfig = Field(default_factory=ALFWorldConfig, description="the world")
    student: StudentConfig = Field(default_factory=StudentConfig, description="who learns")
    teacher: TeacherConfig = Field(default_factory=ExpertTeacherConfig, description="who reviews")
    golden: GoldenConfig = Field(default_factory=GoldenConfig, description="expert trajectories")
    synthesis: SynthesisConfig = Field(
        default_factory=SynthesisConfig, description="reflected trajectories"
    )
    training: TrainingConfig = Field(
        default_factory=lambda: TrainingConfig.model_validate({}), description="training"
    )
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig, description="evaluation")
    transfer: Transfers = Field(
        default_factory=dict,
        description="name -> another environment that the students are evaluated in too; a list "
        "such as [webshop] takes them as they come",
    )
    ray: RayConfig = Field(
        default_factory=RayConfig, description="the cluster", json_schema_extra=EXECUTION
    )
    serve: ServeConfig = Field(
        default_factory=ServeConfig,
        description="the HTTP server of `step-ray serve`",
        json_schema_extra=EXECUTION,
    )

    step: StepConfig | None = Field(
        default=None, description="STeP in several rounds (recipe step); null: one, as in the paper"
    )
    eto: EtoConfig | None = Field(default=None, description="ETO's settings (recipe eto)")
    steca: StecaConfig | None = Field(default=None, description="STeCa's settings (recipe steca)")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_recipe(cls, raw: Any) -> Any:
        return config_recipes.fill_in(raw) if isinstance(raw, dict) else raw

    @model_validator(mode="before")
    @classmethod
    def _fill_in_transfer(cls, raw: Any) -> Any:
        return config_transfer.fill_in(raw) if isinstance(raw, dict) else raw

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, raw: Any) -> Any:
        return config_defaults.fill_in(raw) if isinstance(raw, dict) else raw

    @model_validator(mode="before")
    @classmethod
    def _fill_in_splits(cls, raw: Any) -> Any:
        evaluation = raw.get("evaluation", {}) if isinstance(raw, dict) else None
        if isinstance(evaluation, dict):
            env = raw.get("env", {})
            filled = {"splits": held_out(env), **protocol_of(evaluation, env), **evaluation}
            filled["splits"] = split_names(env, filled["splits"])
            return {**raw, "evaluation": filled}
        return raw

    def resolved(self) -> dict[str, Any]:
        """Every field with its value, as plain JSON; loading it gives this config again."""
        optional = (*config_recipes.SECTIONS, "transfer")
        absent = {name for name in optional if not getattr(self, name)}
        return self.model_dump(mode="json", exclude=absent)

    def identity(self) -> dict[str, Any]:
        """:meth:`resolved` without the fields that say how the work is done: for fingerprints."""
        what = self.resolved()
        for field in execution_fields():
            config_text.remove(what, field.split("."))
        return what


def execution_fields() -> list[str]:
    """Dotted fields and sections that say how the work is done, not what it makes; ``*`` stands
    for every name."""
    marked = [field for field, info in config_text.fields_of(RunConfig) if of_execution(info)]
    return [*dict.fromkeys(marked)]


def below_runs(raw: dict[str, Any]) -> None:
    """Puts relative folders that a run writes to, ``output``, ``share`` and
    ``training.token_cache``, below the folder that ``$STEP_RAY_RUNS`` names, if it is set."""
    if not (runs := os.environ.get(RUNS)):
        return
    training: Any = raw.get("training")
    for section, name in ((raw, "output"), (raw, "share"), (training, "token_cache")):
        place = section.get(name) if isinstance(section, dict) else None
        if not isinstance(place, str) or place.startswith("~") or config_checks.is_address(place):
            continue
        section[name] = os.path.join(os.path.abspath(runs), place)  # an absolute one stays


def load_config(
    path: str | Path, overrides: Sequence[str] = (), planning: bool = False
) -> RunConfig:
    """Reads a YAML file, sets ``section.field=value`` overrides, and checks everything.

    Relative folders that it writes to are below the one that ``$STEP_RAY_RUNS`` names, if it is
    set (:func:`below_runs`): a job on a cluster starts in a folder that goes away with it.
    ``planning``: models and data need not be on this machine.
    Raises :class:`ConfigError`, whose text lists every problem.
    """
    path = Path(path)
    raw = config_text.read_yaml(path)
    if "methods" in raw:
        raise ConfigError([f"this is a suite -> use step-ray compare {path}"], str(path))
    problems = config_text.apply_overrides(raw, overrides)
    below_runs(raw)
    return parse_config(raw, str(path), problems, planning)


def parse_config(
    raw: dict[str, Any],
    where: str = "config",
    found: Sequence[str] = (),
    planning: bool = False,
) -> RunConfig:
    """A checked config from plain values; ``found`` are problems known already. ``planning``:
    models and data need not be on this machine."""
    lines = list(found)
    bad: list[str] = []
    rest = copy.deepcopy(raw)
    if isinstance(rest.get("env"), str):
        rest["env"] = {"name": rest["env"]}
    for location, line in unknown_names(rest):
        config_text.prune(rest, location)
        lines.append(line)
        bad.append(config_text.dotted(location))
    config: RunConfig | None = None
    while config is None:
        try:
            config = RunConfig.model_validate(rest)
        except ValidationError as error:
            described = config_text.describe(error, rest, RunConfig)
            found_now = [(config_text.dotted(location), line) for location, line in described]
            known = tuple(bad)
            lines += [
                line for at, line in found_now if not any(config_text.overlap(at, b) for b in known)
            ]
            bad += [at for at, _ in found_now]
            # What is right is checked all the same, so that a person need not come back twice.
            # From the last one on, as removing one element of a list moves those behind it. A
            # section that lacks something goes as a whole.
            pruned = [
                config_text.prune(rest, location) or config_text.prune(rest, location[:-1])
                for location, _ in reversed(described)
            ]
            if not any(pruned):
                raise ConfigError(lines, where) from None
    for fields, line in config_checks.problems(config):
        aside = planning and config_checks.of_place(fields)
        if not aside and not any(
            config_text.overlap(field, other) for field in fields for other in bad
        ):
            lines.append(line)
    if lines:
        raise ConfigError(lines, where)
    return config
