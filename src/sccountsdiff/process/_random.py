"""Integer draws from a generator, at one place.

All are exact; float32 holds integers exactly up to 2**24, far above any UMI count. On a CPU, PyTorch draws on one core,
and draws are what sampling would spend most of its time on: they are split into blocks with a generator each, that
several cores share, and compiled (:mod:`~sccountsdiff.process._cpu_draws`). The blocks follow from the size alone, so
that a seed gives the same draws on any number of cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from sccountsdiff.process._cpu_draws import arrivals, numpy_generator, survivors

#: Least number of entries in a block, and largest number of blocks.
_BLOCK_SIZE, _MAX_BLOCKS = 2**16, 16
#: Fewest entries that several cores share: PyTorch's own threads, which wait for work without sleep, are in the way.
_SHARED_SIZE = 2**20


def binomial(count: Tensor, probability: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Binomial draws of ``count`` trials (integer-valued float), broadcasting ``probability``."""
    count, probability = torch.broadcast_tensors(count, probability)
    probability = probability.clamp(0, 1).to(count.dtype)
    if count.device.type == "cpu":
        return _draw(_compiled(survivors), generator, count, probability)
    return torch.binomial(count.contiguous(), probability.contiguous(), generator)


def poisson(mean: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Poisson draws."""
    if mean.device.type == "cpu":
        return _draw(_compiled(arrivals), generator, mean)
    return torch.poisson(mean, generator)


def gamma(shape: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Gamma draws of unit scale (shape parameter may differ per entry)."""
    if shape.device.type == "cpu":
        return _draw(_standard_gamma, generator, shape)
    return torch._standard_gamma(shape, generator=generator)


def _standard_gamma(drawn: Tensor, shape: Tensor, seed: int) -> None:
    # torch.distributions.Gamma takes no generator; this is the sampler it calls.
    drawn.copy_(torch._standard_gamma(shape, generator=torch.Generator().manual_seed(seed)))


def _compiled(kernel: Callable[..., None]) -> Callable[..., None]:
    """A compiled sampler as one of tensors."""

    def fill(drawn: Tensor, *parameters: Any) -> None:
        *values, seed = parameters
        kernel(drawn.numpy(), *(value.numpy() for value in values), numpy_generator(seed))

    return fill


def _draw(fill: Callable[..., None], generator: torch.Generator | None, *parameters: Tensor) -> Tensor:
    """Draws of a sampler that fills a tensor from parameters of the same shape and a seed."""
    wanted = parameters[0].dtype
    flat = [p.detach().reshape(-1).to(wanted if wanted == torch.float64 else torch.float32) for p in parameters]
    drawn = torch.empty_like(flat[0])
    n_blocks = min(max(drawn.numel() // _BLOCK_SIZE, 1), _MAX_BLOCKS)
    seeds = torch.randint(2**62, (n_blocks,), generator=generator).tolist()
    blocks = (*(values.tensor_split(n_blocks) for values in (drawn, *flat)), seeds)
    if drawn.numel() < _SHARED_SIZE or torch.get_num_threads() == 1:
        deque(map(fill, *blocks), maxlen=0)
    else:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            deque(pool.map(fill, *blocks), maxlen=0)
    return drawn.view(parameters[0].shape).to(wanted)
