r"""What a denoiser is trained on: survival patterns, weightings and the loss.

For uniform survival :math:`\alpha \sim U(0, 1)` shared by the entries of a cell, and weight :math:`1 / (1 - \alpha)`,

.. math:: -\log p(x_0) \le \mathrm{E}_{\alpha, x_t} \sum_g
          \frac{(1 - \alpha) r_g - m_g \log r_g}{1 - \alpha} + \log x_{0,g}!

with equality for the true posterior mean rates: the exact bound, in nats. Any positive weight has the same optimum.

In survival instead of time the paper's weight :math:`-p'(t)` with uniform time is plain: uniform survival and weight
1, that is :math:`1 - \alpha` times the bound's, whatever the schedule. A schedule then only decides where survivals
are drawn, which importance weights undo.

References
----------
CountsDiff (arXiv 2604.03779), section 3.2 and appendices B.5, B.7; the bound is the integral of the pointwise Poisson
loss along a thinning channel (Guo, Shamai and Verdu 2008; Atar and Weissman 2012).
"""

from sccountsdiff.objective._loss import Corrupted, Objective, bound, weighed_loss
from sccountsdiff.objective._pattern import (
    PATTERNS,
    EntrywiseSurvival,
    MixtureSurvival,
    ScheduledSurvival,
    Survival,
    SurvivalPattern,
    UniformSurvival,
)
from sccountsdiff.objective._rehearsal import BlockRehearsal, NoRehearsal, Rehearsal, Rehearsals, Scene
from sccountsdiff.objective._taught import Taught
from sccountsdiff.objective._weighting import WEIGHTINGS, BoundWeighting, PaperWeighting, Weighting

__all__ = [
    "PATTERNS",
    "WEIGHTINGS",
    "BlockRehearsal",
    "BoundWeighting",
    "Corrupted",
    "EntrywiseSurvival",
    "MixtureSurvival",
    "NoRehearsal",
    "Objective",
    "PaperWeighting",
    "Rehearsal",
    "Rehearsals",
    "Scene",
    "ScheduledSurvival",
    "Survival",
    "SurvivalPattern",
    "Taught",
    "UniformSurvival",
    "Weighting",
    "bound",
    "weighed_loss",
]
