"""Tests that may be believed: groups of cells compared on counts, and analyses pooled over imputations.

NumPy and SciPy only: everything here works on any counts, with or without a model.
"""

from sccountsdiff.stats._groups import GroupComparison, compare_groups
from sccountsdiff.stats._pooling import PooledEstimate, pool_imputations, pool_synthetic
from sccountsdiff.stats._rarefaction import rarefied_detection, visible_sizes

__all__ = [
    "GroupComparison",
    "PooledEstimate",
    "compare_groups",
    "pool_imputations",
    "pool_synthetic",
    "rarefied_detection",
    "visible_sizes",
]
