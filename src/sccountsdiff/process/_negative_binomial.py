"""Negative-binomial draws, distribution functions and quantiles, fast where most counts are zero.

Draws and quantiles look for the smallest count whose distribution function reaches a level: a uniform number in a draw.
Nearly all entries stop at 0, which one comparison settles; the others climb up count by count, fewer of them in each
step. Distribution functions add up the same probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sccountsdiff.process._random import gamma, poisson
from sccountsdiff.process._special import incomplete_beta

#: Largest variance of an entry whose counts are climbed to.
_CLIMBED = 300.0
#: Largest count whose probabilities are added up, and smallest log probability of no count to begin with.
_ADDED, _LEAST_LOG = 50, -500.0
#: Distance between the uniform numbers of a float32 generator.
_UNIFORM_STEP = 2.0**-24
#: Terms of a sum to 1 that float64 does not notice.
_NEGLIGIBLE = 1e-17


def draw_negative_binomial(mean: Tensor, size: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw counts of variance ``mean + mean ** 2 / size``.

    Parameters
    ----------
    mean
        Means, ``(n_cells, n_genes)``.
    size
        Sizes (shapes of the Gamma law of the rate), broadcastable to ``mean``.
    generator
        Source of randomness, on the device of the means; the global one if None.

    Returns
    -------
    Integer-valued floats ``(n_cells, n_genes)``.
    """
    size = size.expand_as(mean)
    if mean.device.type != "cpu":  # there all entries are drawn at once, and picking some would wait for the device
        return poisson(gamma(size, generator) * (mean / size), generator)
    odds = mean / size
    wide = mean * (1 + odds) > _CLIMBED
    # One minus the usual uniform number, so that rare counts have all digits.
    above = torch.rand(mean.shape, generator=generator, dtype=torch.float32)
    some = _positions((above < -torch.expm1(-size * torch.log1p(odds))) & ~wide)
    finer = torch.rand(len(some), generator=generator, dtype=torch.float64) * _UNIFORM_STEP
    above, *law = (values.reshape(-1)[some].double() for values in (above, mean, size))
    counts = torch.zeros(mean.numel(), dtype=mean.dtype)
    one = torch.ones((1, len(some)), dtype=torch.float64)
    counts[some] = _climb(1 - (above + finer), one, law[0].unsqueeze(0), law[1]).to(mean.dtype)
    counts = counts.view(mean.shape)
    if bool(wide.any()):
        counts[wide] = poisson(gamma(size[wide], generator) * odds[wide], generator)
    return counts


def quantile_negative_binomial(level: float, weights: Tensor, means: Tensor, size: Tensor) -> Tensor:
    """Smallest counts whose distribution function reaches a level, of mixtures of laws of one size.

    Parameters
    ----------
    level
        Strictly between 0 and 1.
    weights, means
        Weight and mean of each of K laws, ``(K, n_cells, n_genes)``; weights add up to 1.
    size
        Their size, broadcastable to ``(n_cells, n_genes)``.

    Returns
    -------
    Integer-valued floats ``(n_cells, n_genes)`` of the type of ``means``.
    """
    law = [values.double().flatten(1) for values in (weights, means)] + [
        size.double().expand_as(means[0]).flatten(),
    ]
    wide = _variance(*law) > _CLIMBED
    counts = torch.zeros_like(law[-1])
    for some, find in ((_positions(~wide), _climb), (_positions(wide), _bisect)):
        if len(some):
            counts[some] = find(level, *(values[..., some] for values in law))
    return counts.view(means.shape[1:]).to(means.dtype)


def cdf_negative_binomial(count: Tensor, mean: Tensor, size: Tensor) -> Tensor:
    """Distribution function.

    Parameters
    ----------
    count
        Numbers, broadcastable to ``mean``; 0 is returned for negative ones.
    mean
        Means, ``(n_cells, n_genes)``.
    size
        Sizes, broadcastable to ``mean``.

    Returns
    -------
    Probabilities ``(n_cells, n_genes)`` of the type of ``mean``.
    """
    shape = torch.broadcast_shapes(count.shape, mean.shape, size.shape)
    count, size, odds = (v.expand(shape).reshape(-1) for v in (count.floor(), size.double(), mean.double() / size))
    log_none = -size * torch.log1p(odds)
    cdf = torch.where(count < 0, 0.0, log_none.exp())
    added = (count <= _ADDED) & (log_none > _LEAST_LOG)
    entry = _positions(added & (count > 0))
    last, probability, of_entry, share = (v[entry] for v in (count, cdf, size, odds / (1 + odds)))
    for n in range(_ADDED):
        if not len(entry):
            break
        probability = probability * share * ((of_entry + n) / (n + 1))
        cdf[entry] += probability
        on = _positions(last > n + 1)
        entry, last, probability, of_entry, share = (v[on] for v in (entry, last, probability, of_entry, share))
    rest = _positions(~added & (count >= 0))
    if len(rest):
        cdf[rest] = incomplete_beta(size[rest], count[rest] + 1, 1 / (1 + odds[rest]))
    return cdf.clamp(0, 1).view(shape).to(mean.dtype)


def _variance(weight: Tensor, mean: Tensor, size: Tensor) -> Tensor:
    """Variance of mixtures, ``(n,)``."""
    return (weight * (mean + mean**2 * (1 + 1 / size))).sum(0) - (weight * mean).sum(0) ** 2


def _climb(level: Tensor | float, weight: Tensor, mean: Tensor, size: Tensor) -> Tensor:
    """Take away probabilities from 0 on until nothing of the level is left."""
    counts = torch.zeros_like(size)
    probability = weight * torch.exp(-size * torch.log1p(mean / size))
    left, count = level - probability.sum(0), 0
    entry = _positions(left > 0)
    left, probability, size, share = (v[..., entry] for v in (left, probability, size, mean / (mean + size)))
    while len(entry):
        growth = share * ((size + count) / (count + 1))
        probability, count = probability * growth, count + 1
        left = left - probability.sum(0)
        counts[entry] = count
        # Beyond the mode rounding may leave something of a level close to 1 for ever.
        on = _positions((left > 0) & ((probability > _NEGLIGIBLE) | (growth > 1)).any(0))
        entry = entry[on]
        left, probability, size, share = (v[..., on] for v in (left, probability, size, share))
    return counts


def _positions(where: Tensor) -> Tensor:
    """Flat positions of the true entries."""
    return where.reshape(-1).nonzero().squeeze(1)


def _bisect(level: float, weight: Tensor, mean: Tensor, size: Tensor) -> Tensor:
    """Halve an interval that holds the quantile."""

    def reaches(count: Tensor) -> Tensor:
        below = incomplete_beta(size.expand_as(mean), (count + 1).expand_as(mean), size / (size + mean))
        return (weight * below).sum(0) >= level

    low = torch.full_like(size, -1.0)
    high = ((weight * mean).sum(0) + 10 * _variance(weight, mean, size).sqrt()).ceil() + 1
    while not bool(reaches(high).all()):
        high = torch.where(reaches(high), high, 2 * high)
    while bool((high - low > 1).any()):
        middle = ((low + high) / 2).floor()
        low, high = torch.where(reaches(middle), low, middle), torch.where(reaches(middle), middle, high)
    return high
