"""Document attention by torch's CPU kernel against plain attention, a document at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from etude import ragged


def plainly(query, key, value, prefix, lengths):
    """Each document by itself, the prefix in front."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    out = []
    spans = [(0, prefix, 0)] if prefix else []
    start = prefix
    for length in lengths:
        spans.append((start, length, prefix))
        start += length
    for first, length, before in spans:
        if not length:
            continue
        own = slice(first, first + length)
        k = torch.cat([key[:, :, :before], key[:, :, own]], 2)
        v = torch.cat([value[:, :, :before], value[:, :, own]], 2)
        mask = torch.ones(length, before + length, dtype=torch.bool).tril(before)
        out.append(scaled_dot_product_attention(query[:, :, own], k, v, attn_mask=mask))
    return torch.cat(out, 2).transpose(1, 2)


@settings(max_examples=40, deadline=None)
@given(
    prefix=st.integers(0, 9),
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=7).filter(sum),
    kinds=st.sampled_from([1, 2, 3]),
    groups=st.sampled_from([1, 2, 3]),
)
def test_output_and_gradients_equal_plain_attention(prefix, lengths, kinds, groups):
    torch.manual_seed(0)
    tokens = prefix + sum(lengths)
    shapes = [(1, kinds * groups, tokens, 16), (1, kinds, tokens, 16), (1, kinds, tokens, 16)]
    # as models give them: heads and tokens transposed
    given = [torch.randn(b, t, h, d).transpose(1, 2).requires_grad_() for b, h, t, d in shapes]
    slope = torch.randn(1, tokens, kinds * groups, 16)
    calls = ragged.plan(prefix, lengths, groups)
    ours = ragged.attend(*given, None, calls, prefix)
    plain = plainly(*given, prefix, lengths)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    for own, other in zip(torch.autograd.grad(ours, given, slope), torch.autograd.grad(plain, given, slope), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=2e-5)


def test_documents_of_like_length_are_one_call():
    calls = ragged.plan(10, [40, 39, 31, 8, 8, 7, 0], 3)
    assert [(one.documents, one.length, one.before) for one in calls] == [(1, 10, 0), (3, 40, 10), (3, 8, 10)]
    assert calls[1].hidden.shape == (3 * 40, 50)


def test_scale_is_passed_on():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 12, 8) for _ in range(3))
    ours = ragged.attend(q, k, v, 0.5, ragged.plan(0, [12], 1), 0)
    plain = scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.5).transpose(1, 2)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_other_types_go_the_plain_way(kind):
    assert not ragged.available(torch.zeros(1, dtype=kind))
