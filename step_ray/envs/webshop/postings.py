"""Builds the inverted index: in memory, or on disk for catalogues larger than memory."""

from __future__ import annotations

import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from step_ray.envs.webshop.search import Index, Lookup, norms
from step_ray.envs.webshop.tokens import terms

_BATCH = 20_000  # documents counted at once
_ARRAYS = ("starts", "documents", "saturations", "positions")

Allocate = Callable[[str, int, type[Any]], NDArray[Any]]


class Counts(NamedTuple):
    """How often which terms occur in some documents: parallel arrays, and the lengths in terms."""

    terms: NDArray[np.int32]
    documents: NDArray[np.int32]
    counts: NDArray[np.int32]
    lengths: NDArray[np.int64]


def build_index(documents: Iterable[tuple[str, str]]) -> Index:
    """An index in memory over (asin, text) pairs in the catalogue's order."""
    given = list(documents)
    order = sorted(range(len(given)), key=lambda place: given[place][0])
    numbers: dict[str, int] = {}
    counted = list(count_terms((given[place][1] for place in order), numbers))
    starts, found, saturations = invert(
        counted, len(numbers), lambda _, size, kind: np.empty(size, dtype=kind)
    )
    return Index(numbers.get, starts, found, saturations, np.array(order, dtype=np.int32))


def store_index(folder: Path, documents: Iterable[str], positions: Sequence[int]) -> dict[str, int]:
    """Writes the index of ``documents``, given in the order of their asins, into ``folder``.

    ``positions``: the documents' places in the catalogue. Returns the terms' numbers, which
    :func:`open_index` has to be given. Holds a batch of documents in memory, not all.
    """
    numbers: dict[str, int] = {}
    batches = []
    for number, counted in enumerate(count_terms(documents, numbers)):
        batches.append(folder / f"batch-{number}.npz")
        np.savez(batches[-1], *counted)

    def allocate(name: str, size: int, kind: type[Any]) -> NDArray[Any]:
        path, shape = folder / f"{name}.npy", (size,)
        made: NDArray[Any] = open_memmap(path, "w+", np.dtype(kind), shape)  # type: ignore[no-untyped-call]
        return made

    invert(_Spooled(batches), len(numbers), allocate)
    np.save(folder / "positions.npy", np.array(positions, dtype=np.int32))
    for batch in batches:
        batch.unlink()
    return numbers


def open_index(folder: Path, lookup: Lookup) -> Index:
    """The index that :func:`store_index` wrote, mapped into memory."""
    return Index(lookup, *(mapped(folder / f"{name}.npy") for name in _ARRAYS))


def mapped(path: Path) -> NDArray[Any]:
    """An array that stays in its file; processes share what the system has read of it."""
    return np.asarray(np.load(path, mmap_mode="r"))


class _Spooled:
    """Counts that were written to disk; can be gone through several times."""

    def __init__(self, batches: Sequence[Path]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Counts]:
        for batch in self._batches:
            with np.load(batch) as arrays:
                yield Counts(*(arrays[f"arr_{place}"] for place in range(4)))


def count_terms(documents: Iterable[str], numbers: dict[str, int]) -> Iterator[Counts]:
    """Counts the terms of documents batch by batch; new terms get the next number."""
    given = enumerate(documents)
    while batch := list(itertools.islice(given, _BATCH)):
        found, owners, counts, lengths = array("i"), array("i"), array("i"), array("q")
        for document, text in batch:
            counted = Counter(terms(text))
            found.extend([numbers.setdefault(term, len(numbers)) for term in counted])
            owners.extend([document] * len(counted))
            counts.extend(counted.values())
            lengths.append(counted.total())
        yield Counts(
            np.array(found, dtype=np.int32),
            np.array(owners, dtype=np.int32),
            np.array(counts, dtype=np.int32),
            np.array(lengths, dtype=np.int64),
        )


def invert(
    batches: Iterable[Counts], size: int, allocate: Allocate
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """``starts``, ``documents`` and ``saturations`` of an :class:`Index` with ``size`` terms.

    ``batches`` are gone through twice; ``allocate(name, length, type)`` gives the arrays.
    """
    containing = np.zeros(size, dtype=np.int64)
    lengths = [np.zeros(0, dtype=np.int64)]
    for batch in batches:
        containing += np.bincount(batch.terms, minlength=size)
        lengths.append(batch.lengths)
    norm = norms(np.concatenate(lengths))
    starts = allocate("starts", size + 1, np.int64)
    starts[0] = 0
    np.cumsum(containing, out=starts[1:])
    documents = allocate("documents", int(starts[-1]), np.int32)
    saturations = allocate("saturations", int(starts[-1]), np.float32)
    free = np.array(starts[:-1])  # where each term's next posting goes
    for batch in batches:
        order = np.argsort(batch.terms, kind="stable")
        sorted_terms, owners = batch.terms[order], batch.documents[order]
        sizes = np.bincount(sorted_terms, minlength=size)
        before = np.cumsum(sizes) - sizes
        target = np.arange(len(order)) + (free - before)[sorted_terms]
        documents[target] = owners
        saturations[target] = 1 + batch.counts[order].astype(np.float32) * norm[owners]
        free += sizes
    return starts, documents, saturations
