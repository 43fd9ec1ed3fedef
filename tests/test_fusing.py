"""Fused modules give what their own forward pass gives, and only where they should."""

from __future__ import annotations

import pytest
import torch
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM, LlamaRMSNorm

from etude import fusing
from etude.tunings.full import Full
from etude.tunings.lora import Lora


def llama(**given):
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, **given))


def slopes(model):
    """The loss of a fixed batch and the gradient of every weight that learns."""
    model.zero_grad()
    ids = torch.arange(40).view(2, 20) * 7 % 64
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return float(loss.detach()), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "method", [Lora(r=4, alpha=8), Lora(r=4, target_modules=("q_proj", "down_proj")), Full()], ids=["all", "some", "full"]
)
def test_loss_and_gradients_are_the_modules_own(method):
    model = method.prepare(llama(), 0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name or "norm" in name:
                weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))) * 0.3)
    loss, own = slopes(model)
    with fusing.enable(model) as count:
        fused_loss, fused = slopes(model)
    assert count >= 5
    assert fused_loss == pytest.approx(loss, rel=1e-6)
    assert fused.keys() == own.keys()
    for name, slope in own.items():
        assert (fused[name] - slope).abs().max() <= 3e-5 * slope.abs().max().clamp(min=1e-3), name


def test_forward_is_put_back_also_after_an_error():
    model = Lora(r=2).prepare(llama(), 0)

    def broken():
        with fusing.enable(model) as count:
            assert count
            assert any("forward" in vars(module) for module in model.modules())
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert not any("forward" in vars(module) for module in model.modules())


def test_autograd_keeps_less():
    """Fewer bytes are saved for the way back."""

    def saved(model) -> int:
        seen = {}
        with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.setdefault(t.data_ptr(), t) is None or t, lambda t: t):
            model(input_ids=torch.arange(60).view(1, 60) % 64)
        weights = {p.data_ptr() for p in model.parameters()}
        return sum(t.numel() for place, t in seen.items() if place not in weights)

    model = Lora(r=2, target_modules=("q_proj", "v_proj")).prepare(llama(), 0)
    plain = saved(model)
    with fusing.enable(model):
        assert saved(model) < 0.9 * plain


def test_what_is_not_ours_to_fuse_is_left_alone():
    assert fusing.adapted(next(m for m in Lora(r=2, dropout=0.1).prepare(llama(), 0).modules() if hasattr(m, "lora_A"))) is None
    biased = llama(mlp_bias=True)
    assert fusing.gated(biased.model.layers[0].mlp) is None
    assert fusing.gated(Full().prepare(llama(), 0).model.layers[0].mlp) is None
    odd = llama(hidden_act="gelu").requires_grad_(False)
    made = fusing.gated(odd.model.layers[0].mlp)
    assert made is not None
    assert not fusing.same(odd.model.layers[0].mlp, made)  # silu is not its gate


def test_a_norm_of_another_kind_is_left_alone():
    """Gemma's multiplies by 1 + weight: the trial finds out."""
    gemma = GemmaRMSNorm(16)
    torch.nn.init.normal_(gemma.weight)
    made = fusing.norm(gemma)
    assert made is not None
    assert not fusing.same(gemma, made)
    own = LlamaRMSNorm(16)
    made = fusing.norm(own)
    assert made is not None
    assert fusing.same(own, made)


def test_a_module_with_a_hook_keeps_its_forward():
    model = Lora(r=2).prepare(llama(), 0)
    hooked = model.base_model.model.model.norm
    hooked.register_forward_hook(lambda *given: None)
    with fusing.enable(model):
        assert "forward" not in vars(hooked)


def test_other_precisions_and_autocast_are_left_alone():
    model = llama().to(torch.bfloat16)
    with fusing.enable(model) as count:
        assert count == 0
    with torch.autocast("cpu", dtype=torch.bfloat16), fusing.enable(llama()) as count:
        assert count == 0
