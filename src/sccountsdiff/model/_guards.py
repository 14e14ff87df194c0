"""What is checked each time an AnnData meets the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from scvi.data import AnnDataManager
from scvi.model.base import RNASeqMixin

from sccountsdiff.model._files import FilesMixin
from sccountsdiff.model._names import nearest_first
from sccountsdiff.model._order import all_cells
from sccountsdiff.model._text import listed


class GuardsMixin(RNASeqMixin, FilesMixin):
    """Refuses data that scvi-tools would take in silence, and lets go of data that is not the model's own."""

    def _validate_anndata(self, adata: AnnData | None = None, copy_if_view: bool = True) -> AnnData:
        """Check genes, and that nothing was changed since setup; register the data if need be."""
        if adata is None and self.adata is None:
            raise ValueError("The model was loaded without AnnData. Pass adata=, or load it with adata=.")
        adata = self.adata if adata is None else adata
        adata = super()._validate_anndata(adata, copy_if_view)
        manager: AnnDataManager = self.get_anndata_manager(adata, required=True)
        for field in manager.fields:
            field.recheck(adata, manager.get_state_registry(field.registry_key))
        return adata

    @contextmanager
    def _using(self, adata: AnnData | None) -> Iterator[AnnData]:
        """The validated data; data that is not the model's own is let go of at the end."""
        registered = set(self._per_instance_manager_store.get(self.id, ()))
        adata = self._validate_anndata(adata)
        try:
            yield adata
        finally:
            if adata is not self.adata:
                managers = self._per_instance_manager_store.get(self.id, {})
                for uuid in set(managers) - registered:
                    del managers[uuid]


def cell_positions(adata: AnnData, indices: ArrayLike | None) -> NDArray[np.integer]:
    """Positions of cells from integers (negative ones count from the end), a boolean mask, or None for all."""
    if indices is None:
        return all_cells(adata.n_obs)
    positions = np.asarray(indices)
    if positions.dtype == bool:
        if len(positions) != adata.n_obs:
            raise ValueError(f"The boolean indices have length {len(positions)}, adata has {adata.n_obs} cells.")
        return np.flatnonzero(positions)
    if positions.dtype.kind not in "iu" and positions.size:
        raise TypeError(
            f"indices are positions of cells or a boolean mask, got {positions.dtype}: for names pass "
            "adata.obs_names.get_indexer(names)."
        )
    positions = positions.astype(np.intp)
    outside = (positions < -adata.n_obs) | (positions >= adata.n_obs)
    if outside.any():
        raise IndexError(f"Cell {positions[outside][0]} does not exist: adata has {adata.n_obs} cells.")
    return np.where(positions < 0, positions + adata.n_obs, positions)


def gene_positions(adata: AnnData, gene_list: Any) -> NDArray[np.intp] | slice:
    """Columns of the genes asked for, in that order; None for all."""
    if gene_list is None:
        return slice(None)
    names = [gene_list] if isinstance(gene_list, str) else list(gene_list)
    positions = adata.var_names.get_indexer(names)
    missing = [name for name, position in zip(names, positions, strict=True) if position < 0]
    if missing:
        near = nearest_first(missing[0], adata.var_names)
        raise KeyError(f"Genes not in the data: {listed(missing)}. It holds {near}.")
    return positions
