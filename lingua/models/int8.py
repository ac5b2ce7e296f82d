"""8-bit weights: each output channel of a linear layer as integers in [-127, 127] and one scale.

Weights alone are rounded; products are computed in the model's own dtype, so that a row's answer does not depend on the
rows beside it. It halves or quarters the memory that weights take; it does not save arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LARGEST = 127


class Int8Linear(nn.Module):
    """A linear layer whose `weight` [out, in] is int8, with `scale` [out, 1] in the dtype that it computes in."""

    weight: Tensor
    scale: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        exact = linear.weight.detach().float()
        scale = exact.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny * _LARGEST) / _LARGEST
        self.register_buffer("weight", torch.round(exact / scale).to(torch.int8))
        self.register_buffer("scale", scale.to(linear.weight.dtype))
        self.bias = linear.bias

    def forward(self, states: Tensor) -> Tensor:
        return F.linear(states, self.weight * self.scale, self.bias)


def to_int8(decoder: nn.Module) -> None:
    """Replace every linear layer of a decoder, in place; the head and the embeddings stay as they are."""
    for module in list(decoder.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, Int8Linear(child))
