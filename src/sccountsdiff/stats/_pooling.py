r"""One answer from several imputed data sets.

An analysis that is run on :math:`M` data sets, completed by draws, gives estimates :math:`q_m` with variances
:math:`u_m`. Their means :math:`\bar q` and :math:`W`, and the variance :math:`B` of the :math:`q_m`, are all that
pooling needs; how they combine depends on what was drawn:

- entries that were *missing*: :math:`T = W + (1 + 1/M) B` (:func:`pool_imputations`);
- entries that had been *observed* and were replaced by draws given themselves: :math:`W` is already the whole
  sampling variance, and :math:`T = W + B / M` (:func:`pool_synthetic`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PooledEstimate:
    """An estimate from several imputed data sets, with its uncertainty; all fields have the shape of the estimate.

    Parameters
    ----------
    estimate
        Mean of the estimates.
    variance
        Total variance of that mean.
    df
        Degrees of freedom of its t distribution.
    missing_information
        Part of the information that is lost by what is missing, between 0 and 1.
    """

    estimate: Array
    variance: Array
    df: Array
    missing_information: Array

    @property
    def standard_error(self) -> Array:
        """Square root of the total variance."""
        return np.sqrt(self.variance)

    def p_value(self, null: float = 0.0) -> Array:
        """Two-sided p-value of the t test that the estimand equals ``null``; 1 where nothing varies and nothing differs.

        Parameters
        ----------
        null
            Value under the null hypothesis.

        Returns
        -------
        Probabilities; NaN where the estimate or its variance is.
        """
        return t_test(self.estimate - null, self.variance, self.df)

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Ends of the central t interval.

        Parameters
        ----------
        level
            Probability that the interval covers the estimand.

        Returns
        -------
        Lower and upper end.
        """
        half = stats.t.ppf((1 + level) / 2, self.df) * self.standard_error
        return self.estimate - half, self.estimate + half


def pool_imputations(estimates: ArrayLike, variances: ArrayLike, *, complete_df: ArrayLike = np.inf) -> PooledEstimate:
    r"""Pool analyses of data sets whose *missing* entries were drawn (Rubin's rules).

    .. math::
        T = W + (1 + \tfrac1M) B, \quad r = \frac{(1 + 1/M) B}{W}, \quad
        \nu_M = (M - 1) (1 + 1/r)^2, \quad \nu_\text{obs} = \frac{\nu + 1}{\nu + 3}\, \nu \, \frac{1}{1 + r},
        \quad \frac1{\nu_T} = \frac1{\nu_M} + \frac1{\nu_\text{obs}}

    with :math:`\nu` the degrees of freedom that complete data would have had.

    Parameters
    ----------
    estimates
        Estimates :math:`q_m`, shape ``(n_imputations, ...)``.
    variances
        Their sampling variances :math:`u_m` (squared standard errors), same shape.
    complete_df
        Degrees of freedom of the analysis if nothing were missing, broadcastable to one estimate.

    Returns
    -------
    The pooled estimate; its ``missing_information`` is :math:`(r + 2 / (\nu_T + 3)) / (r + 1)`.

    Raises
    ------
    ValueError
        If the shapes differ or there are fewer than two imputations.

    Notes
    -----
    The rules hold for *proper* imputation, whose draws also vary with the uncertainty of the imputation model. Draws
    from one trained network do not, so the total variance may be too small where much is missing and many cells are
    tested.

    References
    ----------
    Rubin, Multiple Imputation for Nonresponse in Surveys (1987), section 3.1; Barnard and Rubin, Biometrika 86 (1999).
    """
    mean, within, between, n = _moments(estimates, variances)
    complete = np.broadcast_to(np.asarray(complete_df, dtype=np.float64), mean.shape)
    extra = (1 + 1 / n) * between
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(extra == 0, 0.0, extra / within)
        df_draws = (n - 1) * (1 + 1 / ratio) ** 2
        df_observed = np.where(np.isinf(complete), np.inf, (complete + 1) / (complete + 3) * complete / (1 + ratio))
        df = 1 / (1 / df_draws + 1 / df_observed)
        lost = np.where(np.isinf(ratio), 1.0, (ratio + 2 / (df + 3)) / (ratio + 1))
    return PooledEstimate(mean, within + extra, df, np.where(extra == 0, 0.0, lost))


def pool_synthetic(estimates: ArrayLike, variances: ArrayLike, *, complete_df: ArrayLike = np.inf) -> PooledEstimate:
    r"""Pool analyses of data sets whose *observed* entries were replaced by draws given the same observations.

    Counts drawn from the posterior predictive law of a cell given its own counts are such data (partially synthetic,
    in the words of Reiter): the analysis of one of them already has the sampling variance of the real data, and
    averaging over draws only has to pay for their finite number:
    :math:`T = W + B / M`, :math:`\nu_M = (M - 1) (1 + M W / B)^2`, :math:`1 / \nu_T = 1 / \nu_M + 1 / \nu`.

    Parameters
    ----------
    estimates
        Estimates :math:`q_m`, shape ``(n_draws, ...)``.
    variances
        Their sampling variances :math:`u_m`, same shape.
    complete_df
        Degrees of freedom :math:`\nu` of the analysis of the real data, broadcastable to one estimate. Reiter's are
        for large samples, where they are infinite.

    Returns
    -------
    The pooled estimate; its ``missing_information`` is :math:`B / (M T)`, which more draws bring to 0.

    Raises
    ------
    ValueError
        If the shapes differ or there are fewer than two draws.

    References
    ----------
    Reiter, Survey Methodology 29 (2003), eqs. 4 to 6.
    """
    mean, within, between, n = _moments(estimates, variances)
    extra = between / n
    with np.errstate(divide="ignore", invalid="ignore"):
        df_draws = np.where(extra == 0, np.inf, (n - 1) * (1 + within / extra) ** 2)
        df = 1 / (1 / df_draws + 1 / np.broadcast_to(np.asarray(complete_df, dtype=np.float64), mean.shape))
        lost = np.where(extra == 0, 0.0, extra / (within + extra))
    return PooledEstimate(mean, within + extra, df, lost)


def t_test(difference: Array, variance: Array, df: Array) -> Array:
    """Two-sided p-values; 1 where the difference is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.where(difference == 0, 0.0 * variance, np.abs(difference) / np.sqrt(variance))
    return np.where(np.isnan(statistic), np.nan, 2 * stats.t.sf(statistic, df))


def _moments(estimates: ArrayLike, variances: ArrayLike) -> tuple[Array, Array, Array, int]:
    """Mean estimate, mean variance, variance of the estimates, and their number."""
    values, squares = np.asarray(estimates, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    if values.shape != squares.shape:
        raise ValueError(f"estimates have shape {values.shape}, variances {squares.shape}; pass one variance each")
    if values.ndim == 0 or len(values) < 2:
        raise ValueError("Pooling needs at least two imputations: without a spread between them it is overconfident.")
    return values.mean(axis=0), squares.mean(axis=0), values.var(axis=0, ddof=1), len(values)
