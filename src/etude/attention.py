"""Document attention for packs: each document attends to the shared prefix and to itself only.

It is an attention function of transformers' own interface, so any model whose layers go through
that interface can use it; the bounds travel as an argument of the forward call, never as a global.
Whether a model honours them is not believed but measured (`honours_documents`).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etude import pairs, virtual_tokens
from etude.catalog import note
from etude.packing import Pack

if TYPE_CHECKING:
    import torch
    from torch.nn.attention.flex_attention import BlockMask
    from transformers import PreTrainedModel

    from etude import ragged

NAME = "etude_documents"


@dataclass(frozen=True)
class Documents:
    """Lengths of the parts of one pack: the prefix (0 for none), then each document's own tokens."""

    prefix: int
    lengths: tuple[int, ...]
    masks: dict[int, torch.Tensor] = field(default_factory=dict)
    plans: dict[int, tuple[ragged.Call, ...]] = field(default_factory=dict)
    seen: dict[str, BlockMask] = field(default_factory=dict)

    def calls(self, groups: int) -> tuple[ragged.Call, ...]:
        """The kernel calls of this pack for a model with so many query heads a key head; planned once for all layers."""
        from etude import ragged

        if groups not in self.plans:
            self.plans[groups] = ragged.plan(self.prefix, self.lengths, groups)
        return self.plans[groups]

    def blocks(self, device: torch.device) -> BlockMask:
        """The mask of this pack for FlexAttention; made once for all layers."""
        from etude import flexible

        if str(device) not in self.seen:
            self.seen[str(device)] = flexible.blocks(self.prefix, self.lengths, device)
        return self.seen[str(device)]

    def mask(self, length: int, device: torch.device) -> torch.Tensor:
        """Bool (length, prefix + length): all of the prefix, and one's own tokens up to oneself."""
        import torch

        if length not in self.masks:
            self.masks[length] = torch.ones(length, self.prefix + length, dtype=torch.bool, device=device).tril(self.prefix)
        return self.masks[length]


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    documents: Documents | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each document. query (1, heads, tokens, d), key and value (1, kv heads, tokens, d);
    returns (1, tokens, heads, d). Keys that stand before the first query's are the start of the prefix.
    Raises ValueError for features it does not honour."""
    import torch

    from etude import flexible, ragged

    if documents is None:
        raise ValueError("document attention was called without documents")
    for feature in ("softcap", "s_aux", "position_bias"):
        if kwargs.get(feature) is not None:
            raise ValueError(f"document attention does not honour {feature}")
    window = kwargs.get("sliding_window")
    if window is not None and documents.prefix + max(documents.lengths, default=0) > window:
        raise ValueError(f"a document is longer than the sliding window of {window} tokens")
    if (ahead := key.shape[2] - query.shape[2]) > 0:  # keys that were given: they ask nothing, so zeros ask in their place
        query = torch.nn.functional.pad(query, (0, 0, ahead, 0))
        output, _ = attend(module, query, key, value, attention_mask, scaling, dropout, documents, **kwargs)
        return output[:, ahead:], None
    if dropout == 0.0 and query.dtype == key.dtype == value.dtype and ragged.available(query):  # autocast leaves them different
        calls = documents.calls(query.shape[1] // key.shape[1])
        return ragged.attend(query, key, value, scaling, calls, documents.prefix), None
    if dropout == 0.0 and query.is_cuda and flexibly(query, key, value):
        return flexible.attend(query, key, value, scaling, documents.blocks(query.device)), None
    return one_by_one(query, key, value, scaling, dropout, documents), None


def one_by_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, dropout: float, documents: Documents
) -> torch.Tensor:
    """`attend`, a document at a time."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    # split, not slices: the gradient of a split is one concatenation, that of n slices n zero-filled sums
    parts = ([documents.prefix] if documents.prefix else []) + list(documents.lengths)
    queries, keys, values = (torch.split(tensor, parts, 2) for tensor in (query, key, value))
    outputs = []
    for index, length in enumerate(parts):
        if length == 0:
            continue
        if documents.prefix and index > 0:
            outputs.append(
                scaled_dot_product_attention(
                    queries[index],
                    torch.cat([keys[0], keys[index]], 2),
                    torch.cat([values[0], values[index]], 2),
                    attn_mask=documents.mask(length, query.device),
                    dropout_p=dropout,
                    scale=scaling,
                )
            )
        else:
            outputs.append(
                scaled_dot_product_attention(queries[index], keys[index], values[index], dropout_p=dropout, is_causal=True, scale=scaling)
            )
    return torch.cat(outputs, 2).transpose(1, 2)


