"""Sequencing depth at which cells are to be recovered."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sccountsdiff.conditioning import LIBRARY_SIZE
from sccountsdiff.model._module import Cells

_FOLD = re.compile(r"(\d+(?:\.\d+)?)x")


class Depth(ABC):
    """How deep cells are to be: the molecules that were observed are those of them that survived."""

    @abstractmethod
    def survival(self, cells: Cells, rows: NDArray[np.integer]) -> Tensor:
        """Part of the molecules of each cell that was observed, ``(n_cells, 1)``; ``rows`` are its positions."""

    @abstractmethod
    def library_size(self, cells: Cells, rows: NDArray[np.integer]) -> Tensor:
        """UMI total of each cell at the new depth ``(n_cells,)``, NaN where unknown."""

    @abstractmethod
    def check(self, cells: Cells, rows: NDArray[np.integer], cell_names: Any) -> None:
        """Raise ``ValueError``, naming the cell, if a cell cannot be recovered to this depth."""


@final
@dataclass(frozen=True)
class FoldDepth(Depth):
    """So many times the depth of each cell.

    Parameters
    ----------
    times
        The factor, at least 1.
    """

    times: float

    def survival(self, cells: Cells, rows: NDArray[np.integer]) -> Tensor:
        """One over the factor."""
        return cells.counts.new_full((len(cells.counts), 1), 1 / self.times)

    def library_size(self, cells: Cells, rows: NDArray[np.integer]) -> Tensor:
        """Library sizes times the factor."""
        return cells.condition[LIBRARY_SIZE] * self.times

    def check(self, cells: Cells, rows: NDArray[np.integer], cell_names: Any) -> None:
        """Any cell can be recovered to a fold of its own depth."""


@final
@dataclass(frozen=True)
class TotalDepth(Depth):
    """A number of UMIs for each cell.

    Parameters
    ----------
    totals
        UMIs of every cell of the data, ``(n_obs,)``.
    """

    totals: NDArray[np.float32]

    def survival(self, cells: Cells, rows: NDArray[np.integer]) -> Tensor:
        """UMIs observed over UMIs wanted."""
        return cells.counts.sum(-1, keepdim=True) / self.library_size(cells, rows).unsqueeze(-1)

    def library_size(self, cells: Cells, rows: NDArray[np.integer]) -> Tensor:
        """The UMIs wanted."""
        return torch.as_tensor(self.totals[rows], device=cells.counts.device, dtype=cells.counts.dtype)

    def check(self, cells: Cells, rows: NDArray[np.integer], cell_names: Any) -> None:
        """Every gene must have been seen, of one modality, and no molecule may have to go."""
        if cells.library.n_groups > 1:
            raise ValueError(
                "Each modality has a depth of its own, so that target_depth cannot be a number of UMIs. Pass a fold, for "
                "example target_depth='4x'."
            )
        if cells.observed is not None and not bool(cells.observed.all()):
            cell = cell_names[rows[int((~cells.observed).any(-1).int().argmax())]]
            raise ValueError(
                f"Cell {cell!r} has hidden or unmeasured genes, so that its depth is unknown and target_depth cannot "
                "be a number of UMIs. Pass a fold, for example target_depth='4x'."
            )
        observed, wanted = cells.counts.sum(-1), self.library_size(cells, rows)
        if bool((observed > wanted).any()):
            worst = int((observed - wanted).argmax())
            raise ValueError(
                f"Cell {cell_names[rows[worst]]!r} has {observed[worst]:.0f} UMIs, more than its target_depth of "
                f"{wanted[worst]:.0f}. Observed molecules are kept: pass a larger number or a fold ('4x'), or thin the "
                "cells with sccountsdiff.data.thinning_split."
            )


def parse_depth(target_depth: Any, n_cells: int) -> Depth | None:
    """The depth that a user asks for: None, a fold such as ``"4x"``, or UMIs for all cells or each.

    Raises
    ------
    ValueError
        If it is none of these, below one-fold, or has another length than there are cells.
    """
    if target_depth is None:
        return None
    if isinstance(target_depth, str):
        fold = _FOLD.fullmatch(target_depth.strip())
        if fold is None or float(fold[1]) < 1:
            raise ValueError(
                f"target_depth={target_depth!r} is no fold of at least 1; write for example '4x' or '1.5x'."
            )
        return FoldDepth(float(fold[1]))
    totals = np.asarray(target_depth, dtype=np.float32)
    if totals.ndim and totals.shape != (n_cells,):
        raise ValueError(
            f"target_depth has shape {totals.shape}; pass one number of UMIs, one for each of {n_cells} cells, or a "
            "fold such as '4x'."
        )
    if not (np.isfinite(totals) & (totals > 0)).all():
        raise ValueError("target_depth must be positive and finite: the number of UMIs of each cell.")
    return TotalDepth(np.broadcast_to(totals, n_cells))
