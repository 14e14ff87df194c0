r"""Kriging of many genes at once: one covariance between conditions, and for each gene how much it varies between them.

Of gene :math:`g` the mean over the :math:`n_i` cells of condition :math:`i` was measured,

.. math:: y_{ig} \sim N\big(\mu_g + f_{ig},\; \sigma_g^2 / n_i\big), \qquad
   f_g \sim N\big(0,\; \lambda_g \sigma_g^2 K\big),

with the variance :math:`\sigma_g^2` between the cells of a condition, an unknown mean :math:`\mu_g` and a covariance
:math:`K` that all genes share. The ratio :math:`\lambda_g` is estimated by empirical Bayes: its distribution over genes is
learned from all of them, and each gene takes the one that keeps as much of a typical difference between conditions,
:math:`\lambda / (\lambda + c)`, as is to be expected given its own profile. Genes that respond to nothing are so drawn to
their mean over all conditions, those that do are believed.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

#: Ratios that are tried.
_RATIOS = torch.logspace(-6, 3, 37, dtype=torch.float64)
#: Passes of the expectation-maximisation of their distribution over genes.
_PASSES = 30
#: Variance between cells, probability of a ratio, and part of the largest variance at least: what was never seen is not
#: known to be 0.
_MIN = 1e-12


@final
class Kriging:
    """Best linear unbiased prediction of each gene in conditions that were not measured.

    Parameters
    ----------
    covariance
        Covariance of the measured conditions up to the scale of each gene, ``(n_conditions, n_conditions)``.
    n_cells
        Number of cells behind each mean, ``(n_conditions,)``.
    mean
        Mean over cells, ``(n_conditions, n_genes)``.
    spread
        Variance between the cells of a condition, ``(n_genes,)``.

    Attributes
    ----------
    ratio
        Variance of each gene between conditions over that between cells, in units of the covariance, ``(n_genes,)``.

    References
    ----------
    Cressie, Statistics for Spatial Data (1993), 3.4 (universal kriging); the leave-one-out residuals are in closed form
    (Dubrule 1983).
    """

    def __init__(self, covariance: Tensor, n_cells: Tensor, mean: Tensor, spread: Tensor) -> None:
        root = n_cells.sqrt()
        variance, directions = torch.linalg.eigh(covariance * root[:, None] * root)
        self._variance = variance.clamp_min(0)  # along directions in which the noise of all cells is 1
        self._to = directions.T * root
        self._ones, self._seen = self._to.sum(1), self._to @ mean
        self.ratio = self._estimate_ratio(spread)
        self._weight = 1 / (self._variance[:, None] * self.ratio + 1)
        self._total = self._ones.square() @ self._weight
        self._level = (self._ones[:, None] * self._weight * self._seen).sum(0) / self._total
        self._surprise = self._weight * (self._seen - self._ones[:, None] * self._level)

    def predict(self, covariance: Tensor) -> Tensor:
        """Predict a condition.

        Parameters
        ----------
        covariance
            Its covariance with the measured ones, ``(n_conditions,)``.

        Returns
        -------
        ``(n_genes,)``.
        """
        return self._level + self.ratio * ((self._to @ covariance) @ self._surprise)

    def left_out(self) -> Tensor:
        """What was measured less what the other conditions predict, the ratios kept.

        Returns
        -------
        ``(n_conditions, n_genes)``.
        """
        precision = self._to.T.square() @ self._weight
        of_level = self._to.T @ (self._weight * self._ones[:, None])
        return (self._to.T @ self._surprise) / (precision - of_level.square() / self._total)

    def _estimate_ratio(self, spread: Tensor) -> Tensor:
        """The ratio that keeps as much of a difference between conditions as the posterior expects."""
        fit, known = self._log_likelihood(spread.clamp_min(_MIN)), spread > 0
        prior = torch.full_like(_RATIOS, 1 / len(_RATIOS))
        for _ in range(_PASSES if bool(known.any()) else 0):
            prior = (fit[:, known] + prior.log()[:, None]).softmax(0).mean(1).clamp_min(_MIN)
        typical = 1 / self._variance[self._variance > _MIN * self._variance.max()].median()
        kept = (fit + prior.log()[:, None]).softmax(0).T @ (_RATIOS / (_RATIOS + typical))
        return typical * kept / (1 - kept)

    def _log_likelihood(self, spread: Tensor) -> Tensor:
        """Restricted log-likelihood of each ratio, ``(n_ratios, n_genes)``, up to a constant of the gene."""
        weight = 1 / (self._variance * _RATIOS[:, None] + 1)
        total = weight @ self._ones.square()
        squares = weight @ self._seen.square() - ((weight * self._ones) @ self._seen).square() / total[:, None]
        return (weight.log().sum(1) - total.log())[:, None] / 2 - squares / spread / 2
