"""Integer draws from a generator, at one place.

PyTorch's own samplers are exact; float32 holds integers exactly up to 2**24, far above any UMI count.
"""

from __future__ import annotations

import torch
from torch import Tensor


def binomial(count: Tensor, probability: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Binomial draws of ``count`` trials (integer-valued float), broadcasting ``probability``."""
    count, probability = torch.broadcast_tensors(count, probability)
    return torch.binomial(count.contiguous(), probability.clamp(0, 1).to(count.dtype).contiguous(), generator=generator)


def poisson(mean: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Poisson draws."""
    return torch.poisson(mean, generator=generator)


def gamma(shape: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Gamma draws of unit scale (shape parameter may differ per entry)."""
    # torch.distributions.Gamma takes no generator; this is the sampler it calls.
    return torch._standard_gamma(shape.contiguous(), generator=generator)
