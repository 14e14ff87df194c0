"""Sampling: grid, attrition, known entries and the walk back, as objects side by side."""

from sccountsdiff.sampling._attrition import (
    ATTRITIONS,
    Attrition,
    CappedAttrition,
    ConstantAttrition,
    NoAttrition,
    RescaledAttrition,
)
from sccountsdiff.sampling._grid import explicit_grid, survival_grid
from sccountsdiff.sampling._sampler import Known, Sampler, Step

__all__ = [
    "ATTRITIONS",
    "Attrition",
    "CappedAttrition",
    "ConstantAttrition",
    "Known",
    "NoAttrition",
    "RescaledAttrition",
    "Sampler",
    "Step",
    "explicit_grid",
    "survival_grid",
]
