"""Defaults that depend on other fields of the config."""

from __future__ import annotations

from typing import Any

from step_ray.config_env import kind_of

SLOTS, ENVS = 32, 8
TURNS = 40
ERRORS = 2
_ERRORS = {"webshop": 1}  # the paper: 1 to 2 there, 2 elsewhere


def fill_in(raw: dict[str, Any]) -> dict[str, Any]:
    """``raw`` with what it leaves open and other fields decide."""
    return _slots(_golden(_errors(raw)))


def _errors(raw: dict[str, Any]) -> dict[str, Any]:
    """Fewer errors are kept where episodes are short. Only STeP reads how many."""
    most, rules = _ERRORS.get(kind_of(raw.get("env", {}))), raw.get("synthesis", {})
    if most is None or raw.get("recipe", "step") != "step" or not isinstance(rules, dict):
        return raw
    return {**raw, "synthesis": {"max_errors": most, **rules}}


def _golden(raw: dict[str, Any]) -> dict[str, Any]:
    """An expert has as many turns as the student, if that has more than usual."""
    env, golden = raw.get("env", {}), raw.get("golden", {})
    turns = env.get("max_steps") if isinstance(env, dict) else getattr(env, "max_steps", None)
    if not isinstance(turns, int) or turns <= TURNS or not isinstance(golden, dict):
        return raw
    return {**raw, "golden": {"max_steps": turns, **golden}}


def _slots(raw: dict[str, Any]) -> dict[str, Any]:
    """No episode that a worker interleaves is without a slot of the student."""
    student, rules = raw.get("student", {}), raw.get("synthesis", {})
    if not isinstance(student, dict) or not isinstance(rules, dict):
        return raw
    slots, envs = student.get("slots"), rules.get("envs_per_worker")
    if slots is None and isinstance(envs, int) and envs > SLOTS:
        return {**raw, "student": {**student, "slots": envs}}
    if envs is None and isinstance(slots, int) and 0 < slots < ENVS:
        return {**raw, "synthesis": {**rules, "envs_per_worker": slots}}
    return raw
