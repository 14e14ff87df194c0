"""Rows of sparse matrices in zarr stores, neighbours together.

AnnData asks zarr for each non-zero count by its position, which takes longer than reading what lies side by side, and more
memory than the counts.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

#: Rows between two that are wanted which are read along, since each look into the store takes a while.
_GAP = 256
#: Rows looked at in one go, at most.
_SPAN = 4096
#: Rows that are wanted of a look, at least, on average; and rows read for one that is wanted, at most.
_LEAST, _WASTE = 16, 4
#: Looks into the store at a time: each waits for the disk, and has cores to unpack what comes.
_AT_A_TIME = min(os.cpu_count() or 1, 8)


def is_zarr_csr(matrix: Any) -> bool:
    """Whether a matrix is a row-wise sparse dataset of a zarr store."""
    return getattr(matrix, "backend", None) == "zarr" and getattr(matrix, "format", None) == "csr"


def read_neighbours(matrix: Any, start: int, stop: int) -> sparse.csr_matrix:
    """Read neighbouring rows.

    Parameters
    ----------
    matrix
        Sparse dataset of anndata, row-wise and in a zarr store, ``(n_cells, n_genes)``.
    start, stop
        First row, and the one after the last.

    Returns
    -------
    ``(stop - start, n_genes)``.
    """
    ends = np.asarray(matrix.group["indptr"][start : max(start, stop) + 1])
    counts, columns = (np.asarray(matrix.group[name][int(ends[0]) : int(ends[-1])]) for name in ("data", "indices"))
    return sparse.csr_matrix((counts, columns, ends - ends[0]), shape=(len(ends) - 1, matrix.shape[1]))


def spans(rows: NDArray[np.integer]) -> list[NDArray[np.integer]]:
    """Rising rows without repeats in groups that are worth reading together; no group if the rows are far apart.

    Parameters
    ----------
    rows
        Positions, ``(n_rows,)``.

    Returns
    -------
    The positions in parts, or an empty list.
    """
    apart = (np.diff(rows) > _GAP) | (np.diff(rows // _SPAN) > 0)
    found = np.split(rows, np.flatnonzero(apart) + 1)
    n_read = sum(int(span[-1]) - int(span[0]) + 1 for span in found if len(span))
    return found if _LEAST * len(found) <= len(rows) and n_read <= _WASTE * len(rows) else []


def read_spans(matrix: Any, found: list[NDArray[np.integer]]) -> sparse.csr_matrix:
    """Read groups of rows, several at a time.

    Parameters
    ----------
    matrix
        As for :func:`read_neighbours`.
    found
        Their positions, see :func:`spans`.

    Returns
    -------
    ``(n_rows, n_genes)``.
    """

    def rows(span: NDArray[np.integer]) -> sparse.csr_matrix:
        return read_neighbours(matrix, int(span[0]), int(span[-1]) + 1)[span - span[0]]

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return sparse.vstack(list(pool.map(rows, found)), format="csr")
