"""Integer draws from a generator, at one place.

PyTorch's own samplers are exact; float32 holds integers exactly up to 2**24, far above any UMI count. On a CPU they
run on one core, and are what sampling spends most of its time on: large draws are split into blocks with a generator
each, that several cores share. The blocks follow from the size alone, so that a seed gives the same draws on any
number of cores.

Nearly all births of a reverse step are 0, and a Poisson draw costs as much if it is 0: there the molecules are drawn
instead of the entries, by superposition.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

#: Least number of entries in a block, and largest number of blocks.
_BLOCK_SIZE, _MAX_BLOCKS = 2**15, 16
#: Mean below which placing molecules is faster than drawing entries.
_MOSTLY_ZERO = 0.08


def binomial(count: Tensor, probability: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Binomial draws of ``count`` trials (integer-valued float), broadcasting ``probability``."""
    count, probability = torch.broadcast_tensors(count, probability)
    return _draw(torch.binomial, generator, count, probability.clamp(0, 1).to(count.dtype))


def poisson(mean: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Poisson draws."""
    return _draw(_poisson, generator, mean)


def gamma(shape: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Gamma draws of unit scale (shape parameter may differ per entry)."""
    # torch.distributions.Gamma takes no generator; this is the sampler it calls.
    return _draw(torch._standard_gamma, generator, shape)


def _poisson(mean: Tensor, generator: torch.Generator | None) -> Tensor:
    """Poisson draws of means ``(n,)``, the faster way."""
    if mean.device.type != "cpu" or not bool((mean.mean() < _MOSTLY_ZERO) & (mean >= 0).all()):
        return torch.poisson(mean, generator)
    return _superposed(mean, generator)


def _superposed(mean: Tensor, generator: torch.Generator | None) -> Tensor:
    """Counts of the arrivals of a Poisson process in intervals of the lengths ``mean``: independent Poisson draws.

    Given their number, arrivals are uniform, and in order they are partial sums of exponential gaps: nothing needs to
    be sorted. In float64, where the sum of 2**20 means leaves room for each of them.
    """
    ends = mean.cumsum(0, dtype=torch.float64)
    number = int(torch.poisson(ends[-1:], generator))
    gaps = torch.empty(number + 1, dtype=torch.float64).exponential_(generator=generator).cumsum_(0)
    arrivals = gaps[:-1] * (ends[-1] / gaps[-1])
    entry = torch.searchsorted(ends, arrivals, right=True).clamp_max_(len(mean) - 1)
    return torch.zeros_like(mean).index_add_(0, entry, mean.new_ones(()).expand(number))


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
