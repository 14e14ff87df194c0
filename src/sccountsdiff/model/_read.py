"""The counts of some cells as the model reads them, for those who judge it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from scvi import REGISTRY_KEYS

from sccountsdiff.model._measured import OBSERVED_KEY


class CellsRead(NamedTuple):
    """Counts, and which of them were measured.

    Parameters
    ----------
    counts
        UMI counts ``(n_cells, n_genes)``, integer-valued floats.
    measured
        False where an entry was not measured according to the setup, same shape.
    """

    counts: NDArray[np.float64]
    measured: NDArray[np.bool_]


def read_cells(model: Any, adata: AnnData | None = None, indices: ArrayLike | None = None) -> CellsRead:
    """Read counts through the setup of a model: the layer, and what was measured.

    Parameters
    ----------
    model
        A model of this package.
    adata
        Cells with the genes of the training data; ``None`` is the training data.
    indices
        Positions of the cells; ``None`` is all. They come back as a dense array.

    Returns
    -------
    The cells.
    """
    adata = model._validate_anndata(adata)
    minibatches = list(model._make_data_loader(adata=adata, indices=indices, batch_size=1024))
    counts = np.concatenate([np.asarray(tensors[REGISTRY_KEYS.X_KEY], dtype=np.float64) for tensors in minibatches])
    if OBSERVED_KEY not in minibatches[0]:
        return CellsRead(counts, np.ones(counts.shape, dtype=bool))
    return CellsRead(counts, np.concatenate([np.asarray(tensors[OBSERVED_KEY], dtype=bool) for tensors in minibatches]))
