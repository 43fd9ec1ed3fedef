"""Norms, adapters and gated blocks as one autograd function each: what is kept for the way back is what it needs.

The same sums as the modules' own, but autograd keeps no temporary tensor of theirs and gradients are added in
place. That takes a quarter off the memory of a step (docs/speed.md); its time changes little. Nothing is believed by a
class's name: each kind of module is tried on random numbers first, output and gradient, and left alone where
it differs from its own forward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, silu

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CLOSE = 2e-5
"""Largest difference, relative to the largest value, that float32 rounding explains here."""


class Norm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension (RMSNorm, Zhang and Sennrich 2019)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """The normed vectors, like x."""
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        scaled: torch.Tensor = x * inverse
        ctx.save_for_backward(scaled, inverse, weight)
        return scaled * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x and, where it learns, of the weight."""
        scaled, inverse, weight = ctx.saved_tensors
        for_weight = (gradient * scaled).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        inner = gradient * weight
        mean = torch.linalg.vecdot(inner, scaled).unsqueeze(-1).div_(scaled.shape[-1])
        return inner.addcmul_(scaled, mean, value=-1).mul_(inverse), for_weight, None


class Adapted(torch.autograd.Function):
    """x W^T + bias + scale (x A^T) B^T with W frozen: the low-rank part is added in place, forward and backward."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """x (..., in) -> (..., out)."""
        rows = x.flatten(0, -2)
        low = rows @ a.T
        ctx.save_for_backward(rows, weight, a, b, low)
        ctx.scale, ctx.shape = scale, x.shape
        output: torch.Tensor = linear(rows, weight, bias).addmm_(low, b.T, alpha=scale)
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, a and b."""
        rows, weight, a, b, low = ctx.saved_tensors
        flat = gradient.flatten(0, -2)
        into = (flat @ b).mul_(ctx.scale)
        for_x = (flat @ weight).addmm_(into, a).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return for_x, None, None, into.T @ rows, (flat.T @ low).mul_(ctx.scale), None


class Gated(torch.autograd.Function):
    """silu(x G^T) * (x U^T), then D (SwiGLU, Shazeer 2020), all three weights frozen and without biases:
    only the two products are kept for the way back, and their gradients are added inside the product."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        """x (..., width) -> the same shape."""
        rows = x.flatten(0, -2)
        opened, raised = rows @ gate.T, rows @ up.T
        ctx.save_for_backward(opened, raised, gate, up, down)
        ctx.shape = x.shape
        return (silu(opened).mul_(raised) @ down.T).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradient of x."""
        opened, raised, gate, up, down = ctx.saved_tensors
        inner = gradient.flatten(0, -2) @ down
        for_up = silu(opened).mul_(inner)
        for_gate = torch.ops.aten.silu_backward(inner.mul_(raised), opened)
        return torch.addmm(for_up @ up, for_gate, gate).view(ctx.shape), None, None, None


def norm(module: Any) -> Callable[..., torch.Tensor] | None:
    """The fused forward pass of an RMSNorm, or None."""
    weight, eps = getattr(module, "weight", None), getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if "RMSNorm" not in type(module).__name__ or not isinstance(weight, torch.Tensor) or not isinstance(eps, float):
        return None
    return lambda x: Norm.apply(x, module.weight, eps)  # type: ignore[no-untyped-call]


def adapted(module: Any) -> Callable[..., torch.Tensor] | None:
    """The fused forward pass of a linear layer with one plain LoRA adapter and no dropout, or None."""
    from peft.tuners.lora.layer import Linear

    if type(module) is not Linear or module.merged or module.disable_adapters or len(module.active_adapters) != 1:
        return None
    name, base = module.active_adapters[0], module.base_layer
    plain = type(base) is torch.nn.Linear and not base.weight.requires_grad and (base.bias is None or not base.bias.requires_grad)
    variant = getattr(module, "lora_variant", {}).get(name) is not None or getattr(module, "lora_bias", {}).get(name)
    if not plain or variant or name not in module.lora_A or getattr(module.lora_dropout[name], "p", 0.0):
        return None
    a, b, scale = module.lora_A[name], module.lora_B[name], float(module.scaling[name])
    return lambda x: Adapted.apply(x, base.weight, base.bias, a.weight, b.weight, scale)  # type: ignore[no-untyped-call]


def gated(module: Any) -> Callable[..., torch.Tensor] | None:
    """The fused forward pass of a gated feed-forward block with frozen weights, or None."""
    parts = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if not all(type(part) is torch.nn.Linear and part.bias is None and not part.weight.requires_grad for part in parts):
        return None
    gate, up, down = parts
    return lambda x: Gated.apply(x, gate.weight, up.weight, down.weight)  # type: ignore[no-untyped-call, union-attr]


KINDS: tuple[Callable[[Any], Callable[..., torch.Tensor] | None], ...] = (norm, adapted, gated)


def width(module: Any) -> int:
    """Length of the vectors a module reads."""
    read = getattr(module, "in_features", None) or getattr(getattr(module, "gate_proj", None), "in_features", None)
    return int(read or module.weight.shape[-1])


def same(module: Any, fused: Callable[..., torch.Tensor]) -> bool:
    """Whether the fused pass gives the module's own output and input gradient, to rounding, on random numbers."""
    given = torch.randn(1, 5, width(module), generator=torch.Generator().manual_seed(0))
    results = []
    for forward in (type(module).forward.__get__(module), fused):
        x = given.clone().requires_grad_()
        with torch.enable_grad():
            output = forward(x)
            (slope,) = torch.autograd.grad(output, x, torch.linspace(-1, 1, output.numel()).view_as(output))
        results.append((output.detach(), slope))
    return all(float((ours - own).abs().max()) <= CLOSE * float(own.abs().max()) for own, ours in zip(*results, strict=True))


@contextlib.contextmanager
def enable(model: PreTrainedModel) -> Iterator[int]:
    """Run the known modules fused inside the block; gives their number. Only float32 on a CPU, where it was measured to pay."""
    first = next(model.parameters())
    changed: list[Any] = []
    verdicts: dict[Any, bool] = {}
    try:
        if first.device.type == "cpu" and first.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
            for module in model.modules():
                fused = next((made for kind in KINDS if (made := kind(module)) is not None), None)
                # a hook or another tool's forward of its own is not ours to replace
                if fused is None or "forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks:
                    continue
                key = (type(module), width(module), getattr(module, "act_fn", None).__class__)
                if key not in verdicts:
                    verdicts[key] = same(module, fused)
                if verdicts[key]:
                    module.forward = fused
                    changed.append(module)
        yield len(changed)
    finally:
        for module in changed:
            del module.forward
