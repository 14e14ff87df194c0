"""The two scores of the Open Problems denoising task, as that task computes them.

For comparison with its leaderboard only. The Poisson score has its arguments swapped there, so that it punishes truth
for being predicted: an all-zero matrix beats the published leader. Neither score scales its input to what was hidden
before it takes logarithms. Use :func:`~sccountsdiff.metrics.poisson_deviance`,
:func:`~sccountsdiff.metrics.mse_counts` and :func:`~sccountsdiff.metrics.mse_log1p_cp10k` instead.
"""

from __future__ import annotations

import numpy as np

from ._registry import metric
from .counts import Counts, log1p_cp10k, pair

_OFFSET = 1e-6


@metric("lower", "Open Problems denoising, mean squared error of log1p(CP10k); rewards shrinkage")
def open_problems_mse(denoised: Counts, test: Counts) -> float:
    """Mean over entries of the squared difference of log1p(CP10k), each matrix scaled by its own totals.

    Parameters
    ----------
    denoised
        Expected counts from 90 % of the molecules, at their depth, shape ``(n_cells, n_genes)``.
    test
        The other 10 %, same shape.

    Returns
    -------
    Squared natural logarithms per entry.

    References
    ----------
    Open Problems for Single-Cell Analysis, task_denoising.
    """
    one, other = pair(denoised, test)
    return float(np.mean((log1p_cp10k(one) - log1p_cp10k(other)) ** 2))


@metric("lower", "Open Problems denoising, Poisson score with swapped arguments; an all-zero matrix wins")
def open_problems_poisson(denoised: Counts, test: Counts, n_train_molecules: float) -> float:
    """Mean over entries of ``test - denoised * log(test + 1e-6)``, which is *not* the Poisson loss of ``denoised``.

    Parameters
    ----------
    denoised
        Expected counts from 90 % of the molecules, at their depth, shape ``(n_cells, n_genes)``.
    test
        The other 10 %, same shape.
    n_train_molecules
        Total of the 90 %, by which ``denoised`` is scaled to the total of ``test``.

    Returns
    -------
    Nats per entry, in name.

    References
    ----------
    Open Problems for Single-Cell Analysis, task_denoising.
    """
    one, other = pair(denoised, test)
    scaled = one * (other.sum() / n_train_molecules)
    return float(np.mean(other - scaled * np.log(other + _OFFSET)))
