"""The walk back, as the model's methods use it."""

from __future__ import annotations

from torch import Tensor

from sccountsdiff.process import GeometricSchedule
from sccountsdiff.sampling import survival_grid

#: A geometric schedule must come this close to 0.
_LARGEST_MINIMUM = 1e-2


def walk_grid(library_size: float | Tensor, n_steps: int, start: float = 0.0) -> Tensor:
    """Geometric grid whose first step brings about one molecule of a library back, ``(n_steps + 1,)``."""
    one_molecule = 1 / max(float(library_size), 1.0)
    return survival_grid(GeometricSchedule(min(one_molecule, _LARGEST_MINIMUM)), n_steps, start)
