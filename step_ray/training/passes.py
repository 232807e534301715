"""Forward passes: which samples are computed together, and as what tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from step_ray.training.batches import micro_batches, share
from step_ray.training.group import Group
from step_ray.training.packing import first_fit_decreasing
from step_ray.training.table import TokenTable

_WORTH_SHARING = 32  # tokens; less is not worth the rearranging


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass. ``ids`` int64, ``weights`` float32 and ``verdicts`` int8 are
    [rows, positions]; ``lengths`` int64 [samples] where one row holds samples end to end.

    ``samples`` are indices of the table in the order of rows, or in the row; a worker without a
    share of a step has a pass without samples: a few tokens, none with a weight.
    """

    samples: tuple[int, ...]
    ids: Tensor
    weights: Tensor
    verdicts: Tensor
    lengths: Tensor | None
    prefix: int = 0
    tokens: int = 0


class Passes:
    """Makes the passes of one process. A unit is what stays together: a sample, or a pair.

    ``even`` gives every process the same number of passes: sharing a model's weights, they have to
    call it together. ``share``: what all samples of a packed row begin with is computed once.
    """

    def __init__(
        self,
        table: TokenTable,
        unit: int,
        micro_tokens: int,
        packed: bool,
        group: Group,
        even: bool = False,
        share: bool = False,
    ) -> None:
        self._table = table
        self._unit = unit
        self._micro_tokens = micro_tokens
        self._packed = packed
        self._group = group
        self._even = even
        self._share = share
        self._each = each = table.lengths
        units = [each[start : start + unit] for start in range(0, len(each), unit)]
        self.lengths = [sum(lengths) for lengths in units]
        """The tokens of each unit."""
        self._padded = [unit * max(lengths) for lengths in units]

    def of(self, units: Sequence[int]) -> Iterator[Pass]:
        """This process's passes of a batch of units; at least one."""
        rank, world = self._group.rank, self._group.world
        rows = self._rows(units, rank) or [[]]
        if self._even:
            most = max(len(self._rows(units, other)) for other in range(world))
            rows += [[]] * (most - len(rows))
        for row in rows:
            yield self._make(row)

    def _rows(self, units: Sequence[int], rank: int) -> list[list[int]]:
        mine = share(units, self.lengths, rank, self._group.world)
        if self._packed:
            return first_fit_decreasing(mine, self.lengths, self._micro_tokens)
        return micro_batches(mine, self._padded, self._micro_tokens)

    def _make(self, units: Iterable[int]) -> Pass:
        samples = tuple(
            unit * self._unit + number for unit in units for number in range(self._unit)
        )
        lengths, prefix = None, 0
        if self._packed and samples:
            if self._share:
                prefix = self._table.prefix(samples)
                prefix = prefix if prefix >= _WORTH_SHARING else 0
            ids, weights, verdicts, lengths = self._table.packed(samples, prefix=prefix)
        else:
            ids, weights, verdicts = self._table.padded(samples or (0,))
        if not samples:
            ids, weights, verdicts = ids[:, :2], weights[:, :2] * 0, verdicts[:, :2]
        ids, weights, verdicts = (
            torch.from_numpy(array).to(self._group.device) for array in (ids, weights, verdicts)
        )
        tokens = sum(self._each[sample] for sample in samples) - prefix * (len(samples) - 1)
        sizes = None
        if self._packed:
            sizes = torch.tensor([2]) if lengths is None else torch.from_numpy(lengths)
            sizes = sizes.to(self._group.device)
        return Pass(samples, ids, weights, verdicts, sizes, prefix, tokens if samples else 0)
