"""Whose evaluation a run follows, so that its figures can be put beside a paper's.

A protocol sets the cap of turns, the sampling temperature and the number of tasks, and demands of
the environment what its figures depend on. The metric is the same code for all: average reward as
ETO computes it, and success.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from step_ray.config_text import Problem

if TYPE_CHECKING:
    from step_ray.config import EvaluationConfig, RunConfig
    from step_ray.config_env import EnvConfig
    from step_ray.config_transfer import TransferConfig

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
    demands: Mapping[str, Mapping[str, Any]]
    official: tuple[str, ...] = ("goals", "lists")

    def fields(self, env: str) -> dict[str, Any]:
        """What it sets in the section ``evaluation``; nothing for an environment it has not."""
        if env not in self.caps:
            return {}
        return {
            "max_steps": self.caps[env],
            "temperature": self.temperature,
            "tasks": self.tasks.get(env),
        }


_GIVEN = "ETO's lists of goals"  # demanded: any value but null
_PAGES = {"mode": "text", "page_size": 10}
_PRESETS = {
    # All of ALFWorld's 140 and 134 games and of ScienceWorld's lists; the 200 goals of WebShop's
    # test list. The cap of ScienceWorld is each task's own, of which the longest has 120.
    "eto": _Preset(
        "average reward",
        0.0,
        {"alfworld": 40, "webshop": 10, "scienceworld": 120},
        {"webshop": 200},
        {
            "alfworld": {"task_types": None},
            "scienceworld": {
                "step_limits": "eto",
                "simplifications": "eto",
                "task_types": None,
                "variations": None,
            },
            "webshop": {"goals": "human", "lists": _GIVEN, **_PAGES},
        },
    ),
    # Its validation batch has 128 tasks; WebShop in the small setting with synthetic goals.
    "verl-agent": _Preset(
        "success",
        0.4,
        {"alfworld": 50, "webshop": 15},
        {"alfworld": 128, "webshop": 128},
        {
            "alfworld": {"task_types": None},
            "webshop": {"goals": "synthetic", "lists": None, **_PAGES},
        },
    ),
}


_WORDS = {"step_limits": "each task's own: ", "simplifications": "all: "}
_NULL = {"lists": "the original's splits"}
_GET_LISTS = "set it to a folder with eval_agent/data/webshop of github.com/Yifan-Song793/ETO"


def protocol_of(evaluation: Mapping[str, Any], env: Any) -> dict[str, Any]:
    """The fields of the section ``evaluation`` that its protocol sets; none if it has none."""
    name = env.get("name", "alfworld") if isinstance(env, dict) else getattr(env, "name", env)
    preset = _PRESETS.get(str(evaluation.get("protocol", "own")))
    return preset.fields(str(name)) if preset else {}


def note_on(protocol: str, env: Mapping[str, Any], others: Iterable[Mapping[str, Any]] = ()) -> str:
    """What has to be kept in mind of figures of a protocol; "" without one. ``env``: the section of
    the environment; ``others``: those of others that are evaluated in."""
    preset = _PRESETS.get(protocol)
    if preset is None:
        return ""
    note = f"Protocol {protocol}: papers of this family report {preset.figure}."
    if env.get("data") is None:
        note += " These tasks are not the official ones (env.data is null): no paper has figures."
    shops = [one for one in (env, *others) if one.get("name") == "webshop"]
    if any(shop.get("lists") is not None for shop in shops):
        note += " WebShop's goals that are in both of ETO's lists are tested on, not trained on."
    if any(shop.get("tagger", "rule") == "rule" for shop in shops):
        note += (
            " WebShop's rewards take a title's nouns by a rule (tagger: rule), the original's by "
            "spaCy: purchases of other products than the goal's own may score differently."
        )
    return note


def problems(config: RunConfig) -> Iterator[Problem]:
    """Where a config says that it follows a protocol and does not."""
    yield from followed(config.evaluation.protocol, config.env, config.evaluation)


def followed(
    protocol: Protocol, env: EnvConfig, test: EvaluationConfig | TransferConfig, here: str = ""
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
    held_out = type(env).HELD_OUT
    for split in test.splits if wanted else ():
        if split not in held_out:
            yield (
                (f"{here or 'evaluation'}.splits", "evaluation.protocol"),
                f"{here or 'evaluation'}.splits: the protocol {protocol} has "
                f"{', '.join(held_out)} ({split}) -> leave {split} out, or set evaluation.protocol "
                "to own",
            )
    for field, demanded in preset.demands.get(name, {}).items():
        given = getattr(env, field)
        met = given is not None if demanded is _GIVEN else given == demanded
        if met or (field in preset.official and env.data is None):
            continue
        if demanded is None:
            remedy = "remove it, or set evaluation.protocol to own"
        else:
            remedy = _GET_LISTS if demanded is _GIVEN else f"set it to {demanded}"
            remedy += ", or evaluation.protocol to own"
        yield (
            ("evaluation.protocol", f"{prefix}env.{field}"),
            f"{prefix}env.{field}: the protocol {protocol} has {_WORDS.get(field, '')}"
            f"{_said(demanded, field)} ({_said(given, field)}) -> {remedy}",
        )


def _said(value: Any, field: str = "") -> str:
    if value is None:
        return _NULL.get(field, "all")
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
