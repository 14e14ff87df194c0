"""Panels: what was measured, where many cells share the same list of genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray

#: Column of ``var``, False for genes that none of the cells was measured for.
NOT_MISSING_KEY = "_sccountsdiff_measured"


class Panels:
    """Boolean matrix of which many cells share a row: True = measured.

    It is read like any other matrix (:func:`~sccountsdiff.data.read_rows`) and takes the memory of its different rows.

    Parameters
    ----------
    table
        The different rows, ``(n_panels, n_genes)``.
    codes
        Row that each cell takes, ``(n_cells,)``.
    """

    dtype = np.dtype(bool)

    def __init__(self, table: ArrayLike, codes: ArrayLike) -> None:
        self.table = np.asarray(table, dtype=bool)
        self.codes = np.asarray(codes, dtype=np.int32)

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_cells, n_genes)``."""
        return len(self.codes), self.table.shape[1]

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> NDArray[np.bool_]:
        """Rows as a dense array."""
        return self.table[self.codes[rows]]


class AllOf:
    """Boolean matrix that is True where several are, row by row.

    Parameters
    ----------
    matrices
        Boolean matrices of one shape whose rows can be indexed.
    """

    dtype = np.dtype(bool)

    def __init__(self, matrices: Sequence[Any]) -> None:
        self.matrices = tuple(matrices)

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_cells, n_genes)``."""
        return self.matrices[0].shape

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> NDArray[np.bool_]:
        """Rows as a dense array."""
        blocks = (matrix[rows] for matrix in self.matrices)
        return np.logical_and.reduce([b.toarray() if hasattr(b, "toarray") else np.asarray(b) for b in blocks])


def concat_panels(
    adatas: Mapping[str, AnnData], label: str = "batch", key_added: str = "measured", **kwargs: Any
) -> AnnData:
    """Join data sets with different genes, remembering which of them measured which.

    All genes are kept. A gene that a data set lacks is filled with zeros in its cells, and marked as not measured in a
    table that ``CountsDiff.setup_anndata(adata, batch_key=label, measured_genes=key_added)`` reads: the model imputes
    it there, instead of learning that it is zero.

    Parameters
    ----------
    adatas
        Data set by name; the name becomes the batch.
    label
        Column of ``obs`` that says where a cell comes from.
    key_added
        Key of ``varm`` for the boolean table, genes by data sets; True = measured.
    **kwargs
        Passed on to :func:`anndata.concat`, for example ``index_unique="-"``.

    Returns
    -------
    AnnData over the union of the genes; sparse counts stay sparse.

    Raises
    ------
    ValueError
        If there is no data set, or the gene names of one are not unique.

    Examples
    --------
    >>> adata = concat_panels({"atlas": atlas, "targeted": targeted}, label="study")
    >>> CountsDiff.setup_anndata(adata, layer="counts", batch_key="study", measured_genes="measured")
    """
    for name, adata in adatas.items():
        if not adata.var_names.is_unique:
            twice = adata.var_names[adata.var_names.duplicated()][0]
            raise ValueError(f"Gene names of {name!r} are not unique: {twice!r}. Run adata.var_names_make_unique().")
    options = {"join": "outer", "fill_value": 0, "merge": "unique"} | kwargs
    joined = ad.concat(dict(adatas), label=label, **options)
    table = {str(name): joined.var_names.isin(measured_names(adata)) for name, adata in adatas.items()}
    joined.varm[key_added] = pd.DataFrame(table, index=joined.var_names)
    joined.var = joined.var.drop(columns=NOT_MISSING_KEY, errors="ignore")
    return joined


def measured_names(adata: AnnData) -> pd.Index:
    """Names of the genes that were measured: all but those that were added to fit a model.

    Parameters
    ----------
    adata
        Data, perhaps prepared by ``CountsDiff.prepare_query_anndata``.

    Returns
    -------
    Names, in the order of ``var``.
    """
    if NOT_MISSING_KEY not in adata.var:
        return adata.var_names
    return adata.var_names[adata.var[NOT_MISSING_KEY].to_numpy(dtype=bool)]
