"""The sections of the recipes, and which fields a recipe does not read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from step_ray.config_section import Section
from step_ray.config_text import Problem

if TYPE_CHECKING:
    from step_ray.config import RunConfig

SECTIONS = ("step", "eto", "steca")  # each of the recipe of its name
ETO_EXTRA_TURNS = 5
_TRUNCATES = ("scienceworld", "webshop")  # ETO leaves ALFWorld's failures whole


class StepConfig(Section):
    """STeP (arXiv 2505.20023) beyond the paper: its student takes the base agent's place; and a
    rival more."""

    rounds: int = Field(
        default=1,
        ge=1,
        description="how often an agent acts under supervision and a student is trained from what "
        "came of it, >= 1 (paper: 1); in later rounds the agent is the student of the round before",
    )
    revisit: Literal["unkept", "all"] = Field(
        default="unkept",
        description="which tasks of U_2 later rounds play: unkept (those of which no trajectory "
        "was kept so far, so that no agent plays what it was trained on) or all",
    )
    golden_same: bool = Field(
        default=False,
        description="whether a rival is trained on D_1 and, in place of each trajectory of D_r, "
        "the expert's of that task (if it won there): golden_same, as much data as the student's",
    )


def of_round(name: str, number: int) -> str:
    """STeP's stage ``name`` in a round, from 1; the first is called as in the paper."""
    return name if number == 1 else f"{name}_{number}"


class EtoConfig(Section):
    """ETO (arXiv 2403.02502): exploration, pairs, DPO, again. Defaults are those of its code."""

    iterations: int = Field(default=3, ge=1, description="rounds of exploration and DPO, >= 1")
    rollouts: int = Field(default=1, ge=1, description="explored episodes per task, >= 1")
    temperature: float = Field(
        default=0.0, ge=0, le=2, description="sampling temperature in exploration, 0 to 2"
    )
    extra_turns: int | None = Field(
        default=None,
        ge=0,
        description="a failure is cut after so many turns more than the expert took; null: whole. "
        "ETO: 5 for webshop and scienceworld, null for alfworld",
    )
    betas: tuple[float, ...] = Field(
        default=(0.1, 0.5),
        min_length=1,
        description="DPO's beta in each round, > 0; the last one holds for all later rounds",
    )
    rates: tuple[float, ...] = Field(
        default=(0.05, 0.025),
        min_length=1,
        description="learning rate of each round as a share of training.learning_rate (ETO: 1e-6, "
        "then 5e-7, of 2e-5); the last one holds for all later rounds",
    )
    epochs: int = Field(default=3, ge=1, description="passes over the pairs in each round, >= 1")
    pairs_per_batch: int = Field(default=32, ge=1, description="pairs in one optimizer step, >= 1")
    warmup_fraction: float = Field(
        default=0.1, ge=0, lt=1, description="share of a round's steps in which the rate rises"
    )

    @field_validator("betas", "rates")
    @classmethod
    def _positive(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not all(value > 0 for value in values):
            raise ValueError("has a value that is not above 0 -> make all of them positive")
        return values

    def training(self, number: int, learning_rate: float) -> dict[str, Any]:
        """What the DPO of round ``number`` (from 1) changes in the training's settings."""
        return {
            "loss": "dpo",
            "dpo_beta": _at(self.betas, number),
            "learning_rate": learning_rate * _at(self.rates, number),
            "schedule": "constant",
            "warmup_fraction": self.warmup_fraction,
            "epochs": self.epochs,
            "samples_per_batch": self.pairs_per_batch,
            "normalize": "token",
        }


class StecaConfig(Section):
    """STeCa (arXiv 2502.14276): exploration from every expert prefix, Monte-Carlo step rewards,
    calibration, reward-weighted training. Defaults are those of its code where it has any."""

    tasks: int | None = Field(
        default=None,
        ge=1,
        description="at most so many training tasks are explored, drawn at random; null: all",
    )
    samples: int = Field(default=5, ge=1, description="Monte-Carlo continuations of a step, >= 1")
    temperature: float = Field(
        default=1.0,
        gt=0,
        le=2,
        description="sampling temperature of exploration and continuations, above 0, up to 2",
    )
    skip_turns: int = Field(
        default=2, ge=0, description="the first so many turns of a task are never calibrated"
    )
    similar: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="cosine similarity from which on the student's action counts as the expert's",
    )
    rule: Literal["code", "paper"] = Field(
        default="code",
        description="deviation test. code: the step is worth no more than the expert's before it, "
        "and the explored episode is not won; paper: worth less by delta",
    )
    delta: float = Field(
        default=0.0,
        ge=-1,
        le=1,
        description="threshold of the deviation test (rule paper), -1 to 1",
    )
    splice: Literal["execute", "paste"] = Field(
        default="execute",
        description="after a deviation: execute the correction and let the expert go on from the "
        "state that is, or paste the expert's recorded way as the original does",
    )
    expert_gap: float = Field(
        default=0.01,
        ge=0,
        description="the expert's part is trained too where its step is worth more by this, and "
        "its whole way where the student's whole episode got less by this",
    )
    explored_within: float = Field(
        default=0.2,
        ge=0,
        description="the student's own successes are trained that deviate less than this (nDTW "
        "over words; the original: 0.013 over BERT's embeddings)",
    )
    weight_scale: float = Field(
        default=0.01, ge=0, description="how much a deviation of 1 changes a trajectory's weight"
    )
    rate: float = Field(
        default=0.15,
        gt=0,
        description="learning rate as a share of training.learning_rate (STeCa: 3e-6 of 2e-5)",
    )
    epochs: int = Field(default=1, ge=1, description="passes over the weighted trajectories, >= 1")
    samples_per_batch: int = Field(
        default=15, ge=1, description="trajectories in one optimizer step, >= 1"
    )
    warmup_fraction: float = Field(
        default=0.1, ge=0, lt=1, description="share of the steps in which the rate rises"
    )

    def training(self, learning_rate: float) -> dict[str, Any]:
        """What the reward-weighted training changes in the training's settings."""
        return {
            "loss": "reward_weighted",
            "learning_rate": learning_rate * self.rate,
            "schedule": "constant",
            "warmup_fraction": self.warmup_fraction,
            "epochs": self.epochs,
            "samples_per_batch": self.samples_per_batch,
        }


