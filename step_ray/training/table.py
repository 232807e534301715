"""Tokenised samples as flat arrays and as one Parquet file: what every training worker reads."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from step_ray import files
from step_ray.training.losses import Normalize, reweight
from step_ray.training.masks import MaskedSpan, Sample, TrainedSpan
from step_ray.trajectory import Verdict

CLASSES: tuple[Verdict, ...] = get_args(Verdict)
"""Verdicts in the order of their codes; the code of a token that no turn says is -1."""

# Kernels keep what they compile for every new shape: without rounding, a training on CPU grows by
# megabytes with every step.
_WIDTH = 32

VERSION = 1
"""Raised when the same samples become another table."""
_FACTS = "step_ray.facts"
_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("input_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("loss_weights", pa.list_(pa.float32()), nullable=False),
        pa.field("verdicts", pa.list_(pa.int8()), nullable=False),
    ]
)


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Samples end to end: sample i is ``[offsets[i], offsets[i + 1])`` of the flat arrays.

    ``ids`` int32, ``weights`` float32 (of the prediction of each token, normalised as asked),
    ``verdicts`` int8 codes into :data:`CLASSES` of all that the model says, trained or not.
    """

    names: tuple[str, ...]
    offsets: Any  # np.ndarray[int64], one more than samples
    ids: Any
    weights: Any
    verdicts: Any

    def __len__(self) -> int:
        return len(self.names)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sample."""
        return [int(length) for length in np.diff(self.offsets)]

    @property
    def trained(self) -> list[int]:
        """Tokens with a weight in each sample."""
        if not len(self):
            return []
        return [int(n) for n in np.add.reduceat(self.weights > 0, self.offsets[:-1], dtype=int)]

    @property
    def weight_sums(self) -> list[float]:
        """The sum of each sample's weights, in double precision."""
        if not len(self):
            return []
        sums = np.add.reduceat(self.weights.astype(np.float64), self.offsets[:-1])
        return [float(value) for value in sums]

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the loss depends on, in order."""
        total = hashlib.sha256()
        for array in (self.offsets, self.ids, self.weights, self.verdicts):
            total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()[:32]

    def padded(self, samples: Sequence[int], pad: int = 0) -> tuple[Any, Any, Any]:
        """(ids, weights, verdicts) of some samples as arrays [samples, width], padded right; the
        width is the longest sample's length, rounded up to a multiple of 32.

        Padding has weight 0; in a causal model no token before it sees it, whatever its id.
        """
        longest = max((int(self.offsets[i + 1] - self.offsets[i]) for i in samples), default=1)
        longest = -(-longest // _WIDTH) * _WIDTH
        ids = np.full((len(samples), longest), pad, dtype=np.int64)
        weights = np.zeros((len(samples), longest), dtype=np.float32)
        verdicts = np.full((len(samples), longest), -1, dtype=np.int8)
        for row, i in enumerate(samples):
            start, end = int(self.offsets[i]), int(self.offsets[i + 1])
            ids[row, : end - start] = self.ids[start:end]
            weights[row, : end - start] = self.weights[start:end]
            verdicts[row, : end - start] = self.verdicts[start:end]
        return ids, weights, verdicts

    def prefix(self, samples: Sequence[int]) -> int:
        """How many tokens some samples all begin with, up to a token before what one of them says:
        less than the shortest of them, 0 for one alone."""
        if len(samples) < 2:
            return 0
        said = [int(np.argmax(self.verdicts[self._slice(i)] >= 0)) for i in samples]
        most = min(said) - 1
        if most <= 0:
            return 0
        first, *others = (self.ids[self._slice(i)][:most] for i in samples)
        alike = np.logical_and.reduce([first == other for other in others])
        return most if alike.all() else int(np.argmin(alike))

    def _slice(self, sample: int) -> slice:
        return slice(int(self.offsets[sample]), int(self.offsets[sample + 1]))

    def packed(
        self, samples: Sequence[int], pad: int = 0, prefix: int = 0
    ) -> tuple[Any, Any, Any, Any]:
        """(ids, weights, verdicts) of some samples end to end, as arrays [1, tokens], and their
        lengths int64; the tokens are rounded up to a multiple of 32 by one more sample of padding.

        What all begin with, ``prefix`` tokens, is there once; it counts in each one's length.
        """
        wholes = [self._slice(i) for i in samples]
        lengths = [whole.stop - whole.start for whole in wholes]
        parts = wholes[:1] + [slice(whole.start + prefix, whole.stop) for whole in wholes[1:]]
        rest = -sum(part.stop - part.start for part in parts) % _WIDTH
        made = []
        for array, kind, fill in (
            (self.ids, np.int64, pad),
            (self.weights, np.float32, 0),
            (self.verdicts, np.int8, -1),
        ):
            tail = np.full(rest, fill, dtype=kind)
            made.append(np.concatenate([*(array[part] for part in parts), tail])[None].astype(kind))
        if rest:
            lengths.append(prefix + rest)
        return *made, np.asarray(lengths, dtype=np.int64)


def from_samples(samples: Iterable[Sample], normalize: Normalize = "token") -> TokenTable:
    """Packs samples, with their weights as :func:`~step_ray.training.losses.reweight` makes them.

    Raises ``ValueError`` if there are none.
    """
    names: list[str] = []
    lengths = [0]
    ids, weights, verdicts = [], [], []
    for sample in samples:
        codes = np.full(len(sample.input_ids), -1, dtype=np.int8)
        turns: list[TrainedSpan | MaskedSpan] = [*sample.spans, *sample.masked]
        for span in turns:
            codes[span.start : span.end] = CLASSES.index(span.verdict)
        names.append(sample.id)
        lengths.append(len(sample.input_ids))
        ids.append(np.asarray(sample.input_ids, dtype=np.int32))
        weights.append(np.asarray(reweight(sample, normalize), dtype=np.float32))
        verdicts.append(codes)
    if not names:
        raise ValueError("there are no samples to train on: no trajectory has a trained turn")
    return TokenTable(
        names=tuple(names),
        offsets=np.cumsum(lengths, dtype=np.int64),
        ids=np.concatenate(ids),
        weights=np.concatenate(weights),
        verdicts=np.concatenate(verdicts),
    )


def write(table: TokenTable, path: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Writes a table as one Parquet file, wholly or not at all, with JSON-like ``facts`` of it."""
    offsets = pa.array(table.offsets, pa.int32())
    columns = [
        pa.array(table.names, pa.string()),
        pa.ListArray.from_arrays(offsets, pa.array(table.ids, pa.int32())),
        pa.ListArray.from_arrays(offsets, pa.array(table.weights, pa.float32())),
        pa.ListArray.from_arrays(offsets, pa.array(table.verdicts, pa.int8())),
    ]
    with files.atomic(path) as temporary:
        schema = _SCHEMA.with_metadata({_FACTS: json.dumps(dict(facts or {}))})
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), temporary, compression="zstd")


def read_facts(path: Path) -> dict[str, Any]:
    """What :func:`write` was told of a table; empty if there is no such file."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((pq.read_schema(path).metadata or {}).get(_FACTS.encode(), b"{}"))
        return found if isinstance(found, dict) else {}
    return {}


def read(path: Path) -> TokenTable:
    """Reads what :func:`write` wrote, in the same order."""
    table = pq.read_table(path, schema=_SCHEMA).combine_chunks()

    def flat(name: str) -> Any:
        column = table.column(name).combine_chunks()
        return column.flatten().to_numpy(zero_copy_only=False)

    lengths = pa.compute.list_value_length(table.column("input_ids")).to_numpy()
    return TokenTable(
        names=tuple(table.column("id").to_pylist()),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        ids=flat("input_ids"),
        weights=flat("loss_weights"),
        verdicts=flat("verdicts"),
    )
