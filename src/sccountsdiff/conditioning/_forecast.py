r"""What a condition that was never measured would look like: kriging over the conditions that were.

A condition is a *context* (a cell type, a donor) and a set of *perturbations*; the control is the empty set. The mean
profile of each measured condition is an observation of a Gaussian field with covariance, per gene and up to scale,

.. math:: K((u, S), (v, R)) = 1 + \rho_{uv} + |S \cap R| \, (m + o \, \rho_{uv}),
   \qquad \rho_{uv} = \exp(-d_{uv} / \ell),

a main effect of each perturbation (:math:`m`), one of its own in each context (:math:`o`), both added up over
perturbations given together, and contexts that resemble each other as far as their control profiles do (squared
distance :math:`d`). Noise falls with the number of cells, :math:`\sigma^2 / n`. The forecast is the best linear
unbiased predictor: one weighted mean of the measured profiles, with the same weights for every gene. The four scales
:math:`(\ell, m, o, \sigma^2)` are those that best predict measured perturbations that are left out one at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple, final

import torch
from torch import Tensor

#: Scales that are tried: reach (in median distances between contexts), main effect, own effect, noise of one cell.
_GRID = ((1.0, 2.0, 5.0, 15.0), (0.02, 0.1, 0.5, 2.0), (0.05, 0.2, 0.5, 1.0), (1.0, 3.0, 10.0, 30.0))
#: Conditions with fewer cells say little of how good a forecast is.
_MIN_CELLS = 20


@final
@dataclass(frozen=True)
class Profiles:
    """Mean expression of the measured conditions.

    Parameters
    ----------
    mean
        Mean over cells of log1p(CP10k), ``(n_conditions, n_genes)``.
    n_cells
        Number of cells behind each mean, ``(n_conditions,)``.
    spread
        Variance of log1p(CP10k) between the cells of a condition, summed over genes.
    context
        Number of the context of each condition, from 0, ``(n_conditions,)``.
    members
        1 where a perturbation was given, else 0; all 0 for the control, ``(n_conditions, n_perturbations)``.
    similarity
        Similarity between perturbations, 1 with itself, ``(n_perturbations, n_perturbations)``; None if only equal
        ones have something in common.
    """

    mean: Tensor
    n_cells: Tensor
    spread: float
    context: Tensor
    members: Tensor
    similarity: Tensor | None = None

    @property
    def perturbed(self) -> Tensor:
        """True where at least one perturbation was given, ``(n_conditions,)``."""
        return self.members.sum(-1) > 0

    def control_of(self, context: Tensor) -> Tensor:
        """Row of the control of each context; -1 where it was not measured.

        Parameters
        ----------
        context
            Numbers of contexts, ``(n,)``.

        Returns
        -------
        Rows, ``(n,)``.
        """
        matches = (context[:, None] == self.context) & ~self.perturbed
        return torch.where(matches.any(-1), matches.int().argmax(-1), -1)

    def context_distance(self) -> Tensor:
        """Squared distances between the control profiles of contexts, sampling noise taken off, in units of the median.

        A context without control is as far from all others as the two that differ most.

        Returns
        -------
        ``(n_contexts, n_contexts)``.
        """
        n_contexts = int(self.context.max()) + 1
        control = self.control_of(torch.arange(n_contexts))
        noise = self.spread / self.n_cells[control]
        distance = torch.cdist(self.mean[control], self.mean[control]) ** 2 - noise - noise[:, None]
        unknown = control < 0
        known = distance[~unknown][:, ~unknown]
        distance[unknown] = distance[:, unknown] = known.max() if known.numel() else 1.0
        distance = distance.clamp_min(0).fill_diagonal_(0)
        positive = distance[distance > 0]
        return distance / positive.median() if len(positive) else distance


class Scales(NamedTuple):
    """Scales of the covariance of a forecast.

    Parameters
    ----------
    reach
        How far contexts resemble each other, in medians of their distances.
    main
        Variance of the effect that a perturbation has in all contexts.
    own
        Variance of the effect that it has in one context alone.
    noise
        Sampling variance of the profile of one cell.
    """

    reach: float
    main: float
    own: float
    noise: float


class Forecasted(NamedTuple):
    """A forecast.

    Parameters
    ----------
    profile
        Mean of log1p(CP10k), ``(n_genes,)``, at least 0.
    weights
        Weight of each measured condition, ``(n_conditions,)``; they add up to 1.
    """

    profile: Tensor
    weights: Tensor


@final
class Forecast:
    """Predicts the mean profile of a condition from those of other conditions.

    Parameters
    ----------
    profiles
        The measured conditions.
    scales
        Scales of the covariance; None chooses those that predict left-out perturbations best.

    Attributes
    ----------
    scales
        Scales in use.
    held_out_pearson
        Pearson correlation over genes between forecast and measured change from control, mean over perturbations left
        out one at a time (those with at least 20 cells and a measured control); NaN if there are none.

    References
    ----------
    Cressie, Statistics for Spatial Data (1993), 3.4 (universal kriging); the leave-one-out residuals are in closed form
    (Dubrule 1983).
    """

    def __init__(self, profiles: Profiles, scales: Scales | None = None) -> None:
        self.profiles = profiles
        self._distance = profiles.context_distance()
        self._gram = profiles.mean @ profiles.mean.T
        tried = [Scales(*values) for values in product(*_GRID)] if scales is None else [scales]
        self.scales = min(tried, key=self._held_out_error)
        self.held_out_pearson = self._held_out_pearson()

    def predict(self, context: int, members: Tensor) -> Forecasted:
        """Forecast a condition; for one that was measured this smooths its own profile.

        Parameters
        ----------
        context
            Number of the context.
        members
            1 for each perturbation given, ``(n_perturbations,)``.

        Returns
        -------
        :class:`Forecasted`.
        """
        precision = self._precision(self.scales)
        row = torch.tensor([context])
        towards = self._covariance(row, members[None], self.scales)[0] @ precision
        total = precision.sum()
        weights = towards + (1 - towards.sum()) * precision.sum(0) / total
        return Forecasted((weights @ self.profiles.mean).clamp_min(0), weights)

    def _covariance(self, context: Tensor, members: Tensor, scales: Scales) -> Tensor:
        """Covariance of conditions with the measured ones."""
        known = self.profiles
        resemblance = torch.exp(-self._distance[context][:, known.context] / scales.reach)
        shared = members if known.similarity is None else members @ known.similarity
        return 1 + resemblance + shared @ known.members.T * (scales.main + scales.own * resemblance)

    def _precision(self, scales: Scales) -> Tensor:
        """Inverse covariance of the measured profiles, noise included."""
        known = self.profiles
        covariance = self._covariance(known.context, known.members, scales)
        return torch.linalg.inv(covariance + torch.diag(scales.noise / known.n_cells))

    def _residual_map(self, scales: Scales) -> Tensor:
        """Matrix that maps the profiles to their leave-one-out residuals, the mean estimated as well."""
        precision = self._precision(scales)
        ones = precision.sum(0)
        projected = precision - ones[:, None] * ones / ones.sum()
        return projected / projected.diagonal()[:, None]

    def _judged(self) -> Tensor:
        """Conditions by which forecasts are judged."""
        known = self.profiles
        judged = known.perturbed & (known.n_cells >= _MIN_CELLS)
        return judged if bool(judged.any()) else known.perturbed

    def _held_out_error(self, scales: Scales) -> float:
        """Sum of squared leave-one-out residuals of perturbed conditions."""
        to_residual = self._residual_map(scales)[self._judged()]
        return float(torch.einsum("ij,jk,ik->", to_residual, self._gram, to_residual))

    def _held_out_pearson(self) -> float:
        known = self.profiles
        control = known.control_of(known.context)
        judged = self._judged() & (control >= 0)
        if not bool(judged.any()):
            return math.nan
        measured = (known.mean - known.mean[control])[judged]
        forecast = measured - self._residual_map(self.scales)[judged] @ known.mean
        one, other = (change - change.mean(-1, keepdim=True) for change in (measured, forecast))
        return float(torch.cosine_similarity(one, other, dim=-1).mean())
