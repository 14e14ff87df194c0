"""Hide entries or molecules on purpose, to see how well they are recovered."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def mcar_mask(shape: tuple[int, int], fraction: float, *, seed: int) -> NDArray[np.bool_]:
    """Choose entries to hide, completely at random.

    Parameters
    ----------
    shape
        ``(n_cells, n_genes)``.
    fraction
        Probability that an entry is hidden, in [0, 1].
    seed
        Seed of the draw; the global generator is not touched.

    Returns
    -------
    Boolean ``(n_cells, n_genes)``, True = hidden.
    """
    _check_fraction(fraction)
    return np.random.default_rng(seed).random(shape, dtype=np.float32) < fraction


def thinning_split(counts: Any, fraction: float, *, seed: int) -> tuple[Any, Any]:
    """Split the molecules of every entry in two: ``kept ~ Binomial(counts, fraction)`` and the rest.

    Given Poisson noise the two parts are independent measurements of the same cells (molecular cross-validation,
    Batson et al. 2019).

    Parameters
    ----------
    counts
        UMI counts ``(n_cells, n_genes)``, NumPy array or SciPy sparse.
    fraction
        Probability that a molecule is kept, in [0, 1].
    seed
        Seed of the draw; the global generator is not touched.

    Returns
    -------
    ``kept`` and ``held_out``, of the type of ``counts`` (``csr_matrix`` if sparse) with
    ``kept + held_out == counts``.
    """
    _check_fraction(fraction)
    rng = np.random.default_rng(seed)
    if not sparse.issparse(counts):
        kept = rng.binomial(np.asarray(counts).astype(np.int64), fraction).astype(counts.dtype)
        return kept, counts - kept
    whole = sparse.csr_matrix(counts)
    kept = whole.copy()
    kept.data = rng.binomial(whole.data.astype(np.int64), fraction).astype(whole.dtype)
    held_out = whole.copy()
    held_out.data = whole.data - kept.data
    kept.eliminate_zeros()
    held_out.eliminate_zeros()
    return kept, held_out


def _check_fraction(fraction: float) -> None:
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must lie in [0, 1], got {fraction}.")
