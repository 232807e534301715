"""Whose evaluation a run follows, so that its figures can be put beside a paper's.

A protocol sets the cap of turns, the sampling temperature and the number of tasks, and demands of
the environment what its figures depend on. The metric is the same code for all: average reward as
ETO computes it, and success.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from step_ray.config_text import Problem

if TYPE_CHECKING:
    from step_ray.config import RunConfig
    from step_ray.config_env import EnvConfig
    from step_ray.config_section import Section

Protocol = Literal["own", "eto", "verl-agent"]


@dataclass(frozen=True, slots=True)
class _Preset:
    """``caps``: turns of an episode, by environment. ``tasks``: how many of each split, by
    environment; all where it says nothing. ``demands``: fields of ``env`` with their values, by
    environment; one in ``official`` counts only where there are official data. ``figure``: what
    papers of this family report."""

    figure: str
    temperature: float
    caps: Mapping[str, int]
    tasks: Mapping[str, int]
    demands: Mapping[str, Mapping[str, str]]
    official: tuple[str, ...] = ("goals",)

    def fields(self, env: str) -> dict[str, Any]:
        """What it sets in the section ``evaluation``; nothing for an environment it has not."""
        if env not in self.caps:
            return {}
        return {
            "max_steps": self.caps[env],
            "temperature": self.temperature,
            "tasks": self.tasks.get(env),
        }


_PRESETS = {
    # All of ALFWorld's 140 and 134 games and of ScienceWorld's lists; 200 goals of WebShop. The cap
    # of ScienceWorld is each task's own, of which the longest has 120.
    "eto": _Preset(
        "average reward",
        0.0,
        {"alfworld": 40, "webshop": 10, "scienceworld": 120},
        {"webshop": 200},
        {
            "scienceworld": {"step_limits": "eto", "simplifications": "eto"},
            "webshop": {"goals": "human"},
        },
    ),
    # Its validation batch has 128 tasks; WebShop in the small setting with synthetic goals.
    "verl-agent": _Preset(
        "success",
        0.4,
        {"alfworld": 50, "webshop": 15},
        {"alfworld": 128, "webshop": 128},
        {"webshop": {"goals": "synthetic"}},
    ),
}


_WORDS = {"step_limits": "each task's own: ", "simplifications": "all: ", "goals": ""}


def protocol_of(evaluation: Mapping[str, Any], env: Any) -> dict[str, Any]:
    """The fields of the section ``evaluation`` that its protocol sets; none if it has none."""
    name = env.get("name", "alfworld") if isinstance(env, dict) else getattr(env, "name", env)
    preset = _PRESETS.get(str(evaluation.get("protocol", "own")))
    return preset.fields(str(name)) if preset else {}


def note_on(protocol: str, data: Any) -> str:
    """What has to be kept in mind of figures of a protocol; "" without one. ``data``: of the
    environment, None if its tasks are its own."""
    preset = _PRESETS.get(protocol)
    if preset is None:
        return ""
    note = f"Protocol {protocol}: papers of this family report {preset.figure}."
    if data is None:
        note += " These tasks are not the official ones (env.data is null): no paper has figures."
    return note


def problems(config: RunConfig) -> Iterator[Problem]:
    """Where a config says that it follows a protocol and does not."""
    yield from followed(config.evaluation.protocol, config.env, config.evaluation)


def followed(
    protocol: Protocol, env: EnvConfig, test: Section, here: str = ""
) -> Iterator[Problem]:
    """Whether an environment is evaluated as the protocol says. ``test`` is the section that it is
    evaluated by, ``here`` where both are: "" for the run's own."""
    preset, name = _PRESETS.get(protocol), env.name
    if preset is None:
        return
    prefix, wanted = f"{here}." if here else "", preset.fields(name)
    if not wanted:
        yield (
            ("evaluation.protocol", f"{prefix}env.name"),
            f"evaluation.protocol: {protocol} has no {name} ({protocol}) -> use own",
        )
    for field, value in wanted.items():
        if field in type(test).model_fields and getattr(test, field) != value:
            place = f"{here or 'evaluation'}.{field}"
            yield (
                (place, "evaluation.protocol"),
                f"{place}: the protocol {protocol} has {_said(value)} "
                f"({_said(getattr(test, field))}) -> remove it, or set evaluation.protocol to own",
            )
    for field, demanded in preset.demands.get(name, {}).items():
        given = getattr(env, field)
        if given == demanded or (field in preset.official and env.data is None):
            continue
        yield (
            ("evaluation.protocol", f"{prefix}env.{field}"),
            f"{prefix}env.{field}: the protocol {protocol} has {_WORDS[field]}{demanded} "
            f"({given}) -> set it to {demanded}, or evaluation.protocol to own",
        )


def _said(value: float | None) -> str:
    return "all" if value is None else f"{value:g}"
