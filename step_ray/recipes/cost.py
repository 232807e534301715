"""What a run will roughly cost, before anything starts: tokens, hours, disk.

How long episodes are is in :mod:`step_ray.recipes.lengths`; what no source gives is assumed, and
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
from step_ray.recipes.disk import published_bytes, training_bytes
from step_ray.recipes.lengths import Lengths, lengths
from step_ray.recipes.resources import parameters
from step_ray.recipes.world import World, original_model

ASSUMED = (
    "golden trajectories are as long as the packaged expert's of their task types, or as ETO's with"
    " official data of all types; half of all unaided episodes fail at their limit of turns, the "
    "others have 1.5 times the expert's; a monitored one has the expert's turns and half as many "
    "corrections; half of all episodes are kept, or make a pair; a reply has 40 tokens, a review "
    "120; a GPU does 312 TFLOP/s in bf16, of which training and prompts get 40 % and replies 5 %; "
    "a CPU core, one of two at work, trains 1,600 tokens of the tiny model a second, of another by "
    "its parameters, prompts and replies in a GPU's proportions; environments take no time; "
    "prefixes are cached; a row takes 5 bytes a token on disk; a model has its start's number "
    "format, of 2 bytes if it is not there yet, and a running checkpoint 12 bytes a parameter, 6 "
    "with bf16_weights, next to none with LoRA"
)
_FLOPS = 312e12
_TINY = 1.8e6
_BATCHED, _SPOKEN = 0.40, 0.05
# Of a core: a seed of jobs/configs/compare.yaml trained its step student of 1,747,968 parameters on
# 5 x 249,886 tokens in 387 s, on two cores.
_CORE = 6 * 1_747_968 * 1600
# A seed of jobs/configs/compare_scienceworld.yaml (compare.yaml): 3,080 replies of the step student
# have 122,080 tokens; 137 (250) monitored episodes have 940 (2,237) turns, 628 (1,541) of them the
# student's, where the expert takes 4.4 (6.1).
_REPLY, _REVIEW, _CORRECTIONS = 40, 120, 0.5
_KEPT = 0.5
# Of three runs of compare.yaml: 400, 545 and 300 continuations of 151, 180 and 151 explored states,
# 5 samples each.
_VALUED = 0.5


@dataclass(frozen=True, slots=True)
class Cost:
    """``read`` and ``said``: tokens of prompts and of replies, by student and teacher; ``trained``
    tokens over all passes; ``gpu_hours`` None if a model's size is not known; ``cpu_hours`` of one
    core for the student, None also where it is on GPUs; ``checkpoints_gb``: what is on the disk
    besides while a model is trained, at most."""

    read: int
    said: int
    teacher_read: int
    teacher_said: int
    trained: int
    gpu_hours: float | None
    cpu_hours: float | None
    disk_gb: float
    checkpoints_gb: float


@dataclass(slots=True)
class _Sum:
    """Episodes and trained tokens, counted up stage by stage."""

    config: RunConfig
    tasks: int
    train_in: Lengths
    read: float = 0.0
    said: float = 0.0
    teacher_read: float = 0.0
    teacher_said: float = 0.0
    trained: float = 0.0
    scored: float = 0.0  # tokens of a reference's pass
    rows: float = 0.0
    models: int = 0
    steps: float = 0.0  # of the longest training

    def play(self, episodes: float, where: Lengths, begun: float = 0.0) -> None:
        """Unaided episodes, of each of which ``begun`` turns are given."""
        length = where.tokens(where.unaided)
        self.read += episodes * length
        self.said += episodes * (where.unaided - begun) * _REPLY
        self.rows += episodes * length

    def watch(self, episodes: float) -> float:
        """Monitored episodes; returns the tokens of one."""
        where, most = self.train_in, self.config.synthesis.abort_errors
        own = min(where.golden, where.limit)
        corrections = min(_CORRECTIONS * own, most)
        length = where.tokens(min(own + corrections, where.limit))
        self.read += episodes * length
        self.said += episodes * own * _REPLY
        self.rows += episodes * length
        self.review(episodes * own, episodes * corrections, episodes * length)
        return length

    def review(self, turns: float, corrections: float, tokens: float) -> None:
        """``tokens``: of the reviewed turns; a correction reads the whole chat."""
        where = self.train_in
        self.teacher_read += tokens + corrections * where.tokens(where.golden)
        self.teacher_said += (turns + 2 * corrections) * _REVIEW

    def train(self, samples: float, tokens: float, epochs: int, batch: int | None) -> None:
        """``tokens`` of all ``samples``, of which ``batch`` make a step, or training's tokens."""
        self.trained += tokens * epochs
        self.models += 1
        whole, each = (samples, batch) if batch else (tokens, self.config.training.tokens_per_batch)
        self.steps = max(self.steps, epochs * whole / each)

    def show(self, trajectories: float, more: float = 0.0, length: float = 0.0) -> None:
        """Training on golden trajectories, and on ``more`` of another ``length``."""
        training, where = self.config.training, self.train_in
        tokens = trajectories * where.tokens(where.golden) + more * length
        self.train(trajectories + more, tokens, training.epochs, training.samples_per_batch)


