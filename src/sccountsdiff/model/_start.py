"""Where a walk begins."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scvi import REGISTRY_KEYS
from torch import Tensor

from sccountsdiff.model._fields import dense_rows
from sccountsdiff.model._loader import CountsDataset
from sccountsdiff.model._population import Population
from sccountsdiff.model._request import CellPlan
from sccountsdiff.process import Process


class Start(ABC):
    """States at the survival where a walk begins.

    Attributes
    ----------
    survival
        That survival, from 0 (nothing is kept) to 1 (nothing is left to walk).
    n_genes
        Number of genes.
    """

    survival: float
    n_genes: int

    @abstractmethod
    def counts(self, plan: CellPlan, cells: NDArray[np.intp]) -> NDArray[np.float32]:
        """UMI counts of the whole cells to start from, ``(n_cells, n_genes)``."""

    @abstractmethod
    def totals(self, plan: CellPlan, cells: NDArray[np.intp]) -> NDArray[Any]:
        """Their UMI totals, ``(n_cells,)``."""

    def inputs(self, plan: CellPlan, cells: NDArray[np.intp]) -> list[NDArray[Any]]:
        """What the states follow from, apart from the plan."""
        return [self.counts(plan, cells)]

    def draw(self, plan: CellPlan, cells: NDArray[np.intp], process: Process, generator: torch.Generator) -> Tensor:
        """Bring the cells to the survival, at the size that is wanted."""
        wanted = _of_cell(plan.library_size[cells]) / np.maximum(self.totals(plan, cells), 1)
        size = torch.as_tensor(np.nan_to_num(wanted, nan=1.0), device=generator.device).float().unsqueeze(-1)
        return process.begin(self._whole(plan, cells, generator.device), self.survival, size, generator)

    def _whole(self, plan: CellPlan, cells: NDArray[np.intp], device: torch.device) -> Tensor:
        """The whole cells on a device."""
        return torch.as_tensor(self.counts(plan, cells), device=device)


@final
@dataclass(frozen=True)
class EmptyStart(Start):
    """Nothing: a pure sample of the model."""

    n_genes: int
    survival: float = 0.0

    def counts(self, plan: CellPlan, cells: NDArray[np.intp]) -> NDArray[np.float32]:
        """Zeros."""
        return np.zeros((len(cells), self.n_genes), dtype=np.float32)

    def totals(self, plan: CellPlan, cells: NDArray[np.intp]) -> NDArray[Any]:
        """Zeros."""
        return np.zeros(len(cells))

    def _whole(self, plan: CellPlan, cells: NDArray[np.intp], device: torch.device) -> Tensor:
        # Made there rather than brought there.
        return torch.zeros(len(cells), self.n_genes, device=device)

    def inputs(self, plan: CellPlan, cells: NDArray[np.intp]) -> list[NDArray[Any]]:
        """Nothing."""
        return []


@final
@dataclass(frozen=True)
class TrainingStart(Start):
    """Training cells of the condition.

    Attributes
    ----------
    matrix
        Counts of the training data.
    population
        The training cells.
    survival
        Part of their molecules that is kept.
    """

    matrix: Any
    population: Population
    survival: float

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return self.matrix.shape[1]

    def counts(self, plan: CellPlan, cells: NDArray[np.intp]) -> NDArray[np.float32]:
        """Counts of the templates; they must be the cells that the model was trained on."""
        counts = dense_rows(self.matrix, self.population.rows[plan.template[cells]]).astype(np.float32)
        if not np.allclose(counts.sum(1), self.totals(plan, cells), equal_nan=True):
            raise ValueError("start='empirical' needs the training data, but the attached AnnData holds other cells.")
        return counts

    def totals(self, plan: CellPlan, cells: NDArray[np.intp]) -> NDArray[Any]:
        """Totals of the templates."""
        return _of_cell(self.population.library_size[plan.template[cells]])


@final
@dataclass(frozen=True)
class CellStart(Start):
    """Given cells, one for each cell of the plan.

    Attributes
    ----------
    cells
        The cells, wherever their counts are.
    survival
        Part of their molecules that is kept.
    """

    cells: CountsDataset
    survival: float

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return self.cells.counts.shape[1]

    def counts(self, plan: CellPlan, cells: NDArray[np.intp]) -> NDArray[np.float32]:
        """Their counts."""
        counts = self.cells.read(cells)[REGISTRY_KEYS.X_KEY]
        return np.asarray(counts.toarray() if sparse.issparse(counts) else counts, dtype=np.float32)

    def totals(self, plan: CellPlan, cells: NDArray[np.intp]) -> NDArray[Any]:
        """Their totals."""
        return self.counts(plan, cells).sum(1)


def _of_cell(library_size: NDArray[Any]) -> NDArray[Any]:
    """Totals of whole cells ``(n_cells,)``, also where each modality has its own."""
    return library_size.reshape(len(library_size), -1).sum(1)
