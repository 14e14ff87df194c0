"""Rows of a matrix, whatever holds it: NumPy, SciPy (matrix or array, csr or csc), HDF5 or zarr on disk, dask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sccountsdiff.data._zarr_rows import is_zarr_csr, read_neighbours, read_spans, spans

#: What a slice of rows comes back as.
Rows: TypeAlias = "NDArray[Any] | sparse.csr_matrix"

#: Rows read at a time by the scans; 4,096 cells x 30,000 genes of dense float32 are 0.5 GB.
CHUNK_SIZE = 4096


def row_readable(matrix: Any) -> Any:
    """Return a matrix in a form whose rows can be read fast; the caller's object is never changed.

    Parameters
    ----------
    matrix
        ``(n_cells, n_genes)``: an array, sparse matrix, on-disk dataset or dask array.

    Returns
    -------
    A ``csr_matrix`` if the matrix is sparse and in memory, else the matrix itself.
    """
    if sparse.issparse(matrix):
        return sparse.csr_matrix(matrix)
    return matrix


def read_rows(matrix: Any, rows: slice | NDArray[np.integer]) -> Rows:
    """Read rows in the order asked for.

    Parameters
    ----------
    matrix
        ``(n_cells, n_genes)``: an array, sparse matrix, on-disk dataset or dask array.
    rows
        Slice, or integer positions in any order, with repeats.

    Returns
    -------
    NumPy array or ``csr_matrix`` of shape ``(len(rows), n_genes)``.

    Raises
    ------
    Exception
        Whatever the storage raises if it cannot be read, with a note of the rows and the remedy.

    Notes
    -----
    On-disk datasets want rising, unrepeated positions, and some return rows in that order whatever was asked: they are
    asked for the sorted unique positions, and the answer is put back in order here.
    """
    try:
        block = _read(matrix, rows)
    except Exception as error:
        error.add_note(
            f"Cells {_extent(rows)} of the counts could not be read. If the store is damaged or a copy was cut short, copy "
            "it again; what was finished before is kept."
        )
        raise
    return sparse.csr_matrix(block) if sparse.issparse(block) else np.asarray(block)


def _read(matrix: Any, rows: slice | NDArray[np.integer]) -> Any:
    if isinstance(rows, slice) and is_zarr_csr(matrix):
        start, stop, _ = rows.indices(matrix.shape[0])
        return read_neighbours(matrix, start, stop)
    if isinstance(rows, slice) or isinstance(matrix, np.ndarray) or sparse.issparse(matrix):
        return _in_memory(matrix[rows])
    unique, inverse = np.unique(rows, return_inverse=True)
    together = spans(unique) if is_zarr_csr(matrix) else []
    block = read_spans(matrix, together) if together else _in_memory(matrix[_question(matrix, unique)])
    # A large buffer of cells comes in the order of the file: it is not copied to be put into order.
    return block if np.array_equal(unique, rows) else _in_memory(block[inverse])


def _extent(rows: slice | NDArray[np.integer]) -> str:
    first, last = (rows.start, rows.stop - 1) if isinstance(rows, slice) else (np.min(rows), np.max(rows))
    return f"{first} to {last}"


def row_chunks(matrix: Any, chunk_size: int = CHUNK_SIZE) -> Iterator[tuple[slice, Rows]]:
    """Iterate over consecutive blocks of rows.

    Parameters
    ----------
    matrix
        As for :func:`read_rows`.
    chunk_size
        Rows of a block.

    Yields
    ------
    The slice of a block and its rows.
    """
    matrix = row_readable(matrix)
    for start in range(0, matrix.shape[0], chunk_size):
        block = slice(start, min(start + chunk_size, matrix.shape[0]))
        yield block, read_rows(matrix, block)


def take_columns(matrix: Any, positions: NDArray[np.integer]) -> Any:
    """Columns in another order, with columns of zeros in between.

    Parameters
    ----------
    matrix
        In memory, dense or sparse, ``(n_cells, n_genes)``.
    positions
        Column of ``matrix`` that each new column takes, none twice; -1 for zeros.

    Returns
    -------
    A new matrix ``(n_cells, len(positions))`` of the same kind.
    """
    (new,) = np.nonzero(positions >= 0)
    if not sparse.issparse(matrix):
        taken = np.zeros((matrix.shape[0], len(positions)), dtype=matrix.dtype)
        taken[:, new] = np.asarray(matrix)[:, positions[new]]
        return taken
    column = np.full(matrix.shape[1], -1)
    column[positions[new]] = new
    entries = matrix.tocoo()
    kept = column[entries.col] >= 0
    taken = (entries.data[kept], (entries.row[kept], column[entries.col[kept]]))
    return type(matrix)(taken, shape=(matrix.shape[0], len(positions)))


def keep_measured(rows: Rows, measured: NDArray[np.bool_]) -> Rows:
    """Zero in place of entries that were not measured, whatever they hold.

    Parameters
    ----------
    rows
        Rows of a matrix, ``(n_rows, n_genes)``.
    measured
        Boolean of the same shape, False = not measured.

    Returns
    -------
    New rows; sparse ones stay sparse.
    """
    if not sparse.issparse(rows):
        return np.where(measured, rows, 0)
    entries = rows.tocoo()
    seen = measured[entries.row, entries.col]
    kept = (entries.data[seen], (entries.row[seen], entries.col[seen]))
    return sparse.csr_matrix(kept, shape=rows.shape)


def _question(matrix: Any, rows: NDArray[np.integer]) -> NDArray[Any]:
    """Rising rows in the form that the storage answers fastest.

    Sparse matrices on disk read runs of neighbouring rows at once if they are asked by a mask, which other storages
    are slow to take.
    """
    if getattr(matrix, "format", None) != "csr":
        return rows
    mask = np.zeros(matrix.shape[0], dtype=bool)
    mask[rows] = True
    return mask


def _in_memory(block: Any) -> Any:
    """Compute a lazy (dask) block."""
    return block.compute() if hasattr(block, "compute") else block