def fill_in(raw: dict[str, Any]) -> dict[str, Any]:
    """``raw`` with the section of its recipe, completed by what depends on the environment."""
    recipe = raw.get("recipe")
    if recipe not in ("eto", "steca"):  # STeP's section is there only if the paper is left
        return raw
    section = raw.get(recipe) if raw.get(recipe) is not None else {}
    if recipe == "steca":
        return {**raw, recipe: section}
    env = raw.get("env", {})
    name = env.get("name", "alfworld") if isinstance(env, dict) else getattr(env, "name", env)
    if isinstance(section, dict) and "extra_turns" not in section and name in _TRUNCATES:
        section = {**section, "extra_turns": ETO_EXTRA_TURNS}
    return {**raw, "eto": section}


# Recipe -> fields that it does not read. Such a field has to have its default.
_UNREAD = {
    "eto": (
        "teacher.type",
        "student.temperature",
        "golden.fraction",
        "synthesis.on_error",
        "synthesis.max_errors",
        "synthesis.abort_errors",
        "synthesis.rollouts",
        "synthesis.min_reward",
        "synthesis.keep_clean",
        "training.sequential",
        "training.mask",
        "teacher.style",
    ),
    "steca": (
        "student.temperature",
        "golden.fraction",
        "synthesis.on_error",
        "synthesis.max_errors",
        "synthesis.abort_errors",
        "synthesis.rollouts",
        "synthesis.keep_clean",
        "training.sequential",
        "training.mask",
    ),
}
_INSTEAD = {
    ("eto", "student.temperature"): "eto.temperature",
    ("eto", "synthesis.rollouts"): "eto.rollouts",
    ("steca", "student.temperature"): "steca.temperature",
    ("steca", "synthesis.rollouts"): "steca.samples",
}


def problems(config: RunConfig) -> Iterator[Problem]:
    """Sections of other recipes, and fields that the config's own recipe does not read."""
    recipe = config.recipe
    for section in SECTIONS:
        if section != recipe and getattr(config, section) is not None:
            yield (
                (section, "recipe"),
                f"{section}: does nothing with recipe {recipe} -> remove it, or set recipe to "
                f"{section}",
            )
    for field in _UNREAD.get(recipe, ()):
        section, name = field.split(".")
        part = getattr(config, section)
        value = getattr(part, name)
        default = "expert" if field == "teacher.type" else type(part).model_fields[name].default
        if value != default:
            instead = _INSTEAD.get((recipe, field))
            remedy = f"set {instead} instead" if instead else "remove it"
            yield (
                (field, "recipe"),
                f"{field}: does nothing with recipe {recipe} ({value}) -> {remedy}",
            )
    step = config.step
    if step is not None and step.rounds == 1 and step.revisit != "unkept":
        yield (
            ("step.revisit", "step.rounds"),
            f"step.revisit: does nothing with one round ({step.revisit}) -> remove it, or raise "
            "step.rounds",
        )
    if config.eto is not None and config.eto.rollouts > 1 and not config.eto.temperature:
        yield (
            ("eto.rollouts", "eto.temperature"),
            f"eto.rollouts: at temperature 0 all are alike ({config.eto.rollouts}) -> use 1, or "
            "raise eto.temperature",
        )
    if config.steca is not None and config.training.normalize == "trajectory":
        yield (
            ("training.normalize", "recipe"),
            "training.normalize: trajectories that weigh the same have no weights of STeCa's "
            "(trajectory) -> leave it at token, or use turn",
        )
    if config.steca is not None and config.steca.rule == "code" and config.steca.delta:
        yield (
            ("steca.delta", "steca.rule"),
            f"steca.delta: does nothing with rule code ({config.steca.delta:g}) -> remove it, or "
            "set steca.rule to paper",
        )
    if recipe != "step" and config.training.loss != "cross_entropy":
        yield (
            ("training.loss", "recipe"),
            f"training.loss: the recipe {recipe} chooses its own losses ({config.training.loss}) "
            "-> leave it at cross_entropy",
        )


def _at(values: tuple[float, ...], number: int) -> float:
    return values[min(number, len(values)) - 1]
