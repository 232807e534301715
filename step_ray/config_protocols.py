"""Evaluations as the literature does them, so that a figure can be put beside a paper's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from step_ray.config_text import Problem

if TYPE_CHECKING:
    from step_ray.config import RunConfig
    from step_ray.config_env import EnvConfig

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
    test = config.evaluation
    yield from followed(test.protocol, config.env, test.max_steps)
    wanted = _TEMPERATURES.get(test.protocol, test.temperature)
    if test.temperature != wanted and config.env.name in _CAPS[test.protocol]:
        yield _differs("evaluation.temperature", test.protocol, wanted, test.temperature)


def followed(
    protocol: Protocol, env: EnvConfig, max_steps: int, here: str = ""
) -> Iterator[Problem]:
    """Whether an environment is evaluated as the protocol says; ``here`` is the section that it is
    evaluated by, "" for the run's own."""
    if protocol == "own":
        return
    prefix, cap = f"{here}." if here else "", _CAPS[protocol].get(env.name)
    if cap is None:
        yield (
            ("evaluation.protocol", f"{prefix}env.name"),
            f"evaluation.protocol: {protocol} has no {env.name} ({protocol}) -> use own",
        )
    elif max_steps != cap:
        yield _differs(f"{here or 'evaluation'}.max_steps", protocol, cap, max_steps)
    limits = getattr(env, "step_limits", "eto")
    if protocol == "eto" and limits != "eto":
        yield (
            ("evaluation.protocol", f"{prefix}env.step_limits"),
            f"{prefix}env.step_limits: the protocol eto has each task's own ({limits}) -> set it "
            "to eto, or evaluation.protocol to own",
        )


def _differs(field: str, protocol: Protocol, wanted: float, found: float) -> Problem:
    return (
        (field, "evaluation.protocol"),
        f"{field}: the protocol {protocol} has {wanted:g} ({found:g}) -> remove it, or set "
        "evaluation.protocol to own",
    )