def estimate(config: RunConfig, world: World) -> Cost:
    """The cost of the whole run, of all its stages done once."""
    test, tasks = config.evaluation, world.train
    most = (config.golden.max_steps, config.student.context)
    where = lengths(config.env, tasks, config.env.max_steps, *most)
    count = _Sum(config, len(tasks), where)
    count.rows += len(tasks) * where.tokens(where.golden)
    {"step": _step, "eto": _eto, "steca": _steca}[config.recipe](config, count)
    students = count.models + test.original
    there = [(config.env, world, test.max_steps)]
    for name, one in world.transfer.items():
        there.append((config.transfer[name].env, one, config.transfer[name].max_steps))
    for env, one, max_steps in there:
        held_out = [task for tasks in one.held_out.values() for task in tasks]
        episodes = students * len(held_out) * len(test.seeds)
        count.play(episodes, lengths(env, held_out, max_steps, *most))
    student_size = size_of(original_model(config))
    teacher_size: float | None = 0.0
    if isinstance(config.teacher, LLMTeacherConfig):
        teacher_size = size_of(config.teacher.model.model)
    elif isinstance(config.teacher, SelfTeacherConfig):
        teacher_size = student_size
    else:
        count.teacher_read = count.teacher_said = 0.0
    own: float | None = None  # FLOPs of a device that were busy with nothing else
    reviews: float | None = None
    if student_size is not None:
        again = 4 / 3 if config.training.gradient_checkpointing else 1.0
        passes = 6 * again * count.trained + 2 * (count.read + count.scored)
        own = student_size * (passes / _BATCHED + 2 * count.said / _SPOKEN)
    if teacher_size is not None:
        asked = count.teacher_read / _BATCHED + count.teacher_said / _SPOKEN
        reviews = 2 * teacher_size * asked
    cores: float | None = None
    if own is not None and not config.training.use_gpu and not config.student.gpus_per_replica:
        itself = reviews if isinstance(config.teacher, SelfTeacherConfig) else None
        cores = (own + (itself or 0.0)) * _BATCHED / _CORE / 3600
    published, size = published_bytes(original_model(config)), student_size or 0
    meanwhile = training_bytes(config.training, count.steps, published)
    return Cost(
        read=round(count.read),
        said=round(count.said),
        teacher_read=round(count.teacher_read),
        teacher_said=round(count.teacher_said),
        trained=round(count.trained),
        gpu_hours=None if own is None or reviews is None else (own + reviews) / _FLOPS / 3600,
        cpu_hours=cores,
        disk_gb=(5 * count.rows + count.models * published * size) / 1e9,
        checkpoints_gb=meanwhile * size / 1e9,
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
    if cost.cpu_hours is not None:
        figure = f"{cost.cpu_hours:,.0f}" if cost.cpu_hours >= 10 else f"{cost.cpu_hours:.2g}"
        yield f"CPU hours    about {figure} of one core for the student, if it has no GPU"
    more = f"and up to {_size(cost.checkpoints_gb)} more while a model is trained"
    yield f"disk         about {_size(cost.disk_gb)}, {more}"
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


def _step(config: RunConfig, count: _Sum) -> None:
    tasks = count.tasks
    first = config.golden.fraction * tasks
    rules, start = config.step or StepConfig(), 0 if config.training.sequential else first
    unkept, kept = tasks - first, 0.0
    count.show(first)
    for _ in range(rules.rounds):
        playing = tasks - first if rules.revisit == "all" else unkept
        episodes = playing * config.synthesis.rollouts
        length = count.watch(episodes)
        kept = episodes * _KEPT + (0 if config.training.sequential else kept)
        count.show(start, kept, length)
        unkept *= 1 - _KEPT
    count.show(tasks)
    if rules.golden_same:
        count.show(first + kept)


def _eto(config: RunConfig, count: _Sum) -> None:
    rules, where = config.eto, count.train_in
    assert rules is not None
    count.show(count.tasks)
    worse = where.limit
    if rules.extra_turns is not None:
        worse = min(worse, where.golden + rules.extra_turns)
    pair = where.tokens(where.golden) + where.tokens(worse)
    for _ in range(rules.iterations):
        episodes = count.tasks * rules.rollouts
        count.play(episodes, where)
        pairs = _KEPT * episodes
        count.train(pairs, pairs * pair, rules.epochs, rules.pairs_per_batch)
        count.scored += pairs * pair  # once more, by the reference


def _steca(config: RunConfig, count: _Sum) -> None:
    rules, where = config.steca, count.train_in
    assert rules is not None
    count.show(count.tasks)
    states = min(rules.tasks or count.tasks, count.tasks) * where.golden
    begun, length = min(where.golden, where.limit) / 2, where.tokens(where.golden)
    count.play(states, where, begun)
    count.play(_VALUED * states * rules.samples, where, begun)
    corrected = 0.25 * states
    count.review(0, corrected, 0)
    count.rows += corrected * length
    count.train(states * 0.5, states * 0.5 * length, rules.epochs, rules.samples_per_batch)


def _round(tokens: float) -> str:
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:.3g} {name}"
    return f"{tokens:.0f}"


def _size(gb: float) -> str:
    return f"{gb:,.1f} GB" if gb >= 1 else f"{1000 * gb:.0f} MB"
