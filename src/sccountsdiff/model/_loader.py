"""Minibatches of counts and conditions, in the order asked for, from any storage."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.dataloaders import AnnDataLoader
from torch.utils.data import Dataset

from sccountsdiff.data import InvalidCountsError, check_counts, keep_measured, read_rows, row_readable
from sccountsdiff.model._fields import CountsField, dense_rows
from sccountsdiff.model._measured import OBSERVED_KEY


class CountsDataset(Dataset):
    """Cells of a registered AnnData as tensors.

    Differs from :class:`~scvi.data.AnnTorchDataset` in that backed rows come in the order asked for, column-wise and
    coordinate sparse matrices are converted once (the user's object stays as it is), and every minibatch is checked:
    counts that were changed after ``setup_anndata`` do not reach the network.
    """

    def __init__(self, manager: AnnDataManager, rows: NDArray[np.integer], sparse_tensor: bool = False) -> None:
        self.rows = np.asarray(rows)
        self.sparse_tensor = sparse_tensor
        keys = [key for key in manager.data_registry if key != REGISTRY_KEYS.X_KEY]
        self.counts = row_readable(manager.get_from_registry(REGISTRY_KEYS.X_KEY))
        self.observed = _observed(manager)
        self.columns = {key: _column(manager.get_from_registry(key)) for key in keys}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | list[int]) -> dict[str, Any]:
        return self.tensors(self.read(index))

    def read(self, index: int | list[int] | NDArray[np.integer]) -> dict[str, Any]:
        """Checked rows by registry key; sparse counts are still sparse."""
        rows = np.atleast_1d(self.rows[index])
        values = {key: _tensor_like(column[rows]) for key, column in self.columns.items()}
        counts = read_rows(self.counts, rows)
        if self.observed is not None:
            observed = dense_rows(self.observed, rows).astype(bool)
            counts = keep_measured(counts, observed)
            values[OBSERVED_KEY] = observed
        self._check(counts)
        return values | {REGISTRY_KEYS.X_KEY: counts}

    def tensors(self, values: dict[str, Any]) -> dict[str, Any]:
        """Rows as they go to the network: float counts, dense or as a sparse tensor."""
        return values | {REGISTRY_KEYS.X_KEY: self._tensor(values[REGISTRY_KEYS.X_KEY])}

    def _check(self, counts: Any) -> None:
        found = check_counts(counts.data if sparse.issparse(counts) else counts.ravel())
        if found is not None:
            raise InvalidCountsError(
                f"The counts were changed after setup_anndata: they now hold {found[0]} values. Keep the raw counts in "
                "a layer of their own and set up with layer='counts'."
            )

    def _tensor(self, counts: Any) -> Any:
        if not sparse.issparse(counts):
            return counts.astype(np.float32)
        if not self.sparse_tensor:
            return counts.toarray().astype(np.float32, copy=False)
        parts = (counts.indptr, counts.indices, counts.data.astype(np.float32))
        with warnings.catch_warnings():  # torch calls its sparse csr layout beta, once per process
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_csr_tensor(*map(torch.as_tensor, parts), size=counts.shape)


class CountsDataLoader(AnnDataLoader):
    """:class:`~scvi.dataloaders.AnnDataLoader` over a :class:`CountsDataset`."""

    def __init__(self, adata_manager: AnnDataManager, *args: Any, shuffle: bool = False, **kwargs: Any) -> None:
        super().__init__(_Source(adata_manager), *args, shuffle=shuffle, **kwargs)
        if not shuffle:
            # Even without workers or shuffling an iterator of torch draws a seed, by default from the global generator.
            self.generator = torch.Generator()


class _Source:
    """What :class:`~scvi.dataloaders.AnnDataLoader` asks of a manager."""

    def __init__(self, manager: AnnDataManager) -> None:
        self._manager = manager

    @property
    def adata(self) -> AnnData:
        return self._manager.adata

    def create_torch_dataset(
        self, indices: NDArray[np.integer], data_and_attributes: Any = None, load_sparse_tensor: bool = False
    ) -> CountsDataset:
        return CountsDataset(self._manager, indices, load_sparse_tensor)


def _observed(manager: AnnDataManager) -> Any:
    """Boolean matrix of what was measured, None if all was."""
    (counts,) = (field for field in manager.fields if isinstance(field, CountsField))
    return counts.observed(manager.adata, manager.get_state_registry(counts.registry_key))


def _column(values: Any) -> NDArray[Any]:
    """Values of one registered field, ``(n_cells,)`` or ``(n_cells, dim)``: no copy, for there may be millions."""
    values = np.asarray(values)
    return values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values


def _tensor_like(values: NDArray[Any]) -> NDArray[Any]:
    """The values as int64 codes or float32."""
    return values.astype(np.int64 if values.dtype.kind in "iu" else np.float32)
