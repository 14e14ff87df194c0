r"""The simulated counts of the CountsDiff paper (appendix E.1), and its metrics.

Ten dimensions of gamma-Poisson counts that share a size factor, which correlates them:

.. math:: s \sim \mathrm{LogNormal}(0, 0.6), \qquad
          x_d \sim \mathrm{Poisson}(\lambda_d), \quad \lambda_d \sim \mathrm{Gamma}(1 / a_d,\; 1 / (a_d \mu_d s)).

Means and dispersions are the paper's own (one draw, seed 0); rows are drawn afresh for every seed.
"""

from __future__ import annotations

import functools
import math

import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

N_DIMS, N_TRAIN, N_VALIDATION = 10, 20_000, 4_000
SPREAD = 0.6
N_PROJECTIONS = 500
#: Sets of real rows behind a floor.
N_FLOORS = 8
#: Rows of a kernel matrix at a time.
BLOCK = 500


def parameters() -> tuple[Tensor, Tensor]:
    """Return mean and dispersion at size factor 1, each ``(10,)``: log-uniform on (.05, 5) and (.05, .5)."""
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(2, N_DIMS, generator=generator)
    low, high = torch.tensor([0.05, 0.05]).log(), torch.tensor([5.0, 0.5]).log()
    mean, dispersion = (low[:, None] + uniform * (high - low)[:, None]).exp()
    return mean, dispersion


def variances() -> Tensor:
    """Return the true variances ``(10,)`` in closed form."""
    mean, dispersion = parameters()
    first, second = math.exp(SPREAD**2 / 2), math.exp(2 * SPREAD**2)
    return mean * first + dispersion * mean**2 * second + mean**2 * (second - first**2)


def draw(n: int, generator: torch.Generator) -> Tensor:
    """Return counts ``(n, 10)``."""
    mean, dispersion = parameters()
    size = (SPREAD * torch.randn(n, 1, generator=generator)).exp()
    shape = (1 / dispersion).expand(n, -1).contiguous()
    rate = torch._standard_gamma(shape, generator=generator) * dispersion * mean * size
    return torch.poisson(rate, generator=generator)


def joint_mmd2(real: Tensor, drawn: Tensor) -> float:
    """Return squared MMD of whole rows under ``exp(-|x - y|^2)``, biased."""

    def mean_kernel(a: Tensor, b: Tensor) -> float:
        return sum(float(torch.exp(-(torch.cdist(rows, b) ** 2)).sum()) for rows in a.split(BLOCK)) / (len(a) * len(b))

    return mean_kernel(real, real) + mean_kernel(drawn, drawn) - 2 * mean_kernel(real, drawn)


def marginal_mmd2(real: Tensor, drawn: Tensor) -> float:
    """Return the mean over dimensions of the squared MMD, from the histograms of the counts."""
    largest = int(max(real.max(), drawn.max()))
    level = torch.arange(largest + 1.0)
    kernel = torch.exp(-((level[:, None] - level) ** 2))
    difference = torch.stack(
        [
            torch.bincount(a.long(), minlength=largest + 1) / len(a)
            - torch.bincount(b.long(), minlength=largest + 1) / len(b)
            for a, b in zip(real.T, drawn.T, strict=True)
        ]
    )
    return float(((difference @ kernel) * difference).sum(-1).mean())


def sliced_wasserstein(real: Tensor, drawn: Tensor) -> float:
    """Return the root mean square of sorted differences along 500 random directions (sets of one size)."""
    direction = torch.randn(real.shape[1], N_PROJECTIONS, generator=torch.Generator().manual_seed(0))
    direction = direction / direction.norm(dim=0)
    difference = (real @ direction).sort(0).values - (drawn @ direction).sort(0).values
    return float(difference.square().mean().sqrt())


@functools.lru_cache(maxsize=1)
def squared_floor(real: Tensor, seed: int) -> float:
    """Return the mean squared sliced Wasserstein distance of fresh real rows to some."""
    generator = torch.Generator().manual_seed(2000 + seed)
    return sum(sliced_wasserstein(real, draw(len(real), generator)) ** 2 for _ in range(N_FLOORS)) / N_FLOORS


def scores(real: Tensor, drawn: Tensor) -> dict[str, float]:
    """Return the paper's metrics of a sample against real rows, and the variance of each dimension."""
    variance = drawn.var(0)
    ratio = variance / variances()
    return {
        "joint_swd": sliced_wasserstein(real, drawn),
        "variance_error": float((ratio - 1).abs().mean()),
        "joint_mmd2": joint_mmd2(real, drawn),
        "marginal_mmd2": marginal_mmd2(real, drawn),
        "marginal_w1": float(
            sum(wasserstein_distance(a, b) for a, b in zip(real.T.numpy(), drawn.T.numpy(), strict=True)) / N_DIMS
        ),
        **{f"variance_{d}": float(value) for d, value in enumerate(variance)},
    }
