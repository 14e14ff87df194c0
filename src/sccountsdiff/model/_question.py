"""What the model is shown of each cell, and which of its entries are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from torch import Tensor

from sccountsdiff.conditioning import LIBRARY_SIZE
from sccountsdiff.data import row_readable
from sccountsdiff.model._depth import Depth
from sccountsdiff.model._fields import dense_rows
from sccountsdiff.model._module import Cells

Replace = Literal["masked", "zeros", "all"]

#: Which entries become those of a fresh measurement, from the counts that were seen.
_FRESH = {
    "masked": lambda counts: torch.zeros_like(counts, dtype=torch.bool),
    "zeros": lambda counts: counts == 0,
    "all": lambda counts: torch.ones_like(counts, dtype=torch.bool),
}


class View(NamedTuple):
    """A minibatch as the model is shown it: every question is a pattern of survival."""

    #: UMI counts ``(n_cells, n_genes)``, 0 where hidden.
    counts: Tensor
    #: Part of the molecules that was seen, ``(n_cells, 1)`` or ``(n_cells, n_genes)``: 0 hidden, 1 all.
    survival: Tensor
    #: Condition of each cell, the library size included.
    condition: dict[str, Tensor]
    #: Boolean ``(n_cells, n_genes)``: entries to measure afresh. To the others what is missing is added.
    fresh: Tensor

    def tensors(self) -> list[Tensor]:
        """All that is shown."""
        return [self.counts, self.survival, *self.condition.values()]


@dataclass(frozen=True)
class Question:
    """A request about cells, apart from the form of the answer.

    Parameters
    ----------
    replace
        Which entries to fill in: the hidden ones, these and the zeros, or all.
    hidden
        Boolean matrix over all cells whose rows can be read, True = hidden.
    depth
        Depth to recover the cells to.
    condition
        Values of condition keys for all cells ``(n_obs,)`` or ``(n_obs, dim)``, in place of the cells' own.
    """

    replace: Replace
    hidden: Any = None
    depth: Depth | None = None
    condition: Mapping[str, Tensor] = field(default_factory=dict)

    def mask(self, cells: Cells, rows: NDArray[np.integer]) -> Cells:
        """The cells without the entries to be hidden; ``rows`` are their positions in the data."""
        if self.hidden is None:
            return cells
        return cells.hide(torch.as_tensor(dense_rows(self.hidden, rows).astype(bool), device=cells.counts.device))

    def show(self, cells: Cells, rows: NDArray[np.integer]) -> View:
        """What the model sees of a minibatch."""
        cells = self.mask(cells, rows)
        survival, condition = cells.survival, dict(cells.condition)
        for name, values in self.condition.items():
            condition[name] = values[rows].to(cells.counts.device)
        if self.depth is not None:
            survival = survival * self.depth.survival(cells, rows)
            condition[LIBRARY_SIZE] = self.depth.library_size(cells, rows)
        return View(cells.counts, survival, condition, _FRESH[self.replace](cells.counts))


def parse_replace(replace: Replace | None, mask: Any, target_depth: Any) -> Replace:
    """Which entries to fill in; the default follows from the mask and the depth."""
    if target_depth is not None:
        if replace is not None:
            raise ValueError(
                f"target_depth adds the missing molecules to every entry, so replace={replace!r} cannot be asked for "
                "beside it. Leave one of them out."
            )
        return "masked"
    if replace is None:
        return "all" if mask is None else "masked"
    if replace not in _FRESH:
        raise ValueError(f"replace must be 'masked', 'zeros' or 'all', got {replace!r}.")
    return replace


def parse_mask(adata: AnnData, mask: Any) -> Any:
    """The mask in a form whose rows can be read; None if there is none.

    Raises
    ------
    KeyError
        If the data have no layer of that name.
    ValueError
        If it is not boolean, has another shape than the data, or is a frame with other cells or genes.
    """
    if mask is None:
        return None
    if isinstance(mask, str):
        if mask not in adata.layers:
            layers = sorted(name for name in adata.layers if name is not None)  # None is .X in anndata 0.13
            raise KeyError(f"adata has no layer {mask!r} to use as mask. Its layers: {layers}.")
        mask = adata.layers[mask]
    if isinstance(mask, pd.DataFrame):
        if not (mask.index.equals(adata.obs_names) and mask.columns.equals(adata.var_names)):
            raise ValueError(
                "The mask is a DataFrame whose index and columns are not the cells and genes of adata, in their order. "
                "Pass mask.loc[adata.obs_names, adata.var_names]."
            )
        mask = mask.to_numpy()
    mask = np.asarray(mask) if isinstance(mask, list) else mask
    if mask.shape != adata.shape:
        raise ValueError(
            f"The mask has shape {mask.shape}, adata has {adata.shape}: it covers all cells and genes, also if only a "
            "selection is imputed."
        )
    if mask.dtype != np.bool_:
        raise ValueError(f"The mask must be boolean (True = hidden), got dtype {mask.dtype}. Use mask.astype(bool).")
    return row_readable(mask)
