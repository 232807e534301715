"""What a run will roughly cost, before anything starts: tokens, GPU hours, disk.

Lengths are those of ETO's published trajectories (bytes / 4); what no source gives is assumed, and
said to be: see ``ASSUMED``. A figure is good to a factor of two or three, no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from step_ray.config import RunConfig
from step_ray.config_recipes import StepConfig
from step_ray.config_teacher import LLMTeacherConfig, SelfTeacherConfig
from step_ray.recipes.resources import parameters
from step_ray.recipes.world import World, original_model

# Tokens and turns of a golden trajectory: ETO's files hold 18.5, 10.7 and 13.4 MB of 3,119, 1,824
# and 1,483 trajectories; turns are our estimate.
_GOLDEN = {"alfworld": (1480, 10), "webshop": (1470, 5), "scienceworld": (2260, 14)}
_OTHER = (1500, 10)
ASSUMED = (
    "an unaided episode has 1.5 times the expert's turns; a reply has 40 tokens, a review 120; "
    "half of all episodes have an error; a GPU does 312 TFLOP/s in bf16, of which "
    "training and prompts get 40 % and replies 5 %; prefixes are cached; a row "
    "takes 5 bytes a token on disk"
)
_FLOPS = 312e12
_TINY = 1.8e6
_BATCHED, _SPOKEN = 0.40, 0.05
_REPLY, _REVIEW, _LONGER = 40, 120, 1.5


@dataclass(frozen=True, slots=True)
class Cost:
    """``read`` and ``said``: tokens of prompts and of replies, by student and teacher; ``trained``
    tokens over all passes; ``gpu_hours`` None if a model's size is not known."""

    read: int
    said: int
    teacher_read: int
    teacher_said: int
    trained: int
    gpu_hours: float | None
    disk_gb: float


@dataclass(slots=True)
class _Sum:
    """Episodes and trained tokens, counted up stage by stage."""

    tokens: int  # of a golden trajectory
    turns: int
    read: float = 0.0
    said: float = 0.0
    reviewed: float = 0.0  # turns
    corrected: float = 0.0  # turns
    trained: float = 0.0
    rows: float = 0.0
    models: int = 0

    def play(self, episodes: float, share: float = 1.0) -> None:
        """Unaided or monitored episodes, of each of which the student plays ``share``."""
        length = _LONGER * self.tokens
        self.read += episodes * length
        self.said += episodes * share * _LONGER * self.turns * _REPLY
        self.rows += episodes * length

    def train(self, trajectories: float, epochs: int) -> None:
        self.trained += trajectories * self.tokens * epochs
        self.models += 1


def estimate(config: RunConfig, world: World) -> Cost:
    """The cost of the whole run, of all its stages done once."""
    count = _Sum(*_GOLDEN.get(world.name, _OTHER))
    tasks, epochs = len(world.train), config.training.epochs
    count.rows += tasks * count.tokens
    {"step": _step, "eto": _eto, "steca": _steca}[config.recipe](config, count, tasks, epochs)
    students = count.models + config.evaluation.original
    worlds = (world, *world.transfer.values())
    held_out = sum(len(tasks) for one in worlds for tasks in one.held_out.values())
    count.play(students * held_out * len(config.evaluation.seeds))
    teacher_read = count.reviewed * (count.tokens / count.turns) + count.corrected * count.tokens
    teacher_said = count.reviewed * _REVIEW + count.corrected * 2 * _REVIEW
    student_size = size_of(original_model(config))
    teacher_size: float | None = 0.0
    if isinstance(config.teacher, LLMTeacherConfig):
        teacher_size = size_of(config.teacher.model.model)
    elif isinstance(config.teacher, SelfTeacherConfig):
        teacher_size = student_size
    else:
        teacher_read = teacher_said = 0.0
    hours: float | None = None
    if student_size is not None and teacher_size is not None:
        again = 4 / 3 if config.training.gradient_checkpointing else 1.0
        work = (
            6 * again * student_size * count.trained / _BATCHED
            + 2 * (student_size * count.read + teacher_size * teacher_read) / _BATCHED
            + 2 * (student_size * count.said + teacher_size * teacher_said) / _SPOKEN
        )
        hours = work / _FLOPS / 3600
    return Cost(
        read=round(count.read),
        said=round(count.said),
        teacher_read=round(teacher_read),
        teacher_said=round(teacher_said),
        trained=round(count.trained),
        gpu_hours=hours,
        disk_gb=(5 * count.rows + 4 * (student_size or 0) * count.models) / 1e9,
    )


def as_text(cost: Cost) -> Iterator[str]:
    """The estimate in lines for a person."""
    hours = "unknown: a model's size is in neither its folder nor its name"
    if cost.gpu_hours is not None:
        hours = f"about {cost.gpu_hours:,.0f} (A100)" if cost.gpu_hours >= 1 else "under 1 (A100)"
    yield (
        f"tokens       trained {_round(cost.trained)}; student reads {_round(cost.read)}, says "
        + (
            f"{_round(cost.said)}; teacher reads {_round(cost.teacher_read)}, says "
            f"{_round(cost.teacher_said)}"
        )
    )
    yield f"GPU hours    {hours}"
    yield f"disk         about {cost.disk_gb:,.1f} GB, models in float32"
    yield f"assumed      {ASSUMED}"


def size_of(model: str | Path | None) -> float | None:
    """Number of a model's parameters: from its weights, or from a name like 7b; None if neither
    says it. ``model`` None is a tiny model that is made on the spot."""
    if model is None:
        return _TINY
    folder = Path(model).expanduser()
    if known := parameters(folder):
        return float(known)
    found = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)b(?![a-z0-9])", folder.name.lower())
    return float(found[1]) * 1e9 if found else None


def _step(config: RunConfig, count: _Sum, tasks: int, epochs: int) -> None:
    first = config.golden.fraction * tasks
    rules, start = config.step or StepConfig(), 0 if config.training.sequential else first
    unkept, kept = tasks - first, 0.0
    count.train(first, epochs)
    for _ in range(rules.rounds):
        playing = tasks - first if rules.revisit == "all" else unkept
        episodes = playing * config.synthesis.rollouts
        count.play(episodes)
        count.reviewed += episodes * _LONGER * count.turns
        count.corrected += episodes * 0.5
        kept = episodes * 0.5 + (0 if config.training.sequential else kept)
        count.train(start + kept, epochs)
        unkept *= 0.5
    count.train(tasks, epochs)


def _eto(config: RunConfig, count: _Sum, tasks: int, epochs: int) -> None:
    rules = config.eto
    assert rules is not None
    count.train(tasks, epochs)
    for _ in range(rules.iterations):
        count.play(tasks * rules.rollouts)
        # Both sides, the longer one too, and once more for the reference.
        pairs = 0.5 * tasks * rules.rollouts
        count.train(pairs * (1 + _LONGER), rules.epochs)


def _steca(config: RunConfig, count: _Sum, tasks: int, epochs: int) -> None:
    rules = config.steca
    assert rules is not None
    count.train(tasks, epochs)
    states = min(rules.tasks or tasks, tasks) * count.turns
    count.play(states, 0.5)
    count.play(0.5 * states * 3 * rules.samples, 0.5)
    count.corrected = 0.25 * states
    count.rows += count.corrected * count.tokens
    count.train(states * 0.5, rules.epochs)


def _round(tokens: float) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:.3g} {name}"
    return f"{tokens:.0f}"
