"""An AnnData whose matrices stay on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import zarr
from anndata.io import read_elem, sparse_dataset

_OPENERS = {
    ".h5ad": lambda path: h5py.File(path, "r"),
    ".zarr": lambda path: zarr.open_group(path, mode="r"),
}


def open_cells(path: str | os.PathLike[str]) -> ad.AnnData:
    """Open a file of cells: ``.X`` and the layers stay on disk, what is known of cells and genes is read.

    Parameters
    ----------
    path
        AnnData file ending in ``.h5ad`` or ``.zarr``.

    Returns
    -------
    AnnData that is in memory apart from its matrices. They are read minibatch by minibatch.

    Raises
    ------
    ValueError
        If the path ends in something else.
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> adata = sccountsdiff.data.open_cells("atlas.zarr")
    >>> CountsDiff.setup_anndata(adata, layer="counts")
    """
    path = Path(path)
    if path.suffix not in _OPENERS:
        raise ValueError(f"{str(path)!r} must end in {' or '.join(_OPENERS)}.")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    group = _OPENERS[path.suffix](str(path))
    annotation = {name: read_elem(group[name]) for name in ("obs", "var", "obsm", "varm", "uns") if name in group}
    layers = {name: _on_disk(group["layers"][name]) for name in group.get("layers", ())}
    return ad.AnnData(_on_disk(group["X"]) if "X" in group else None, layers=layers, **annotation)


def _on_disk(matrix: Any) -> Any:
    """A dataset as it is, a group as the sparse matrix that it holds."""
    return sparse_dataset(matrix) if isinstance(matrix, (h5py.Group, zarr.Group)) else matrix
