"""Evaluations as the literature does them, so that a figure can be put beside a paper's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from step_ray.config_text import Problem

if TYPE_CHECKING:
    from step_ray.config import RunConfig

Protocol = Literal["own", "eto", "verl-agent"]

# Caps of turns. ETO's of ScienceWorld is each task's own, of which the longest has 120.
_CAPS: dict[str, dict[str, int]] = {
    "eto": {"alfworld": 40, "webshop": 10, "scienceworld": 120},
    "verl-agent": {"alfworld": 50, "webshop": 15},
}
_TEMPERATURES = {"eto": 0.0, "verl-agent": 0.4}


def protocol_of(evaluation: Mapping[str, Any], env: Any) -> dict[str, Any]:
    """The fields of the section ``evaluation`` that its protocol sets; none if it has none."""
    name = env.get("name", "alfworld") if isinstance(env, dict) else getattr(env, "name", env)
    protocol = str(evaluation.get("protocol", "own"))
    cap = _CAPS.get(protocol, {}).get(name)
    return {} if cap is None else {"max_steps": cap, "temperature": _TEMPERATURES[protocol]}


def problems(config: RunConfig) -> Iterator[Problem]:
    """Where a config says that it follows a protocol and does not."""
    test, name = config.evaluation, config.env.name
    if test.protocol == "own":
        return
    wanted = protocol_of({"protocol": test.protocol}, {"name": name})
    if not wanted:
        yield (
            ("evaluation.protocol", "env.name"),
            f"evaluation.protocol: {test.protocol} has no {name} ({test.protocol}) -> use own",
        )
    for field, value in wanted.items():
        if getattr(test, field) != value:
            yield (
                (f"evaluation.{field}", "evaluation.protocol"),
                f"evaluation.{field}: the protocol {test.protocol} has {value:g} "
                f"({getattr(test, field):g}) -> remove it, or set evaluation.protocol to own",
            )
    if test.protocol == "eto" and getattr(config.env, "step_limits", "eto") != "eto":
        yield (
            ("evaluation.protocol", "env.step_limits"),
            f"env.step_limits: the protocol eto has each task's own ({config.env.step_limits}) -> "  # type: ignore[union-attr]
            "set it to eto, or evaluation.protocol to own",
        )
