"""Plots of training, imputation and generation.

Every function draws on the axes it is given (``ax=``, or ``axes=`` where there are several panels), or on a new
figure, and returns them; nothing is shown or saved.
"""

from sccountsdiff.pl._calibration import coverage, pit_histogram
from sccountsdiff.pl._cells import library_size, mean_variance
from sccountsdiff.pl._embedding import embedding
from sccountsdiff.pl._imputed import dotplot, observed_imputed, uncertainty
from sccountsdiff.pl._markers import markers
from sccountsdiff.pl._responses import de_overlap, delta_scatter, score_card
from sccountsdiff.pl._training import training_curve

__all__ = [
    "coverage",
    "de_overlap",
    "delta_scatter",
    "dotplot",
    "embedding",
    "library_size",
    "markers",
    "mean_variance",
    "observed_imputed",
    "pit_histogram",
    "score_card",
    "training_curve",
    "uncertainty",
]
