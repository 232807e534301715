"""Rows of different lengths through one forward pass, each with its own part of a key-value cache.

The new tokens of all rows lie behind each other in one sequence, so linear layers see no padding.
Attention is taken row by row over exactly the keys the row has: it reads no more memory than it
must, needs no mask for a row with one new token, and cannot depend on the other rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from step_ray.models.base import ModelError

ATTENTION = "step_ray_slots"
"""The name under which :func:`attend` is registered with transformers."""

Masks = dict[tuple[int, int, int | None], torch.Tensor]
"""Masks of one step: all layers need the same ones."""

_LAYERS = {"full_attention", "sliding_attention"}
# What attention functions of some families get and :func:`attend` does not compute.
_UNSUPPORTED = ("softcap", "s_aux", "sinks", "position_bias")


@dataclass(frozen=True, slots=True)
class Row:
    """``count`` new tokens of the sequence in ``slot``, which has ``length`` tokens with them."""

    slot: int
    length: int
    count: int


@dataclass(slots=True)
class Batch:
    """The new tokens of some rows; rows with a single one come first."""

    cache: SlotCache
    rows: Sequence[Row]
    slots: torch.Tensor  # of each token
    positions: torch.Tensor  # of each token
    singles: int
    masks: Masks = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return self.slots.shape[0]


class SlotCache:
    """Keys and values of every layer, a slot for each row.

    Memory is taken from the operating system when a position is first written, so a large
    ``max_length`` costs nothing until it is used.
    """

    def __init__(self, model: PreTrainedModel, slots: int, max_length: int) -> None:
        config = model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.device, self.dtype = model.device, model.dtype
        # Generating waits for memory. On a CPU a product with keys that lie position by position,
        # [heads, size, positions], gets close to its full speed, twice as fast as the fused
        # kernel for a single query; in bfloat16 the fused kernel is the faster one.
        self.by_size = self.device.type == "cpu" and self.dtype in (torch.float32, torch.float64)
        shape = (slots, heads, max_length, size)
        layers = range(config.num_hidden_layers)
        kinds = {"dtype": self.dtype, "device": self.device}
        self.values = [torch.empty(shape, **kinds) for _ in layers]
        if self.by_size:
            shape = (slots, heads, size, max_length)
        self.keys = [torch.empty(shape, **kinds) for _ in layers]
        # Of each layer and slot. Taking one out costs as much as a small kernel; views stay valid.
        self._views = [
            list(zip(keys.unbind(0), values.unbind(0), strict=True))
            for keys, values in zip(self.keys, self.values, strict=True)
        ]

    def batch(self, rows: Sequence[Row]) -> Batch:
        """What a forward pass has to know of ``rows``, sorted so that single tokens come first."""
        rows = sorted(rows, key=lambda row: row.count > 1)
        slots: list[int] = []
        positions: list[int] = []
        for row in rows:
            slots += [row.slot] * row.count
            positions += range(row.length - row.count, row.length)
        return Batch(
            self,
            rows,
            torch.tensor(slots, device=self.device),
            torch.tensor(positions, device=self.device),
            sum(row.count == 1 for row in rows),
        )

    def copy(self, source: int, target: int, length: int) -> None:
        """Gives ``target`` the first ``length`` positions of ``source``."""
        for layer in self._views:
            for old, new in zip(layer[source], layer[target], strict=True):
                along = 2 if self.by_size and old is layer[source][0] else 1
                new.narrow(along, 0, length).copy_(old.narrow(along, 0, length))

    def write(self, layer: int, batch: Batch, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Stores a layer's new keys and values, [1, heads, tokens, head size]."""
        keys, values = keys[0].transpose(0, 1), values[0].transpose(0, 1)
        self.values[layer][batch.slots, :, batch.positions] = values
        at = batch.singles if self.by_size else batch.tokens
        slots, positions = batch.slots[:at], batch.positions[:at]
        if self.by_size:
            self.keys[layer][slots, :, :, positions] = keys[:at]
        else:
            self.keys[layer][slots, :, positions] = keys
        for row in batch.rows[batch.singles :] if self.by_size else ():
            # Single writes with a stride are slow: whole rows at once.
            place = self._views[layer][row.slot][0].narrow(2, row.length - row.count, row.count)
            place.copy_(keys[at : at + row.count].permute(1, 2, 0))
            at += row.count

    def one(
        self, layer: int, row: Row, query: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """Attention of a row's last token; ``query`` and the result are [heads, shared, size]."""
        start = max(0, row.length - window) if window else 0
        keys, values = self._views[layer][row.slot]
        values = values.narrow(1, start, row.length - start)
        if self.by_size:
            # `query` has been scaled already.
            scores = torch.bmm(query, keys.narrow(2, start, row.length - start))
            return torch.bmm(scores.softmax(-1), values)
        keys = keys.narrow(1, start, row.length - start)
        return scaled_dot_product_attention(query[None], keys[None], values[None], scale=scale)[0]

    def many(
        self,
        layer: int,
        row: Row,
        query: torch.Tensor,
        scale: float,
        window: int | None,
        masks: Masks,
    ) -> torch.Tensor:
        """Attention of a row's new tokens; ``query`` and the result are [tokens, heads, size]."""
        keys, values = self._views[layer][row.slot]
        if self.by_size:
            keys = keys.narrow(2, 0, row.length).transpose(1, 2).contiguous()
        return causal(
            query.transpose(0, 1)[None],
            keys.narrow(1, 0, row.length)[None],
            values.narrow(1, 0, row.length)[None],
            scale,
            window,
            masks,
        )[0].transpose(0, 1)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    ragged: Batch | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of transformers' interface; without a ``ragged`` batch plain causal attention."""
    for name in _UNSUPPORTED:
        if others.get(name) is not None:
            raise ModelError(f"{type(module).__name__} needs {name}, which this backend lacks")
    _, heads, tokens, size = query.shape
    scale = size**-0.5 if scaling is None else scaling
    if ragged is None:
        return causal(query, key, value, scale, sliding_window).transpose(1, 2), None

    cache: SlotCache = ragged.cache
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    cache.write(layer, ragged, key, value)
    by_token = query.transpose(1, 2).view(tokens, heads, size)
    outs: list[torch.Tensor] = []
    at = ragged.singles
    if at:
        # Heads that share keys take the place of several queries: keys are read once for all.
        ones = by_token[:at].reshape(at, key.shape[1], -1, size)
        ones = ones * scale if cache.by_size else ones
        outs = [
            cache.one(layer, row, one, scale, sliding_window)
            for row, one in zip(ragged.rows, ones.unbind(0), strict=False)
        ]
        outs = [torch.stack(outs).view(at, heads, size)]
    for row in ragged.rows[ragged.singles :]:
        new = by_token[at : at + row.count]
        outs.append(cache.many(layer, row, new, scale, sliding_window, ragged.masks))
        at += row.count
    return torch.cat(outs)[None], None


def causal(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    window: int | None,
    masks: Masks | None = None,
) -> torch.Tensor:
    """Attention of tokens at the end of a sequence, [1, heads, tokens, size], to all of it."""
    count, length = query.shape[2], key.shape[2]
    mask = None
    if count < length or (window and length > window):
        mask = None if masks is None else masks.get((count, length, window))
        if mask is None:
            allowed = torch.ones(count, length, dtype=torch.bool, device=query.device)
            allowed = allowed.tril_(length - count)
            if window:
                allowed = allowed.triu_(length - count - window + 1)
            mask = torch.zeros(count, length, dtype=query.dtype, device=query.device)
            mask.masked_fill_(~allowed, -torch.inf)
        if masks is not None:
            masks[count, length, window] = mask
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=query.shape[1] > key.shape[1],
    )


