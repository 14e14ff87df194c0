r"""How molecules die and return.

Every molecule (every single UMI) of an entry survives with probability :math:`\alpha`, independently of all others:

.. math:: x_t \sim \mathrm{Binomial}(x_0, \alpha), \qquad m = x_0 - x_t .

Survival falls from 1 (clean, t = 0) to 0 (all dead, t = 1), and may differ from entry to entry. A step back in time
from :math:`\alpha_t` to :math:`\alpha_s > \alpha_t` lets the living die with probability :math:`\sigma` (attrition) and
the missing return with probability

.. math:: \mathrm{birth} = \frac{\alpha_s - (1 - \sigma)\,\alpha_t}{1 - \alpha_t},
          \qquad x_s = x_t - \mathrm{Bin}(x_t, \sigma) + \mathrm{Bin}(m, \mathrm{birth}).

======================  =========================================================  ====================================
symbol                  meaning                                                    code
======================  =========================================================  ====================================
:math:`x_0`             UMI counts of a cell                                       ``x_0``
:math:`\alpha`, p(t)    survival probability of a molecule                         ``alpha``, :class:`Schedule`
:math:`x_t`             surviving counts                                           ``x_t`` = ``Thinning.corrupt``
:math:`m`               missing molecules, :math:`x_0 - x_t`                       ``missing``; :class:`Posterior`
:math:`r`               rate: expected counts of a fresh full measurement          ``Posterior.rate``
:math:`\sigma`          death probability of a reverse step (attrition)            ``death``
birth                   return probability of a missing molecule                   ``birth`` = :func:`bridge`
======================  =========================================================  ====================================

Under masking (:class:`Absorbing`) the unit is the entry instead of the molecule: it survives whole, or is hidden. Death
and return have the same probabilities.

References
----------
CountsDiff: diffusion on the natural numbers (arXiv 2604.03779): Prop. 3.1 (forward process), Prop. 3.2 (reverse step
with attrition), Alg. 1 and 2. DCM: discrete diffusion for single-cell gene expression modeling (bioRxiv
2026.02.19.705033): masking.
"""

from sccountsdiff.process._absorbing import MASK, Absorbing
from sccountsdiff.process._births import BIRTHS, BinomialBirths, Births, PoissonBirths, PosteriorBirths
from sccountsdiff.process._mixtures import GammaMixturePosterior, States
from sccountsdiff.process._posterior import MIN_RATE, Posterior
from sccountsdiff.process._process import Believes, Process, Shown, bridge, max_death
from sccountsdiff.process._rates import GammaPoissonPosterior, PoissonPosterior
from sccountsdiff.process._registry import Registry, UnknownNameError
from sccountsdiff.process._reveal import REVEALS, ConfidentReveal, IndependentReveal, RandomReveal, Reveal
from sccountsdiff.process._schedule import (
    SCHEDULES,
    BlackoutSchedule,
    CosineSchedule,
    GeometricSchedule,
    LinearSchedule,
    Schedule,
    UserSchedule,
    check_schedule,
)
from sccountsdiff.process._thinning import Thinning
from sccountsdiff.process._tokens import TokenPosterior

__all__ = [
    "BIRTHS",
    "MASK",
    "MIN_RATE",
    "REVEALS",
    "SCHEDULES",
    "Absorbing",
    "Believes",
    "BinomialBirths",
    "Births",
    "BlackoutSchedule",
    "ConfidentReveal",
    "CosineSchedule",
    "GammaMixturePosterior",
    "GammaPoissonPosterior",
    "GeometricSchedule",
    "IndependentReveal",
    "LinearSchedule",
    "PoissonBirths",
    "PoissonPosterior",
    "Posterior",
    "PosteriorBirths",
    "Process",
    "RandomReveal",
    "Registry",
    "Reveal",
    "Schedule",
    "Shown",
    "States",
    "Thinning",
    "TokenPosterior",
    "UnknownNameError",
    "UserSchedule",
    "bridge",
    "check_schedule",
    "max_death",
]
