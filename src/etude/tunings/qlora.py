"""QLoRA (Dettmers et al. 2023, arXiv 2305.14314): LoRA over a start model whose linear layers are kept in 4 bits."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from etude.failures import RecipeError
from etude.tunings.lora import Lora, moves_base

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Qlora(Lora):
    """LoRA over 4-bit weights: an eighth of the memory of float32 for them, a little slower, and their rounding stays."""

    # the update is LoRA's, so its rate is, too; the paper trains 7 billion parameters at 2e-4 (table 9)
    default_learning_rate: ClassVar[float] = 5e-4

    quantisation: Literal["nf4", "fp4"] = "nf4"
    """The 16 values a weight may take: quantiles of a normal distribution, or a 4-bit float."""
    double_quantisation: bool = True
    """Keep the scales of the blocks in 8 bits, too."""

    @model_validator(mode="after")
    def base_stays(self) -> Qlora:
        """Refuse an initialisation that would change weights that are no longer numbers of their own."""
        if moves_base(self.init):
            raise ValueError(f"init {self.init!r} changes the frozen weights, which are in 4 bits here; use lora, or another init")
        return self

    def prepare(self, model: PreTrainedModel, seed: int) -> PreTrainedModel:
        """The model with its linear layers in 4 bits, inside a PeftModel; raises RecipeError where 4 bits do not work."""
        return super().prepare(self.quantise(model), seed)

    def load(self, model: PreTrainedModel, folder: Path) -> PreTrainedModel:
        """The start model in 4 bits with the saved adapter, as it was trained."""
        return super().load(self.quantise(model), folder)

    def quantise(self, model: PreTrainedModel) -> PreTrainedModel:
        """Put 4-bit layers in the place of all linear layers but the output layer."""
        import torch

        bitsandbytes = library(next(model.parameters()).device)
        head = model.get_output_embeddings()
        found = [(name, module) for name, module in model.named_modules() if type(module) is torch.nn.Linear and module is not head]
        if not found:
            raise RecipeError("tune.method: qlora finds no linear layers to quantise (GPT-2's are of another kind); use lora")
        for name, module in found:
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, self.four_bits(bitsandbytes, module))
        model.is_loaded_in_4bit = True  # what peft looks at
        return model

    def four_bits(self, bitsandbytes: Any, module: torch.nn.Linear) -> torch.nn.Module:
        """The layer in 4 bits, on the same device; its bias stays as it is."""
        weight = module.weight
        made = bitsandbytes.nn.Linear4bit(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            compute_dtype=weight.dtype,
            compress_statistics=self.double_quantisation,
            quant_type=self.quantisation,
            device="meta",
        )
        made.weight = bitsandbytes.nn.Params4bit(
            weight.detach().clone(),
            requires_grad=False,
            compress_statistics=self.double_quantisation,
            quant_type=self.quantisation,
            module=made,
        )
        if module.bias is not None:
            made.bias = module.bias
        # its kernel for processors with bfloat16 repacks the weights in place in evaluation, to other numbers than in training
        made.support_avx512bf16_for_cpu = False
        made.training = module.training
        return made.to(weight.device)  # type: ignore[no-any-return]


def library(device: torch.device) -> Any:
    """bitsandbytes, once it has shown that 4 bits work on this device; RecipeError with the way out where not."""
    import logging

    import torch

    if importlib.util.find_spec("bitsandbytes") is None:
        raise RecipeError(
            "tune.method: qlora needs the package bitsandbytes, which is not installed (pip install 'etude[quantised]'); "
            "lora gives the same updates over unquantised weights"
        )
    # it tells at length which optional kernels it lacks
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import bitsandbytes
        from bitsandbytes import functional

        given = torch.linspace(-1, 1, 256, device=device).view(4, 64)
        packed, state = functional.quantize_4bit(given, quant_type="nf4")
        error = float((functional.dequantize_4bit(packed, state) - given).abs().max())
    except (ImportError, OSError, RuntimeError, NotImplementedError, AttributeError) as problem:
        said = " ".join(str(problem).split())[:200]
        raise RecipeError(f"tune.method: bitsandbytes has no 4-bit layers that work on {device.type} here ({said}); use lora") from problem
    if not error < 0.2:  # the widest gap between two NF4 values is 0.304
        raise RecipeError(f"tune.method: bitsandbytes' 4-bit numbers are wrong on {device.type} here (error {error:.2f}); use lora")
    return bitsandbytes
