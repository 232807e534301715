"""Several samples in one row without padding, none of which sees another.

First-fit decreasing chooses what shares a row. Position ids begin anew with each sample, layers
that work on single tokens see one long row, and attention is computed sample by sample: by torch's
varlen kernel on a GPU in half precision, else by one call of the exact causal kernel for each
sample. A mask over the whole row would be exact too, but costs the square of the row's length.

What all samples of a row begin with, an instruction for one, is in the row once: what layers make
of it is the same for all of them, as it sees nothing of what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from step_ray.training.errors import TrainError

ATTENTION = "step_ray_packed"
"""The name of :func:`packed_attention` among the attention implementations of transformers."""

_PROBE = (5, 9, 3)  # lengths of the samples that try whether a model keeps them apart
_ALIKE = 2  # tokens at the beginning of these, when they share a prefix


def first_fit_decreasing(
    samples: Sequence[int], lengths: Sequence[int], capacity: int
) -> list[list[int]]:
    """Rows of samples with at most ``capacity`` tokens each; a longer sample has its own row.

    Longest first, each goes into the first row with room: at most 11/9 of the fewest rows, and one
    more (Johnson 1973).
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for sample in sorted(samples, key=lambda sample: (-lengths[sample], sample)):
        length = lengths[sample]
        place = next((row for row, left in enumerate(room) if left >= length), None)
        if place is None:
            rows.append([sample])
            room.append(capacity - length)
        else:
            rows[place].append(sample)
            room[place] -= length
    return rows


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    whole_samples: Tensor | None = None,
    own_tokens: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sample of a row, as transformers calls it.

    ``query`` is [1, heads, tokens, width], ``key`` and ``value`` may have fewer heads;
    ``cu_seq_lens_q`` int32 [samples + 1] holds the bounds of samples in the row; without it each
    row is a sample. With a prefix that is in the row once, ``whole_samples`` int64 has the places
    in the row of all samples' tokens, sample by sample, which is where the bounds are then;
    ``own_tokens`` int64 leads back. Raises :class:`TrainError` for a variant of attention that is
    not made here.
    """
    wanted = [
        name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None
    ]
    if wanted or attention_mask is not None:
        raise TrainError(
            f"its attention has {', '.join(wanted) or 'a mask of its own'}, which is not made here"
        )
    kind = query.device.type
    if torch.is_autocast_enabled(kind):  # which leaves what is rotated in float32
        dtype = torch.get_autocast_dtype(kind)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if whole_samples is not None:
        query, key, value = (
            states.index_select(2, whole_samples) for states in (query, key, value)
        )
    if cu_seq_lens_q is None:
        lengths = [query.shape[2]]
    elif kind == "cuda" and query.dtype != torch.float32 and not dropout:
        assert max_length_q is not None
        out = _varlen(query, key, value, cu_seq_lens_q, max_length_q, scaling, sliding_window)
        return (out if own_tokens is None else out.index_select(1, own_tokens)), None
    else:
        lengths = cu_seq_lens_q.diff().tolist()
    parts = []
    # Split once: the gradient of a slice would be as large as the whole, for every sample.
    split = (torch.split(states, lengths, 2) for states in (query, key, value))
    for own, keys, values in zip(*split, strict=True):
        window = None
        length = own.shape[2]
        if sliding_window is not None and length > sliding_window:
            ones = torch.ones(length, length, dtype=torch.bool, device=query.device)
            window = ones.tril().triu(1 - sliding_window)
        part = functional.scaled_dot_product_attention(
            own,
            keys,
            values,
            attn_mask=window,
            dropout_p=dropout,
            is_causal=window is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        parts.append(part.transpose(1, 2))
    out = torch.cat(parts, 1)
    return (out if own_tokens is None else out.index_select(1, own_tokens)), None


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: Tensor,
    longest: int,
    scaling: float | None,
    sliding_window: int | None,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    groups = query.shape[1] // key.shape[1]
    states, keys, values = (
        heads[0].repeat_interleave(repeats, 0).transpose(0, 1).contiguous()
        for heads, repeats in ((query, 1), (key, groups), (value, groups))
    )
    window = (-1 if sliding_window is None else sliding_window - 1, 0)
    out = varlen_attn(
        states, keys, values, bounds, bounds, longest, longest, scale=scaling, window_size=window
    )
    return cast(Tensor, out)[None]


def packing_arguments(lengths: Tensor, prefix: int = 0) -> dict[str, Any]:
    """What a model is called with, besides ids [1, tokens], for samples of these lengths.

    ``lengths`` int64 [samples] on the model's device. All samples begin with the same ``prefix``
    tokens, which are in the row once, before what is each one's own. The names are those of
    transformers' flash attention, so layers that look for the bounds of samples find them.
    """
    bounds = functional.pad(lengths.cumsum(0), (1, 0))
    starts = bounds[:-1].repeat_interleave(lengths)
    positions = torch.arange(len(starts), device=lengths.device) - starts
    longest = int(lengths.max())
    arguments: dict[str, Any] = {}
    if prefix:
        own = positions >= prefix
        own[:prefix] = True  # the first sample brings the prefix
        arguments["own_tokens"] = own.nonzero()[:, 0]
        places = own.cumsum(0) - 1
        arguments["whole_samples"] = torch.where(positions < prefix, positions, places)
        positions = positions[own]
    bounds = bounds.to(torch.int32)
    return {
        "position_ids": positions[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
        **arguments,
    }


def enable_packing(model: nn.Module) -> bool:
    """Gives a (peft) causal model :func:`packed_attention`, and tries whether it works.

    Returns whether samples may share a prefix. Raises :class:`TrainError` if a sample in a row gets
    other hidden states than alone: its layers let samples leak into each other, or attend in a way
    of their own.
    """
    from transformers import AttentionInterface

    # Compiled, it would be made anew for every number of samples in a row.
    eager = cast(Any, torch.compiler).disable(packed_attention)
    AttentionInterface.register(ATTENTION, eager)
    base: Any = model
    if hasattr(base, "peft_config"):
        base = base.get_base_model()
    device = next(model.parameters()).device
    ids = torch.arange(1, 1 + sum(_PROBE), device=device)[None] % int(base.config.vocab_size)
    parts = list(torch.split(ids, list(_PROBE), dim=1))
    was_training, stock = model.training, str(base.config._attn_implementation)
    model.eval()
    try:
        with torch.no_grad():
            decoder = getattr(base, base.base_model_prefix)
            alone = [_states(decoder, part) for part in parts]
            alike = [torch.cat([parts[0][:, :_ALIKE], part[:, _ALIKE:]], 1) for part in parts]
            begun = [_states(decoder, part) for part in alike]
            base.set_attn_implementation(ATTENTION)
            lengths = torch.tensor(_PROBE, device=device)
            together = _states(decoder, ids, **packing_arguments(lengths))
            worst = _difference(together, torch.cat(alone, 1), device)
            if worst is not None:
                raise TrainError(f"samples in one row change hidden states by up to {worst:.1e}")
            first, *others = alike
            row = torch.cat([first, *(part[:, _ALIKE:] for part in others)], 1)
            expected = torch.cat([begun[0], *(part[:, _ALIKE:] for part in begun[1:])], 1)
            try:
                shared = _states(decoder, row, **packing_arguments(lengths, _ALIKE))
            except TypeError:  # its layers hand on no arguments but those they know
                return False
            return _difference(shared, expected, device) is None
    except (AttributeError, TypeError, ValueError, TrainError) as error:
        base.set_attn_implementation(stock)
        raise TrainError(
            f"{type(base).__name__} cannot be packed ({error}): set training.packing to padded"
        ) from error
    finally:
        model.train(was_training)


def _states(decoder: Any, ids: Tensor, **arguments: Any) -> Tensor:
    return cast(Tensor, decoder(input_ids=ids, use_cache=False, **arguments).last_hidden_state)


def _difference(found: Tensor, expected: Tensor, device: torch.device) -> float | None:
    """The largest one, relative to the largest value, if it is more than rounding makes."""
    exact = found.dtype == torch.float32 and not torch.is_autocast_enabled(device.type)
    wanted = expected.float()
    worst = float((found.float() - wanted).abs().max() / wanted.abs().max())
    return None if worst < (1e-4 if exact else 0.05) else worst
