"""Plots of training, imputation and generation.

Every function draws on the axes it is given (``ax=``, or ``axes=`` where there are several panels), or on a new
figure, and returns them; nothing is shown or saved.
"""

from sccountsdiff.pl._calibration import coverage, pit_histogram
from sccountsdiff.pl._cells import library_size, mean_variance
from sccountsdiff.pl._embedding import embedding
from sccountsdiff.pl._markers import markers
from sccountsdiff.pl._training import training_curve

__all__ = ["coverage", "embedding", "library_size", "markers", "mean_variance", "pit_histogram", "training_curve"]
