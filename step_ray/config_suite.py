"""A comparison as data: methods x environments x seeds, all from one base config."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints, ValidationError, field_validator

from step_ray import config_text
from step_ray.config import ConfigError, RunConfig, below_runs, parse_config
from step_ray.config_env import kind_of
from step_ray.config_section import Section, each_once

SHARED = "stages"
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Changes = dict[str, Any]
"""Fields of a run's config, dotted or in sections, with other values than the base's."""


class Suite(Section):
    """Which runs are compared: every method in every environment with every seed."""

    name: str = Field(default="comparison", min_length=1, description="title of the report")
    output: Path = Field(description="folder of all runs, the stages they share, and the report")
    base: Changes = Field(default_factory=dict, description="a run's config, but for its output")
    methods: dict[Name, Changes] = Field(
        min_length=1, description="method -> what it changes in the base; at least one"
    )
    envs: dict[Name, Changes] | None = Field(
        default=None,
        min_length=1,
        description="environment -> what it changes in the base; null: the base's own alone",
    )
    seeds: tuple[int, ...] = Field(
        default=(0, 1, 2), min_length=1, description="seeds of every method, each once"
    )
    seeded: tuple[str, ...] = Field(
        default=("seed", "training.seed"),
        min_length=1,
        description="fields of a run's config that the seed goes to",
    )
    reference: str | None = Field(
        default=None,
        description="row that the others are tested against, such as step/golden_only; null: the "
        "first method's",
    )

    _each_once = field_validator("seeds", "seeded")(each_once)


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a suite."""

    env: str
    method: str
    seed: int
    config: RunConfig

    @property
    def label(self) -> str:
        """The run in words."""
        return f"{self.method}, {self.env}, seed {self.seed}"


def load_suite(
    path: str | Path, overrides: Sequence[str] = (), planning: bool = False
) -> tuple[Suite, list[Cell]]:
    """Reads a suite and checks the configs of all of its runs.

    ``planning``: models and data need not be on this machine.
    Raises :class:`ConfigError` with every problem; one that several runs have is named once.
    """
    path = Path(path)
    raw = config_text.read_yaml(path)
    if "methods" not in raw and ("recipe" in raw or "env" in raw):
        raise ConfigError([f"this is a run's config -> use step-ray run {path}"], str(path))
    found = config_text.apply_overrides(raw, overrides)
    below_runs(raw)
    try:
        suite = Suite.model_validate(raw)
    except ValidationError as error:
        lines = [line for _, line in config_text.describe(error, raw, Suite)]
        raise ConfigError([*found, *lines], str(path)) from None
    cells: list[Cell] = []
    problems: dict[str, None] = dict.fromkeys(found)
    for env, method, seed, values in _expand(suite):
        try:
            config = parse_config(values, f"{path}: {env}, {method}", planning=planning)
            cells.append(Cell(env, method, seed, config))
        except ConfigError as error:
            problems.update(dict.fromkeys(f"{method}: {line}" for line in error.problems))
    if problems:
        raise ConfigError(list(problems), str(path))
    return suite, cells


def _expand(suite: Suite) -> Iterator[tuple[str, str, int, dict[str, Any]]]:
    for env, of_env in (suite.envs or {kind_of(suite.base.get("env", {})): {}}).items():
        for seed in suite.seeds:  # what the methods of a seed share is made at one go
            for method, of_method in suite.methods.items():
                values = copy.deepcopy(suite.base)
                _merge(values, of_env)
                _merge(values, of_method)
                _merge(values, dict.fromkeys(suite.seeded, seed))
                values["output"] = str(suite.output / env / method / f"seed{seed}")
                values["share"] = str(suite.output / SHARED)
                values.setdefault("name", f"{method}, {env}, seed {seed}")
                below_runs(values)
                yield env, method, seed, values


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Sets dotted or nested fields; sections are merged, all else is replaced."""
    for field, value in changes.items():
        *sections, name = field.split(".")
        place = values
        for section in sections:
            inner = place.get(section)
            place[section] = inner if isinstance(inner, dict) else {}
            place = place[section]
        if isinstance(value, dict) and isinstance(place.get(name), dict):
            _merge(place[name], value)
        else:
            place[name] = copy.deepcopy(value)
