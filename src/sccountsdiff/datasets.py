"""Real UMI counts that are on disk once the package is installed: no download, no network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData
from scipy import sparse

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["pbmc68k"]

# A value further than this from an integer was not made from UMI counts by the normalisation that is undone
# here. The shipped file stores float32 logarithms of cells with up to 8,000 UMIs and stays below .09.
MAX_DEVIATION = 0.12


def pbmc68k() -> AnnData:
    """700 peripheral blood mononuclear cells, 765 genes, as integer UMI counts.

    The cells are the subsample of the 68k PBMC of 10x Genomics that ships with scanpy
    (:func:`scanpy.datasets.pbmc68k_reduced`). Scanpy stores ``log1p`` of counts per ten thousand; the counts are
    recovered by inverting that, ``round(expm1(raw) * n_counts / 1e4)``.

    Returns
    -------
    Cells times genes with

    - ``.X`` and ``.layers["counts"]``: UMI counts, integer-valued ``float32`` in ``csr_matrix``;
    - ``.obs["cell_type"]``: ten cell types (scanpy's ``bulk_labels``); ``.obs["n_counts"]`` is the library size over
      *all* genes of the cell, of which the 765 kept here are about a fifth; ``percent_mito``, ``phase``, ``louvain``
      and the cell cycle scores are scanpy's, unchanged.

    Raises
    ------
    ValueError
        If the installed scanpy ships values from which no integer counts can be recovered.

    References
    ----------
    Zheng et al. (2017), Massively parallel digital transcriptional profiling of single cells,
    Nature Communications 8, 14049.

    Examples
    --------
    >>> import sccountsdiff
    >>> adata = sccountsdiff.datasets.pbmc68k()
    >>> adata.shape
    (700, 765)
    """
    import scanpy as sc  # takes seconds, and nothing else here needs it

    shipped = sc.datasets.pbmc68k_reduced()
    counts = _recover_counts(shipped.raw.X, shipped.obs["n_counts"].to_numpy())
    adata = AnnData(counts, obs=shipped.obs.rename(columns={"bulk_labels": "cell_type"}))
    adata.var_names = shipped.raw.var_names
    adata.layers["counts"] = counts.copy()
    adata.uns["cell_type_colors"] = list(shipped.uns["bulk_labels_colors"])
    return adata


def _recover_counts(log_normalized: sparse.spmatrix | npt.ArrayLike, library_size: npt.NDArray) -> sparse.csr_matrix:
    """Invert ``log1p(counts / library_size * 1e4)`` and refuse what does not come out integral.

    Parameters
    ----------
    log_normalized
        ``log1p`` of counts per ten thousand, ``(n_cells, n_genes)``.
    library_size
        UMIs per cell over all genes that were normalised together, ``(n_cells,)``.

    Returns
    -------
    UMI counts ``(n_cells, n_genes)``, integer-valued ``float32``.

    Raises
    ------
    ValueError
        If a value is negative, not finite, or recovered :data:`MAX_DEVIATION` or more away from an integer.
    """
    values = sparse.csr_matrix(log_normalized, dtype=np.float64)
    per_entry_size = np.repeat(np.asarray(library_size, dtype=np.float64), np.diff(values.indptr))
    recovered = np.expm1(values.data) * per_entry_size / 1e4
    rounded = np.round(recovered)
    with np.errstate(invalid="ignore"):  # inf - inf; NaN compares false and so is refused
        accepted = (np.abs(recovered - rounded) < MAX_DEVIATION) & (values.data >= 0)
    if not accepted.all():
        first = int(np.argmin(accepted))
        cell = int(np.searchsorted(values.indptr, first, side="right")) - 1
        raise ValueError(
            f"No integer UMI counts can be recovered: {(~accepted).sum()} of {accepted.size} non-zero values are "
            f"{MAX_DEVIATION} or more away from a natural number, the first being {recovered[first]:.3f} in cell {cell}, "
            f"gene {int(values.indices[first])}. scanpy.datasets.pbmc68k_reduced() of scanpy 1.11 and 1.12 is known "
            "to work; install one of these, or load counts of your own."
        )
    counts = sparse.csr_matrix((rounded.astype(np.float32), values.indices, values.indptr), shape=values.shape)
    counts.eliminate_zeros()
    return counts
