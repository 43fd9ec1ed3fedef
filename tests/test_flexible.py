"""Document attention by FlexAttention. On a CPU it has a forward pass alone; its gradients are tried on GPUs (`make acceptance-gpu`)."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from etude import attention, catalog, flexible
from etude.attention import Documents
from test_ragged import plainly

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


@pytest.mark.parametrize(
    ("prefix", "lengths", "kinds", "groups"),
    [(0, [5], 1, 1), (0, [40, 3, 17], 2, 3), (9, [30, 1, 60, 100], 1, 2), (130, [4, 140], 2, 1), (7, [0, 121], 1, 1)],
)
def test_the_output_is_that_of_plain_attention(prefix, lengths, kinds, groups):
    torch.manual_seed(0)
    tokens = prefix + sum(lengths)
    given = [torch.randn(1, heads, tokens, 16) for heads in (kinds * groups, kinds, kinds)]
    mask = Documents(prefix, tuple(lengths)).blocks(torch.device("cpu"))
    ours = flexible.attend(*given, None, mask, flex_attention)
    torch.testing.assert_close(ours, plainly(*given, prefix, lengths), rtol=1e-4, atol=1e-5)
    scaled = flexible.attend(*given, 0.1, mask, flex_attention)
    torch.testing.assert_close(scaled, plainly(given[0] * 0.1 * 4, *given[1:], prefix, lengths), rtol=1e-4, atol=1e-5)


def test_keys_of_another_precision_than_values_take_theirs():
    """As autocast leaves them."""
    given = [torch.randn(1, 1, 20, 16) for _ in range(3)]
    mask = Documents(0, (20,)).blocks(torch.device("cpu"))
    found = flexible.attend(given[0], given[1], given[2].bfloat16(), None, mask, flex_attention)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), plainly(*given, 0, [20]), rtol=5e-2, atol=5e-2)


def test_most_of_a_pack_of_many_documents_is_never_computed():
    mask = flexible.blocks(0, [128] * 16, "cpu")
    assert mask.sparsity() > 90
    assert flexible.filled(1) == flexible.filled(128) == 128
    assert flexible.filled(129) == 256


def test_where_it_does_not_work_documents_go_one_after_the_other(monkeypatch):
    given = [torch.randn(1, 1, 8, 16) for _ in range(3)]
    assert "GPUs only" in flexible.refusal("cpu", torch.float32, 1, 1, 16)
    catalog.NOTES.clear()
    monkeypatch.setattr(flexible, "refusal", lambda *given: "no compiler")
    assert not attention.flexibly(*given)
    assert catalog.NOTES == ["documents are attended one after the other, which is slower: FlexAttention does not work here (no compiler)"]
    catalog.NOTES.clear()
