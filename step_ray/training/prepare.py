"""From trajectories to what a training begins with, and what a finished one gives back."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from step_ray import files, store
from step_ray.config_training import TrainConfig
from step_ray.lineage import SAMPLES as SAMPLES
from step_ray.models.fingerprint import model_fingerprint, tokenizer_fingerprint
from step_ray.models.load import load_tokenizer
from step_ray.training import table
from step_ray.training.checkpoint import TrainError, training_fingerprint
from step_ray.training.masks import VERSION, Counts, Sample, Weighted, tokenize_all
from step_ray.training.preferences import Pair, tokenize_pairs
from step_ray.training.rules import positions
from step_ray.training.table import NoSamples, TokenTable
from step_ray.training.tracking import check_trackers
from step_ray.trajectory import Trajectory, content_hash

MODEL = "model"

Rows = Callable[[], Iterable[Any]]
"""Gives all rows, and all of them again: those of a dataset are never in memory together."""

Data = (
    str
    | Path
    | Sequence[str]
    | Sequence[Path]
    | Iterable[Trajectory]
    | Iterable[Weighted]
    | Iterable[Pair]
    | Iterable[Sample]
    | TokenTable
)
"""Folders of published datasets, one or several (what is kept in them); trajectories (with weights,
or pairs of them); or samples already made: for DPO the chosen one of each pair, then the rejected
one."""


class Bar(Protocol):
    """Something that shows progress, such as ``step_ray.progress.StageProgress``."""

    def set(
        self, completed: int | None = None, total: int | None = None, **values: float
    ) -> None: ...

    def note(self, text: str) -> None: ...


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
    """Tokenises ``data`` with the tokenizer of ``model`` and writes it to ``output``; what is there
    already, or in ``config.token_cache``, is not tokenised again.

    Raises :class:`TrainError` if nothing of it can be trained on.
    """
    check_trackers(config)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainError(files.explain(error, output)) from None
    path = output / SAMPLES
    if isinstance(data, TokenTable):
        counts = Counts(samples=len(data), tokens=sum(data.lengths))
        counts.trained_tokens = sum(data.trained)
        samples, facts = data, dataclasses.asdict(counts)
        table.write(samples, path)
    else:
        rows = _rows(data)
        if config.turn_weights is not None:
            rows = functools.partial(_weighted, rows, config.turn_weights.expanduser())
        samples, facts = _cached(rows, model, path, config)
    if config.loss == "dpo" and len(samples) % 2:
        raise TrainError(f"DPO takes samples in pairs, chosen and rejected; {len(samples)} is odd")
    fingerprint = training_fingerprint(config, samples, model_fingerprint(model))
    return Prepared(samples, path, fingerprint, facts)


def _rows(data: Any) -> Rows:
    if isinstance(data, str | Path):
        data = [data]
    rows = list(data)
    if not all(isinstance(one, str | Path) for one in rows):
        return lambda: rows
    return lambda: (row for folder in rows for row in store.read(folder))


def _weighted(rows: Rows, path: Path) -> Iterator[Weighted]:
    """Trajectories with the weights that a file has for their turns."""
    try:
        found = pq.read_table(path, columns=["id", "weights"]).to_pydict()
    except (OSError, pa.ArrowInvalid) as error:
        raise TrainError(
            f"training.turn_weights: no Parquet file with columns id and weights: {path} ({error})"
        ) from error
    weights = dict(zip(found["id"], found["weights"], strict=True))
    for row in rows():
        if not isinstance(row, Trajectory):
            raise TrainError(
                "training.turn_weights is for trajectories without weights of their own"
            )
        if row.id not in weights:
            raise TrainError(f"training.turn_weights: {path} has no weights for {row.id}")
        given = tuple(weights[row.id] or ())
        if len(given) != len(row.turns) or not all(
            isinstance(weight, float | int) and 0 <= weight < math.inf for weight in given
        ):
            raise TrainError(
                f"training.turn_weights: {path} has {list(given)} for {row.id}; give a number >= 0"
                f" for each of its {len(row.turns)} turns"
            )
        yield Weighted(row, given)


def _cached(
    rows: Rows, model: Path, path: Path, config: TrainConfig
) -> tuple[TokenTable, dict[str, Any]]:
    """The samples of the rows, and what became of these: read where they have been made before."""
    key = _key(rows, model, config)
    places = [path]
    if config.token_cache is not None:
        places.append(config.token_cache.expanduser() / f"{key}.parquet")
    for place in places:
        known = table.read_facts(place)
        if known.get("key") == key:
            samples, facts = table.read(place), known["counts"]
            break
    else:
        counts = Counts()
        samples = _samples(rows, model, config, counts)
        facts = dataclasses.asdict(counts)
    for place in places:
        if table.read_facts(place).get("key") != key:
            place.parent.mkdir(parents=True, exist_ok=True)
            table.write(samples, place, {"key": key, "counts": facts})
    return samples, facts


def _key(rows: Rows, model: Path, config: TrainConfig) -> str:
    """Equal for what is tokenised alike: rows, tokenizer and template, mask, lengths, loss."""
    data = hashlib.sha256()
    for row in rows():
        data.update(repr(row).encode("utf-8", "backslashreplace") + b"\n")
    how = config.model_dump(mode="json", include={"mask", "overlong", "loss", "normalize"})
    return content_hash(
        {
            "rows": data.hexdigest(),
            "tokenizer": tokenizer_fingerprint(model),
            "length": config.max_length or positions(model),
            "version": [VERSION, table.VERSION],
            **how,
        }
    )


def _samples(rows: Rows, model: Path, config: TrainConfig, counts: Counts) -> TokenTable:
    length = config.max_length or positions(model)
    try:
        return table.from_samples(_made(rows(), model, config, length, counts), config.normalize)
    except NoSamples:
        raise TrainError(
            f"nothing can be trained on: {counts.nothing_to_train} trajectories have no turn with a"
            f" weight in the mask, {counts.too_long} do not fit {length} tokens (max_length),"
            f" {counts.unfaithful} have text that the tokenizer cannot write,"
            f" {counts.worthless} have weights or a reward of 0"
        ) from None


def _made(
    rows: Iterable[Any], model: Path, config: TrainConfig, length: int | None, counts: Counts
) -> Iterator[Sample]:
    rows = iter(rows)
    first = next(rows, None)
    rows = () if first is None else itertools.chain([first], rows)
    if isinstance(first, Sample):
        for sample in rows:
            counts.add(sample)
            yield sample
        return
    how = (load_tokenizer(model), config.mask, length, counts, config.overlong)
    if config.loss == "dpo":
        yield from tokenize_pairs(_of_kind(rows, config), *how)
    else:
        by_reward = config.loss == "reward_weighted"
        yield from tokenize_all(_of_kind(rows, config), *how, by_reward=by_reward)


def _of_kind(rows: Iterable[Any], config: TrainConfig) -> Iterator[Any]:
    """Refuses data of another loss: nothing of it would be ignored in silence."""
    kinds = {
        "dpo": ((Pair,), "pairs (step_ray.training.preferences.Pair)"),
        "reward_weighted": ((Trajectory, Weighted), "trajectories, with or without weights"),
        "cross_entropy": ((Trajectory,), "trajectories without weights"),
    }
    wanted, name = kinds[config.loss]
    for row in rows:
        if not isinstance(row, wanted):
            raise TrainError(
                f"loss {config.loss} is of {name}, and there is a {type(row).__name__} in the data:"
                " set training.loss to what the data is for"
            )
        yield row
