"""Attention over documents of different lengths behind a shared prefix, on a GPU: one call of torch's FlexAttention, compiled.

Blocks of the mask in which no query sees a key are never computed, so a pack costs what its documents cost, and grouped heads read
their keys without repeating them. Source: Dong et al. 2024 (arXiv 2412.05496). Whether it is right on this GPU is not believed but
tried, on random numbers, before it is used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
"""Tokens of a block, torch's own choice: packs are filled up to a multiple of it, so that few shapes are compiled."""

CLOSE = 2e-2
"""Largest difference from attention without FlexAttention that is rounding: TF32 or 16-bit products on numbers of unit spread."""


def filled(tokens: int) -> int:
    """Tokens with the filling."""
    return -(-tokens // BLOCK) * BLOCK


def owners(prefix: int, lengths: Sequence[int], device: torch.device | str) -> torch.Tensor:
    """int64 (filled tokens,): each token's document, 0 for the shared prefix and -1 for filling."""
    parts = [torch.zeros(prefix, dtype=torch.int64)] + [torch.full((length,), i + 1) for i, length in enumerate(lengths)]
    own = torch.cat(parts)
    return torch.nn.functional.pad(own, (0, filled(len(own)) - len(own)), value=-1).to(device)


def blocks(prefix: int, lengths: Sequence[int], device: torch.device | str) -> BlockMask:
    """Which tokens see which: all of the prefix, and one's own document, up to oneself; filling sees filling, and nothing sees it."""
    from torch.nn.attention.flex_attention import create_block_mask

    own = owners(prefix, lengths, device)

    def sees(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return (query >= key) & ((own[query] == own[key]) | ((own[key] == 0) & (own[query] >= 0)))

    return create_block_mask(sees, None, None, len(own), len(own), device=str(device), BLOCK_SIZE=BLOCK)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float | None,
    mask: BlockMask,
    kernel: Callable[..., Any] | None = None,
) -> torch.Tensor:
    """query (1, heads, tokens, d), key and value (1, kv heads, tokens, d) -> (1, tokens, heads, d). `mask`: of `blocks`."""
    tokens = query.shape[2]
    query, key, value = (torch.nn.functional.pad(part.to(value.dtype), (0, 0, 0, filled(tokens) - tokens)) for part in (query, key, value))
    found = (kernel or compiled())(query, key, value, block_mask=mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1])
    return found[:, :, :tokens].transpose(1, 2)  # type: ignore[no-any-return]


@functools.cache
def compiled() -> Callable[..., Any]:
    """The fused kernel; torch makes it anew for a second shape, for all shapes then."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


@functools.cache
def refusal(device: str, dtype: torch.dtype, heads: int, kinds: int, size: int) -> str:
    """ "" where the kernel gives a small pack's attention and gradients on this device, else why not."""
    if not device.startswith("cuda"):
        return "FlexAttention has a backward pass on GPUs only"
    prefix, lengths = 70, (90, 40, 100)
    random = torch.Generator().manual_seed(0)
    shapes = [(1, count, prefix + sum(lengths), size) for count in (heads, kinds, kinds)]
    given = [torch.randn(shape, generator=random).to(device, dtype).requires_grad_() for shape in shapes]
    own = owners(prefix, lengths, device)[: shapes[0][2]]
    seen = (own[:, None] == own[None]) | (own[None] == 0)
    try:
        ours = attend(given[0], given[1], given[2], None, blocks(prefix, lengths, device))
        slopes = torch.autograd.grad(ours.float().square().sum(), given)
        query, key, value = given
        theirs = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen.tril(), enable_gqa=True).transpose(1, 2)
        others = torch.autograd.grad(theirs.float().square().sum(), given)
    except Exception as error:  # a missing compiler, a head size without a kernel: whatever torch raises
        return " ".join(str(error).split())[:200] or type(error).__name__
    apart = max(
        float((left - right).abs().max() / right.abs().max()) for left, right in zip((ours, *slopes), (theirs, *others), strict=True)
    )
    return "" if apart < CLOSE else f"its numbers are {apart:.2g} away from those of ordinary attention"
