"""Sampling: grid, attrition, what was seen, the walk back and its resampling, as objects side by side."""

from sccountsdiff.sampling._attrition import (
    ATTRITIONS,
    Attrition,
    CappedAttrition,
    ConstantAttrition,
    NoAttrition,
    RescaledAttrition,
)
from sccountsdiff.sampling._covarying import CovaryingRates, Factors
from sccountsdiff.sampling._evidence import Evidence, Known, Thinned
from sccountsdiff.sampling._grid import explicit_grid, survival_grid
from sccountsdiff.sampling._repaint import RePaintSampler
from sccountsdiff.sampling._sampler import Sampler, Step
from sccountsdiff.sampling._transport import Transport, fit_transport, log1p_cp10k

__all__ = [
    "ATTRITIONS",
    "Attrition",
    "CappedAttrition",
    "ConstantAttrition",
    "Evidence",
    "Factors",
    "Known",
    "NoAttrition",
    "RePaintSampler",
    "RescaledAttrition",
    "Sampler",
    "Step",
    "Thinned",
    "CovaryingRates",
    "Transport",
    "explicit_grid",
    "fit_transport",
    "log1p_cp10k",
    "survival_grid",
]
