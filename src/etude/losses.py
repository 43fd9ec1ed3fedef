"""The loss of packs, and what may change it: dropout, and whether a model honours the bounds of documents."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from etude import attention, packing, pairs, virtual_tokens
from etude.catalog import note
from etude.failures import RecipeError
from etude.records import Encoded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def loss_of(model: PreTrainedModel, pack: packing.Pack | pairs.Pairs, smoothing: float = 0.0) -> torch.Tensor:
    """Summed cross entropy (nats) of the pack's targets, each with its weight, in float32; with `smoothing`, against
    targets of which that share is spread over the whole vocabulary (as torch's `label_smoothing`)."""
    from torch.nn.functional import cross_entropy

    logits = attention.target_logits(model, pack)
    targets = attention.sent(pack.targets, logits.device)
    if pack.weights is None:
        return cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=smoothing)
    each = cross_entropy(logits.float(), targets, reduction="none", label_smoothing=smoothing)
    return each @ attention.sent(pack.weights, logits.device)


def evaluate(
    model: PreTrainedModel, packs: Sequence[packing.Pack | pairs.Pairs], documents: bool, extra: Sequence[packing.Pack | pairs.Pairs] = ()
) -> float:
    """Mean loss (nats a trained token) over the packs, without dropout; 0 for none. `extra` ones are passed and do not count."""
    import torch

    training = model.training
    model.eval()
    with torch.no_grad(), attention.enable(model) if documents else contextlib.nullcontext():
        total = sum(float(loss_of(model, pack)) for pack in packs)
        for pack in extra:
            loss_of(model, pack)
    model.train(training)
    return total / sum(pack.counted for pack in packs) if packs else 0.0


def set_dropout(model: PreTrainedModel, share: float | None) -> None:
    """Set the model's own dropout; raises RecipeError where the architecture has none."""
    if share is None:
        return
    names = [n for n in vars(model.config) if n.endswith(("dropout", "_pdrop", "dropout_rate")) and not n.startswith("summary")]
    if not names:
        raise RecipeError("tune.dropout: this architecture has no dropout of its own; tune.method.dropout is LoRA's")
    import torch

    for name in names:
        setattr(model.config, name, share)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = share
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = share


def drops(model: PreTrainedModel) -> bool:
    """Whether anything in the model drops units in training."""
    import torch

    modules = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules())
    names = ("attention_dropout", "attn_pdrop", "dropout", "activation_dropout", "layerdrop")
    return modules or any((getattr(model.config, name, 0.0) or 0.0) > 0 for name in names)


def packable(model: PreTrainedModel, rows: Sequence[Encoded], share: bool) -> bool:
    """Whether packs give this model the logits of single rows, measured on its two shortest rows; an encoder-decoder's never do, and
    no row may be longer than a window of the model's attention."""
    if pairs.is_paired(model):
        note("rows are padded in batches and not packed: an encoder-decoder reads a source and a target each")
        return False
    longest, window = virtual_tokens.count(model) + max((len(row.ids) for row in rows), default=0), attention.window(model)
    if window is not None and longest > window:
        note(f"rows are not packed for this model: its sliding window of {window:,} tokens is shorter than the longest row ({longest:,})")
        return False
    shortest = [rows[i] for i in sorted(range(len(rows)), key=lambda i: len(rows[i].ids))[:2]]
    if len(shortest) < 2:
        return False
    together = packing.pack(shortest, sum(len(row.ids) for row in shortest), share)
    if len(together) > 1:
        together = packing.pack(shortest, sum(len(row.ids) for row in shortest))
    # in the order of the pack's documents
    order = list(dict.fromkeys(together[0].rows.tolist()))
    why = attention.honours_documents(model, together[0], [packing.concatenate(shortest, [i]) for i in order])
    if why:
        note(f"rows are not packed for this model: {why}")
    return not why


def passes(
    model: PreTrainedModel, rows: Sequence[Encoded], tokens: int, documents: bool, share: bool
) -> Sequence[packing.Pack] | Sequence[pairs.Pairs]:
    """The forward passes of a step's rows, of at most `tokens` each: packs, one row a pass where the model does not honour
    `documents`, or padded batches of an encoder-decoder's rows. `share`: see `packing.pack`."""
    if pairs.is_paired(model):
        return pairs.batches(rows, tokens, pairs.start_id(model))
    return packing.pack(rows, tokens if documents else 1, share)
