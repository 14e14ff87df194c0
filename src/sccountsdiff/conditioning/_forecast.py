r"""What a condition that was never measured would look like: kriging over the conditions that were.

A condition is a *context* (a cell type, a donor) and a set of *perturbations*; the control is the empty set. The mean
profile of each measured condition is an observation of a Gaussian field with covariance, up to a scale of each gene,

.. math:: K((u, S), (v, R)) = 1 + \rho_{uv} + |S \cap R| \, (m + o \, \rho_{uv}),
   \qquad \rho_{uv} = \exp(-d_{uv} / \ell),

a main effect of each perturbation (:math:`m`), one of its own in each context (:math:`o`), both added up over
perturbations given together, and contexts that resemble each other as far as their control profiles do (squared
distance :math:`d`). The scale of a gene against the noise of its cells is estimated by :class:`~sccountsdiff.conditioning.Kriging`;
the forecast is the best linear unbiased predictor. The three scales :math:`(\ell, m, o)` are those that best predict
measured perturbations that are left out one at a time, and the mean is taken over all that do so within one standard error.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple, final

import torch
from torch import Tensor

from sccountsdiff.conditioning._kriging import Kriging
from sccountsdiff.conditioning._profiles import Profiles

#: Scales that are tried: reach (in median distances between contexts), main effect, own effect.
_REACH, _MAIN, _OWN = (1.0, 2.0, 5.0, 15.0), (0.1, 0.5, 2.0, 8.0, 32.0), (0.05, 0.2, 0.5, 1.0)
#: The mean is over so many of them at most.
_MOST = 8
#: Conditions with fewer cells say little of how good a forecast is.
_MIN_CELLS = 20


class Scales(NamedTuple):
    """Scales of the covariance of a forecast, in units of what all contexts have in common.

    Parameters
    ----------
    reach
        How far contexts resemble each other, in medians of their distances.
    main
        Variance of the effect that a perturbation has in all contexts.
    own
        Variance of the effect that it has in one context alone.
    """

    reach: float
    main: float
    own: float


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
        Scales in use, the best first.
    krigings
        How each gene is predicted with each of them.
    held_out_pearson
        Pearson correlation over genes between forecast and measured change from control, mean over perturbations left
        out one at a time (those with at least 20 cells and a measured control); NaN if there are none.
    """

    def __init__(self, profiles: Profiles, scales: Scales | None = None) -> None:
        self.profiles = profiles
        self._distance = profiles.context_distance()
        self.scales = self._best_scales() if scales is None else [scales]
        self.krigings = [self._kriging(one) for one in self.scales]
        self.held_out_pearson = self._held_out_pearson()

    def predict(self, context: int, members: Tensor) -> Tensor:
        """Forecast a condition; for one that was measured this smooths its own profile.

        Parameters
        ----------
        context
            Number of the context.
        members
            1 for each perturbation given, ``(n_perturbations,)``.

        Returns
        -------
        Mean of log1p(CP10k), ``(n_genes,)``, at least 0.
        """
        told = torch.tensor([context]), members[None]
        predicted = [
            kriging.predict(self._covariance(*told, scales)[0])
            for scales, kriging in zip(self.scales, self.krigings, strict=True)
        ]
        return torch.stack(predicted).mean(0).clamp_min(0)

    def _best_scales(self) -> list[Scales]:
        """Scales whose squared errors add up to no more than the least of all and one standard error of the difference."""
        tried, judged = self._tried(), self._judged()
        if len(tried) == 1 or not bool(judged.any()):
            return tried[:1]
        errors = torch.stack([self._kriging(one).left_out()[judged].square().sum(1) for one in tried])
        total = errors.sum(1)
        excess = errors - errors[total.argmin()]
        as_good = excess.sum(1) <= excess.std(1, correction=0) * math.sqrt(errors.shape[1])
        order = total.masked_fill(~as_good, math.inf).argsort()
        return [tried[number] for number in order[: min(int(as_good.sum()), _MOST)]]

    def _tried(self) -> list[Scales]:
        """In a single context there is only how strong effects are, which is up to each gene."""
        if bool((self.profiles.context == self.profiles.context[0]).all()):
            return [Scales(1.0, 1.0, 0.0)]
        return [Scales(*values) for values in product(_REACH, _MAIN, _OWN)]

    def _covariance(self, context: Tensor, members: Tensor, scales: Scales) -> Tensor:
        """Covariance of conditions with the measured ones."""
        known = self.profiles
        resemblance = torch.exp(-self._distance[context][:, known.context] / scales.reach)
        shared = members if known.similarity is None else members @ known.similarity
        return 1 + resemblance + shared @ known.members.T * (scales.main + scales.own * resemblance)

    def _kriging(self, scales: Scales) -> Kriging:
        known = self.profiles
        covariance = self._covariance(known.context, known.members, scales)
        return Kriging(covariance, known.n_cells, known.mean, known.spread)

    def _judged(self) -> Tensor:
        """Conditions by which forecasts are judged."""
        known = self.profiles
        judged = known.perturbed & (known.n_cells >= _MIN_CELLS)
        return judged if bool(judged.any()) else known.perturbed

    def _held_out_pearson(self) -> float:
        known = self.profiles
        control = known.control_of(known.context)
        judged = self._judged() & (control >= 0)
        if not bool(judged.any()):
            return math.nan
        measured = (known.mean - known.mean[control])[judged]
        forecast = measured - torch.stack([kriging.left_out()[judged] for kriging in self.krigings]).mean(0)
        one, other = (change - change.mean(-1, keepdim=True) for change in (measured, forecast))
        return float(torch.cosine_similarity(one, other, dim=-1).mean())
