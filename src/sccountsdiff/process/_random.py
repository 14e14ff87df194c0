"""Integer draws from a generator, at one place.

PyTorch's own samplers are exact; float32 holds integers exactly up to 2**24, far above any UMI count. On a CPU they
run on one core, and are what sampling spends most of its time on: large draws are split into blocks with a generator
each, that several cores share. The blocks follow from the size alone, so that a seed gives the same draws on any
number of cores.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

#: Least number of entries in a block, and largest number of blocks.
_BLOCK_SIZE, _MAX_BLOCKS = 2**15, 16


def binomial(count: Tensor, probability: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Binomial draws of ``count`` trials (integer-valued float), broadcasting ``probability``."""
    count, probability = torch.broadcast_tensors(count, probability)
    return _draw(torch.binomial, generator, count, probability.clamp(0, 1).to(count.dtype))


def poisson(mean: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Poisson draws."""
    return _draw(torch.poisson, generator, mean)


def gamma(shape: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Gamma draws of unit scale (shape parameter may differ per entry)."""
    # torch.distributions.Gamma takes no generator; this is the sampler it calls.
    return _draw(torch._standard_gamma, generator, shape)


def _draw(sampler: Callable[..., Tensor], generator: torch.Generator | None, *parameters: Tensor) -> Tensor:
    """Draws of a sampler with one value per entry; parameters of one shape."""
    flat = [parameter.detach().reshape(-1) for parameter in parameters]
    n_blocks = min(flat[0].numel() // _BLOCK_SIZE, _MAX_BLOCKS)
    if flat[0].device.type != "cpu" or n_blocks < 2:
        return sampler(*flat, generator=generator).view(parameters[0].shape)

    def draw(seed: int, *block: Tensor) -> Tensor:
        return sampler(*block, generator=torch.Generator().manual_seed(seed))

    seeds = torch.randint(2**62, (n_blocks,), generator=generator).tolist()
    blocks = (seeds, *(values.tensor_split(n_blocks) for values in flat))
    if torch.get_num_threads() == 1:
        return torch.cat([*map(draw, *blocks)]).view(parameters[0].shape)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return torch.cat([*pool.map(draw, *blocks)]).view(parameters[0].shape)
