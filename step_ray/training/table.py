"""Tokenised samples as flat arrays and as one Parquet file: what every training worker reads.

Arrays grow in unnamed files of the folder for temporary ones (``TMPDIR``) and are mapped into
memory from there, 9 bytes a token: of a table of any size, a process needs the pages in memory that
it is just at work on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
_TOKENS_AT_ONCE = 2**21
"""In a row group, about: what is in memory when a table is read or written."""
_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("input_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("loss_weights", pa.list_(pa.float32()), nullable=False),
        pa.field("verdicts", pa.list_(pa.int8()), nullable=False),
    ]
)


class NoSamples(ValueError):  # noqa: N818 - a property of the data, not a defect
    """There is nothing to train on."""


@dataclass(frozen=True, eq=False)
class TokenTable:
    """Samples end to end: sample i is ``[offsets[i], offsets[i + 1])`` of the flat arrays.

    ``ids`` int32, ``weights`` float32 (of the prediction of each token, normalised as asked),
    ``verdicts`` int8 codes into :data:`CLASSES` of all that the model says, trained or not. Arrays
    of a table that was read or made of samples cannot be written to.
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
        return [int(n) for n in self._per_sample(lambda weights: weights > 0, np.int64)]

    @property
    def weight_sums(self) -> list[float]:
        """The sum of each sample's weights, in double precision."""
        return [float(value) for value in self._per_sample(np.asarray, np.float64)]

    def _per_sample(self, of: Callable[[Any], Any], kind: type[np.generic]) -> Iterator[Any]:
        for first, last in self.blocks():
            start, end = self.offsets[first], self.offsets[last]
            places = self.offsets[first:last] - start
            yield from np.add.reduceat(of(self.weights[start:end]), places, dtype=kind)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """All samples in ranges (first, end) of about as many tokens as are worked on at once."""
        first = 0
        while first < len(self):
            most = self.offsets[first] + _TOKENS_AT_ONCE
            last = max(first + 1, int(np.searchsorted(self.offsets, most, "right")) - 1)
            yield first, last
            first = last

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the loss depends on, in order."""
        total = hashlib.sha256()
        for array in (self.offsets, self.ids, self.weights, self.verdicts):
            total.update(np.ascontiguousarray(array).data)
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


class _Growing:
    """An array that grows in a file without a name, which goes with the process."""

    def __init__(self, kind: type[np.generic]) -> None:
        self._kind = kind
        self._file = tempfile.TemporaryFile(prefix="step-ray-")  # noqa: SIM115 - lives as long

    def add(self, values: Any) -> None:
        self._file.write(np.ascontiguousarray(values, dtype=self._kind).data)

    def whole(self) -> Any:
        """All of it, mapped: pages are read when they are used, and may leave memory again."""
        self._file.flush()
        return np.frombuffer(
            mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ), dtype=self._kind
        )


class _Builder:
    """A table in the making."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._lengths: list[int] = []
        self._columns = (_Growing(np.int32), _Growing(np.float32), _Growing(np.int8))

    def add(self, names: Sequence[str], lengths: Sequence[int], *columns: Any) -> None:
        """Some samples' names and lengths; their ids, weights and verdicts end to end."""
        self._names += names
        self._lengths += lengths
        for column, values in zip(self._columns, columns, strict=True):
            column.add(values)

    def table(self) -> TokenTable:
        """Raises :class:`NoSamples` if there are none."""
        if not self._names:
            raise NoSamples("there are no samples to train on: no trajectory has a trained turn")
        ids, weights, verdicts = (column.whole() for column in self._columns)
        offsets = np.cumsum([0, *self._lengths], dtype=np.int64)
        return TokenTable(tuple(self._names), offsets, ids, weights, verdicts)


def from_samples(samples: Iterable[Sample], normalize: Normalize = "token") -> TokenTable:
    """Packs samples, with their weights as :func:`~step_ray.training.losses.reweight` makes them.

    Raises :class:`NoSamples` if there are none.
    """
    made = _Builder()
    for sample in samples:
        codes = np.full(len(sample.input_ids), -1, dtype=np.int8)
        turns: list[TrainedSpan | MaskedSpan] = [*sample.spans, *sample.masked]
        for span in turns:
            codes[span.start : span.end] = CLASSES.index(span.verdict)
        weights = reweight(sample, normalize)
        made.add([sample.id], [len(codes)], sample.input_ids, weights, codes)
    return made.table()


def write(table: TokenTable, path: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Writes a table as one Parquet file, wholly or not at all, with JSON-like ``facts`` of it."""
    schema = _SCHEMA.with_metadata({_FACTS: json.dumps(dict(facts or {}))})
    with (
        files.atomic(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for first, last in table.blocks():
            writer.write_table(_arrow(table, first, last, schema))


def _arrow(table: TokenTable, first: int, last: int, schema: pa.Schema) -> pa.Table:
    """Some of a table's samples, as rows."""
    start, end = int(table.offsets[first]), int(table.offsets[last])
    offsets = pa.array(table.offsets[first : last + 1] - start, pa.int32())
    columns = [
        pa.ListArray.from_arrays(offsets, pa.array(array[start:end], kind))
        for array, kind in (
            (table.ids, pa.int32()),
            (table.weights, pa.float32()),
            (table.verdicts, pa.int8()),
        )
    ]
    names = pa.array(table.names[first:last], pa.string())
    return pa.Table.from_arrays([names, *columns], schema=schema)


def read_facts(path: Path) -> dict[str, Any]:
    """What :func:`write` was told of a table; empty if there is no such file."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((pq.read_schema(path).metadata or {}).get(_FACTS.encode(), b"{}"))
        return found if isinstance(found, dict) else {}
    return {}


def read(path: Path) -> TokenTable:
    """Reads what :func:`write` wrote, in the same order."""
    made = _Builder()
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group).cast(_SCHEMA).combine_chunks()
            lengths = pa.compute.list_value_length(rows.column("input_ids")).to_pylist()
            columns = (
                rows.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
                for name in ("input_ids", "loss_weights", "verdicts")
            )
            made.add(rows.column("id").to_pylist(), lengths, *columns)
    return made.table()
