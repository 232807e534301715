"""BM25 search that ranks as WebShop's Lucene index does.

Scores are those of Lucene's BM25Similarity (k1 0.9, b 0.4): the length of a document is kept in
one byte, parts of a score are 32-bit floats that are summed as 64-bit ones and rounded; equal
scores are ordered by asin (Anserini).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from step_ray.envs.webshop.tokens import terms

K1, B = np.float32(0.9), np.float32(0.4)
HITS = 50  # results of a search
_BLOCKS = 2000

Lookup = Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class Index:
    """Inverted index. Documents are numbered in the order of their asins.

    ``lookup`` numbers the terms. The postings of term t lie at ``starts[t]`` to ``starts[t+1]``:
    ``documents`` in ascending order, and Lucene's ``saturations`` 1 + tf / (k1 * norm).
    ``positions[d]`` is the place of document d in the catalogue.
    """

    lookup: Lookup
    starts: NDArray[np.int64]
    documents: NDArray[np.int32]
    saturations: NDArray[np.float32]
    positions: NDArray[np.int32]

    def search(self, text: str) -> list[int]:
        """The best 50 products for a query, as places in the catalogue, best first."""
        scores: NDArray[np.float64] | None = None
        for term, count in Counter(terms(text)).items():
            number = self.lookup(term)
            if number is None:
                continue
            begin, end = int(self.starts[number]), int(self.starts[number + 1])
            weight = np.float32(count) * _idf(end - begin, len(self.positions))
            if scores is None:
                scores = np.zeros(len(self.positions), dtype=np.float64)
            part = weight - weight / self.saturations[begin:end]
            # Twice as fast as indexing with +=, but only for these types.
            np.add.at(scores, self.documents[begin:end].astype(np.intp), part.astype(np.float64))
        return [] if scores is None else self._best(scores.astype(np.float32))

    def _best(self, scores: NDArray[np.float32]) -> list[int]:
        """Places of the documents with the highest scores above 0."""
        # The 50th highest of the blocks' maxima is a bound that few documents reach.
        starts = np.arange(0, len(scores), max(1, len(scores) // _BLOCKS))
        highest = np.maximum.reduceat(scores, starts)
        enough = len(highest) >= HITS
        bound = np.partition(highest, -HITS)[-HITS] if enough else np.float32(0)
        found = np.flatnonzero((scores >= bound) & (scores > 0))
        best = found[np.argsort(-scores[found], kind="stable")[:HITS]]
        return [int(place) for place in self.positions[best]]


def norms(lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """1 / (k1 * (1 - b + b * length / mean length)) of every document, from its coded length."""
    if not len(lengths):
        return np.zeros(0, dtype=np.float32)
    mean = np.float32(lengths.sum() / np.float64(len(lengths)))
    one = np.float32(1)
    coded = _one_byte(lengths).astype(np.float32)
    return one / (K1 * ((one - B) + B * coded / mean))


def _idf(containing: int, total: int) -> np.float32:
    return np.float32(np.log(1 + (total - containing + 0.5) / (containing + 0.5)))


def _one_byte(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lengths after Lucene's SmallFloat coding: exact below 40, then with 4 significant bits."""
    above = np.maximum(lengths - 24, 1)
    shift = np.maximum(np.floor(np.log2(above)).astype(np.int64) - 3, 0)
    return np.where(lengths < 40, lengths, 24 + (above >> shift << shift))