def flexibly(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether FlexAttention is used for these; where it cannot be, it is said once why."""
    from etude import flexible

    why = flexible.refusal(str(query.device), value.dtype, query.shape[1], key.shape[1], query.shape[3])
    if why:
        note(f"documents are attended one after the other, which is slower: FlexAttention does not work here ({why})")
    return not why


def device_of(model: PreTrainedModel) -> torch.device:
    """Where a model computes: where its weights are, or where they are brought together, if they are divided and kept elsewhere."""
    import torch

    weight: Any = next(model.parameters())
    if not hasattr(weight, "device_mesh"):
        return weight.device  # type: ignore[no-any-return]
    kind = weight.device_mesh.device_type
    return torch.device(kind, torch.cuda.current_device()) if kind == "cuda" else torch.device(kind)


def sent(values: Any, device: torch.device) -> torch.Tensor:
    """An array as a tensor on `device`; to a GPU by way of pinned memory, so that the processor need not wait."""
    import torch

    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@contextlib.contextmanager
def enable(model: PreTrainedModel) -> Iterator[None]:
    """Switch a model to document attention inside the block."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def target_logits(model: PreTrainedModel, pack: Pack | pairs.Pairs) -> torch.Tensor:
    """Logits (targets, vocabulary) at `pack.sources`. A pack of one document without a prefix needs
    no document attention; any other must be called inside `enable(model)`. An encoder-decoder's batch is padded and needs none."""
    import torch

    if isinstance(pack, pairs.Pairs):
        return pairs.target_logits(model, pack)
    device = device_of(model)
    ahead = virtual_tokens.count(model)
    sources = sent(pack.sources, device)
    ids = sent(pack.ids, device)[None]
    positions = sent(pack.positions, device)[None] + ahead
    given: dict[str, Any] = virtual_tokens.given(model, ids) if ahead else {"input_ids": ids}
    if "inputs_embeds" in given:  # the virtual tokens are read in this pass, too
        sources = sources + ahead
        positions = torch.cat([torch.arange(ahead, device=device)[None], positions], 1)
    if model.config._attn_implementation == NAME:
        given["documents"] = Documents(ahead + pack.prefix, tuple(end - start for start, end in pack.bounds))
    if takes_logits_to_keep(model):
        given["logits_to_keep"] = sources
        return virtual_tokens.bare(model)(position_ids=positions, use_cache=False, **given).logits[0]  # type: ignore[no-any-return]
    return virtual_tokens.bare(model)(position_ids=positions, use_cache=False, **given).logits[0, sources]  # type: ignore[no-any-return]


def window(model: PreTrainedModel) -> int | None:
    """The shortest sliding window of the model's layers, in tokens; None where every layer sees all that came before."""
    config = model.config.get_text_config()
    found = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)  # per layer, where a model mixes them
    if (
        not isinstance(found, int)
        or (kinds is not None and "sliding_attention" not in kinds)
        or getattr(config, "use_sliding_window", True) is False
    ):
        return None
    return found


def takes_logits_to_keep(model: PreTrainedModel) -> bool:
    """Whether the model can compute the logits of chosen positions only."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


def honours_documents(model: PreTrainedModel, together: Pack, alone: list[Pack]) -> str:
    """ "" when a pack gives the logits of its rows one by one, else why it does not.

    `alone` holds one pack for each of `together`'s documents, in the order of its targets. The bound
    of 1e-3 of the logits' spread is far above float32 rounding and far below a row seeing another.
    """
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            single = torch.cat([target_logits(model, one) for one in alone]).float()
            try:
                with enable(model):
                    packed = target_logits(model, together).float()
            except (ValueError, TypeError, RuntimeError) as error:
                return str(error)
    finally:
        model.train(training)
    gap = float((packed - single).abs().max() / single.std())
    return "" if gap < 1e-3 else f"packed rows differ from single rows by {gap:.1e} of the logits' spread"
