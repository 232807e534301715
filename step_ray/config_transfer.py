"""Other environments than the one that is learned, to evaluate the same students in."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from step_ray.config_env import ENVIRONMENTS, EnvConfig, data_problems, held_out, split_names
from step_ray.config_protocols import followed, protocol_of
from step_ray.config_section import Section, each_once
from step_ray.config_text import Problem

if TYPE_CHECKING:
    from step_ray.config import RunConfig

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
EVALUATION = "evaluation"
"""The stage of the evaluation in the run's own environment."""


def elsewhere(name: str) -> str:
    """The stage of the evaluation in another one."""
    return f"{EVALUATION}_{name}"


class TransferConfig(Section):
    """One of them. Seeds, temperature and protocol are those of the section ``evaluation``."""

    env: EnvConfig = Field(
        description="the other world, with the fields of the section env; by default the "
        "environment of that name"
    )
    splits: tuple[str, ...] = Field(
        min_length=1,
        description="its splits, each once; by default those that it holds out",
    )
    tasks: int | None = Field(
        default=None, ge=1, description="at most this many tasks of each split; null for all"
    )
    max_steps: int = Field(
        default=40, ge=1, description="turns an episode may have, >= 1; a protocol sets it"
    )

    _each_once = field_validator("splits")(each_once)


Transfers = dict[Name, TransferConfig]


def fill_in(raw: dict[str, Any]) -> dict[str, Any]:
    """``raw`` with the section ``transfer`` completed by what depends on its environments. A list
    of environments stands for each of them as it comes."""
    section, evaluation = raw.get("transfer"), raw.get("evaluation", {})
    if isinstance(section, list | tuple) and all(name in tuple(ENVIRONMENTS) for name in section):
        section = {name: {} for name in section}
    if not isinstance(section, dict):
        return raw
    filled = {}
    for name, one in section.items():
        one = {} if one is None else one
        if isinstance(one, dict):
            env = one.get("env", {"name": name} if name in ENVIRONMENTS else None)
            env = {"name": env} if isinstance(env, str) else env
            cap = protocol_of(evaluation, env or {}) if isinstance(evaluation, dict) else {}
            cap.pop("temperature", None)
            one = {"splits": held_out(env or {}), **cap, **one, **({"env": env} if env else {})}
            one["splits"] = split_names(env or {}, one["splits"])
        filled[name] = one
    return {**raw, "transfer": filled}


def problems(config: RunConfig) -> Iterator[Problem]:
    """What is wrong, though every field is right by itself."""
    for name, one in config.transfer.items():
        here = f"transfer.{name}"
        yield from _there(here, one.env.problems(one.splits))
        yield from _there(here, data_problems(one.env))
        yield from followed(config.evaluation.protocol, one.env, one, here)
        if one.env == config.env and set(one.splits) & set(config.evaluation.splits):
            yield (
                (f"{here}.env", f"{here}.splits", "env", "evaluation.splits"),
                f"{here}.env: the same environment and splits as the run's own "
                f"({one.env.name}) -> name another one",
            )
        for field in ("max_steps", "train_tasks"):
            if getattr(one.env, field) != type(one.env).model_fields[field].default:
                instead = f"set {here}.max_steps instead" if field == "max_steps" else "remove it"
                yield (
                    (f"{here}.env.{field}",),
                    f"{here}.env.{field}: does nothing, as nobody is trained there "
                    f"({getattr(one.env, field)}) -> {instead}",
                )


def _there(here: str, found: Collection[Problem] | Iterator[Problem]) -> Iterator[Problem]:
    """Problems of an environment as those of the section ``here``."""

    def moved(text: str) -> str:
        text = text.replace("evaluation.splits", f"{here}.splits")
        return re.sub(r"(?<![\w.])env\.", f"{here}.env.", text)

    for fields, line in found:
        yield tuple(map(moved, fields)), moved(line)
