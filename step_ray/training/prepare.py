"""From trajectories to what a training begins with, and what a finished one gives back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from step_ray import store
from step_ray.models.fingerprint import model_fingerprint
from step_ray.models.load import load_tokenizer
from step_ray.training import table
from step_ray.training.checkpoint import TrainError, training_fingerprint
from step_ray.training.config import TrainConfig
from step_ray.training.masks import Counts, Sample, tokenize_all
from step_ray.training.table import TokenTable
from step_ray.trajectory import Trajectory

SAMPLES = "samples.parquet"
MODEL = "model"

Data = str | Path | Iterable[Trajectory] | Iterable[Sample] | TokenTable
"""A published dataset's folder (what is kept in it), trajectories, or samples already made."""


class Bar(Protocol):
    """Something that shows progress, such as ``step_ray.progress.StageProgress``."""

    def set(
        self, completed: int | None = None, total: int | None = None, **values: float
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A finished training: ``model`` is a plain Hugging Face folder.

    ``metrics`` are the last step's; ``seconds`` is the time in the loop, over all attempts;
    ``facts`` say what became of the data.
    """

    model: Path
    metrics: dict[str, float]
    seconds: float
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What workers are started with."""

    samples: TokenTable
    path: Path
    fingerprint: str
    facts: dict[str, Any]


def prepare(model: Path, data: Data, output: Path, config: TrainConfig) -> Prepared:
    """Tokenises ``data`` with the tokenizer of ``model`` and writes it to ``output``.

    Raises :class:`TrainError` if nothing of it can be trained on.
    """
    output.mkdir(parents=True, exist_ok=True)
    counts = Counts()
    samples = data if isinstance(data, TokenTable) else _samples(model, data, config, counts)
    if isinstance(data, TokenTable):
        counts.samples, counts.tokens = len(samples), int(samples.offsets[-1])
        counts.trained_tokens = int((samples.weights > 0).sum())
    path = output / SAMPLES
    table.write(samples, path)
    fingerprint = training_fingerprint(config, samples, model_fingerprint(model))
    return Prepared(samples, path, fingerprint, dataclasses.asdict(counts))


def _samples(
    model: Path, data: str | Path | Iterable[Any], config: TrainConfig, counts: Counts
) -> TokenTable:
    tokenizer = load_tokenizer(model)
    rows = list(store.read(data) if isinstance(data, str | Path) else data)
    samples = [row for row in rows if isinstance(row, Sample)]
    if samples:
        for sample in samples:
            counts.add(sample)
    else:
        length = config.max_length or _positions(model)
        samples = list(tokenize_all(rows, tokenizer, config.mask, length, counts))
    if not samples:
        raise TrainError(
            f"none of {len(rows)} trajectories can be trained on: {counts.nothing_to_train} have no"
            f" turn with a weight in the mask, {counts.too_long} do not fit max_length,"
            f" {counts.unfaithful} have text that the tokenizer cannot write"
        )
    return table.from_samples(samples, config.normalize)


def _positions(model: Path) -> int | None:
    """The longest text a model's configuration allows, in tokens, if it says so."""
    found = json.loads((model / "config.json").read_text("utf-8")).get("max_position_embeddings")
    return found if isinstance(found, int) and found > 0 else None
