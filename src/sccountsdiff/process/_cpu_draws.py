"""Integer draws on a CPU, compiled by numba.

Counts are mostly 0, and PyTorch takes as long for an entry without a molecule as for one with several. Here an entry
costs next to nothing, and a molecule what an entry costs there. The only file of the core that needs more than PyTorch.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: Counts and means above which one draw of a whole entry is faster than one for each molecule.
_MANY = 16


@njit(nogil=True, cache=True)
def arrivals(count: NDArray[np.float32], mean: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Independent Poisson draws: arrivals of a Poisson process in intervals of the lengths ``mean``, side by side.

    Parameters
    ----------
    count
        Where to write the draws, ``(n,)``.
    mean
        Means ``(n,)``.
    rng
        Source of randomness.
    """
    gap = rng.standard_exponential()
    for i in range(mean.size):
        length = mean[i]
        count[i] = 0
        if 0 <= length <= _MANY:
            gap -= length
            while gap < 0:
                count[i] += 1
                gap += rng.standard_exponential()
        elif 0 < length < np.inf:
            count[i] = rng.poisson(length)
        else:
            raise ValueError("The mean of a Poisson draw must be a non-negative number.")


@njit(nogil=True, cache=True)
def survivors(
    alive: NDArray[np.float32], count: NDArray[np.float32], probability: NDArray[np.float32], rng: np.random.Generator
) -> None:
    """Independent binomial draws: each of ``count`` molecules survives with its entry's ``probability``.

    Parameters
    ----------
    alive
        Where to write the draws, ``(n,)``.
    count
        Molecules ``(n,)``, integer-valued.
    probability
        Between 0 and 1, ``(n,)``.
    rng
        Source of randomness.
    """
    for i in range(count.size):
        n = count[i]
        alive[i] = 0
        if n == 0:
            continue
        if 0 < n <= _MANY:
            p, n_alive = probability[i], 0
            for _ in range(np.int64(n)):
                n_alive += rng.random() < p
            alive[i] = n_alive
        elif 0 < n < np.inf:
            alive[i] = rng.binomial(np.int64(n), probability[i])
        else:
            raise ValueError("The count of a binomial draw must be a non-negative number.")


def numpy_generator(seed: int) -> np.random.Generator:
    """A source of randomness that compiled code can use."""
    return np.random.Generator(np.random.PCG64(seed))
