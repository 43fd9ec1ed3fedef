"""Attention over documents of different lengths behind a shared prefix, on a CPU, as one autograd function.

torch's own CPU flash kernel does the work. What this saves against calling `scaled_dot_product_attention`
a document at a time: documents of nearly the same length are one call (filled up behind their end, where
causality hides the filling), grouped query heads read their keys without repeating them, and no split,
concatenation or zero-filled gradient is left to autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

FORWARD: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
BACKWARD: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)

FILLED = 0.75
"""A document joins a call when it is at least this share of the call's longest: filling costs up to the square of the rest."""


def available(query: torch.Tensor) -> bool:
    """Whether this torch has the kernel for this tensor."""
    return FORWARD is not None and BACKWARD is not None and query.device.type == "cpu" and query.dtype == torch.float32


@dataclass(frozen=True, slots=True)
class Call:
    """Documents that are attended in one call. `tokens`: int64 (documents * length,), each document's places in
    the pack, its last one repeated as filling; `real` (own tokens,): which of them are not filling, or None when
    all are; `hidden`: float32 (groups * length, before + length), 0 over the prefix and up to oneself, else -inf."""

    documents: int
    length: int
    before: int
    tokens: torch.Tensor
    real: torch.Tensor | None
    hidden: torch.Tensor


def plan(prefix: int, lengths: Sequence[int], groups: int) -> tuple[Call, ...]:
    """The calls of one pack: the prefix, then documents of falling length."""
    starts = [prefix]
    for length in lengths:
        starts.append(starts[-1] + length)
    order = sorted((i for i, length in enumerate(lengths) if length), key=lambda i: -lengths[i])
    calls = [call([(0, prefix)], 0, groups)] if prefix else []
    bucket: list[tuple[int, int]] = []
    for index in order:
        if bucket and lengths[index] < FILLED * bucket[0][1]:
            calls.append(call(bucket, prefix, groups))
            bucket = []
        bucket.append((starts[index], lengths[index]))
    return tuple([*calls, call(bucket, prefix, groups)] if bucket else calls)


def call(documents: Sequence[tuple[int, int]], before: int, groups: int) -> Call:
    """One call for documents given as (start, length), the longest first."""
    longest = documents[0][1]
    steps = torch.arange(longest)
    starts = torch.tensor([start for start, _ in documents])[:, None]
    lengths = torch.tensor([length for _, length in documents])[:, None]
    tokens = (starts + torch.minimum(steps, lengths - 1)).flatten()
    full = bool((lengths == longest).all())
    hidden = torch.full((longest, before + longest), float("-inf")).triu_(before + 1).repeat(groups, 1)
    return Call(len(documents), longest, before, tokens, None if full else (steps < lengths).flatten().nonzero().flatten(), hidden)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None, calls: tuple[Call, ...], prefix: int
) -> torch.Tensor:
    """query (1, heads, tokens, d), key and value (1, kv heads, tokens, d) -> (1, tokens, heads, d)."""
    return Ragged.apply(query, key, value, scale, calls, prefix)  # type: ignore[no-any-return, no-untyped-call]


def spread(store: torch.Tensor, one: Call, groups: int) -> torch.Tensor:
    """(tokens, kinds, groups, d) -> a call's (documents, kinds, groups * length, d)."""
    _, kinds, _, size = store.shape
    picked = store.index_select(0, one.tokens).view(one.documents, one.length, kinds, groups, size)
    return picked.permute(0, 2, 3, 1, 4).reshape(one.documents, kinds, groups * one.length, size)


def gather(into: torch.Tensor, found: torch.Tensor, one: Call, groups: int) -> None:
    """The way back of `spread`, without the filling."""
    kinds, size = found.shape[1], found.shape[3]
    rows = found.view(one.documents, kinds, groups, one.length, size).permute(0, 3, 1, 2, 4).reshape(-1, kinds, groups, size)
    if one.real is None:
        into.index_copy_(0, one.tokens, rows)
    else:
        into.index_copy_(0, one.tokens[one.real], rows[one.real])


def behind(store: torch.Tensor, one: Call) -> torch.Tensor:
    """(tokens, kinds, 1, d) -> keys or values of the prefix and of each document, (documents, kinds, before + length, d)."""
    own = spread(store, one, 1)
    if not one.before:
        return own
    shared = store[: one.before, :, 0].transpose(0, 1)[None].expand(one.documents, -1, -1, -1)
    return torch.cat([shared, own], 2)


class Ragged(torch.autograd.Function):
    """Each document attends to the prefix and to itself; see `attend`."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None, calls: tuple[Call, ...], prefix: int
    ) -> torch.Tensor:
        """(1, tokens, heads, d)."""
        _, heads, tokens, size = query.shape
        kinds = key.shape[1]
        groups = heads // kinds
        asked = query[0].transpose(0, 1).reshape(tokens, kinds, groups, size)
        keys, values = (store[0].transpose(0, 1).unsqueeze(2) for store in (key, value))
        output = query.new_empty(tokens, kinds, groups, size)
        saved = [keys, values]
        for one in calls:
            q = spread(asked, one, groups)
            found, sums = FORWARD(q, behind(keys, one), behind(values, one), 0.0, False, attn_mask=one.hidden, scale=scale)
            gather(output, found, one, groups)
            saved += [q, found, sums]
        ctx.save_for_backward(*saved)
        ctx.scale, ctx.calls, ctx.prefix = scale, calls, prefix
        return output.view(1, tokens, heads, size)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of query, key and value, in their shapes."""
        keys, values, *saved = ctx.saved_tensors
        tokens, kinds, _, size = keys.shape
        heads = gradient.shape[2]
        groups = heads // kinds
        given = gradient.reshape(tokens, kinds, groups, size)
        slopes = [keys.new_empty(tokens, kinds, count, size) for count in (groups, 1, 1)]
        shared: list[torch.Tensor] = [keys.new_zeros(kinds, ctx.prefix, size) for _ in range(2)]
        for place, one in enumerate(ctx.calls):
            q, found, sums = saved[3 * place : 3 * place + 3]
            wanted = spread(given, one, groups)
            if one.real is not None:  # filling has no gradient
                wanted.view(one.documents, kinds, groups, one.length, size).masked_fill_(filling(one), 0.0)
            q_slope, *kv = BACKWARD(
                wanted, q, behind(keys, one), behind(values, one), found, sums, 0.0, False, attn_mask=one.hidden, scale=ctx.scale
            )
            gather(slopes[0], q_slope, one, groups)
            for total, into, slope in zip(shared, slopes[1:], kv, strict=True):
                gather(into, slope[:, :, one.before :].contiguous(), one, 1)
                if one.before:
                    total += slope[:, :, : one.before].sum(0)
        for total, into in zip(shared, slopes[1:], strict=True):
            into[: ctx.prefix, :, 0] += total.transpose(0, 1)
        back = [slope.view(tokens, -1, size).transpose(0, 1)[None] for slope in slopes]
        return back[0], back[1], back[2], None, None, None


def filling(one: Call) -> torch.Tensor:
    """Bool (documents, 1, 1, length, 1): where a call's tokens are filling."""
    hidden = torch.ones(one.documents * one.length, dtype=torch.bool)
    hidden[one.real] = False
    return hidden.view(one.documents, 1, 1, one.length, 1)