def check_supported(model: PreTrainedModel) -> None:
    """Raises :class:`ModelError` for architectures whose rows are not independent sequences."""
    config, name = model.config.get_text_config(), type(model).__name__
    if not model._supports_attention_backend:
        raise ModelError(f"{name} does not use transformers' attention interface; serve it by vLLM")
    unknown = set(getattr(config, "layer_types", None) or []) - _LAYERS
    if unknown:
        raise ModelError(
            f"{name} has layers of type {', '.join(sorted(unknown))}; serve it by vLLM"
        )
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {rope.get("rope_type")} | {
        part.get("rope_type") for part in rope.values() if isinstance(part, dict)
    }
    if kinds & {"dynamic", "longrope"}:
        # Their frequencies depend on the longest row of a batch.
        raise ModelError(f"{name} has rotary positions that depend on the batch; serve it by vLLM")


def check_faithful(model: PreTrainedModel, cache: SlotCache) -> None:
    """Raises :class:`ModelError` unless a model that uses :func:`attend` answers as it did before.

    Reads a few tokens both ways; catches families whose attention holds more than its interface
    says. Leaves ``model`` using :func:`attend`, and rubbish in slot 0.
    """
    words = model.config.get_text_config().vocab_size
    ids = (torch.arange(24, device=cache.device) * 7 + 5) % words
    parts = torch.split(ids, [12, 1, 1, 10])
    own = model(input_ids=ids[None], use_cache=False).logits[0, -1].double()
    model.set_attn_implementation(ATTENTION)
    length = 0
    for part in parts:
        length += len(part)
        batch = cache.batch([Row(0, length, len(part))])
        ours = model(
            input_ids=part[None],
            position_ids=batch.positions[None],
            use_cache=False,
            logits_to_keep=1,
            ragged=batch,
        ).logits[0, -1]
    apart = float((own - ours.double()).abs().max() / own.abs().max())
    if not apart < (1e-3 if cache.dtype in (torch.float32, torch.float64) else 0.15):
        raise ModelError(
            f"{type(model).__name__} answers differently in this backend (logits are {apart:.1e} "
            "apart); serve it by vLLM"
        )


AttentionInterface.register(ATTENTION, attend)
