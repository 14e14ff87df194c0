"""A full look at the counts: every entry is checked, in chunks of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from sccountsdiff.data._gene_sums import GeneSums
from sccountsdiff.data._matrix import Rows, keep_measured, row_chunks

#: Largest count that float32 tensors hold exactly.
MAX_COUNT = 2**24

_REMEDY = {
    "NaN": "Fill missing values with 0, or mark them in a boolean layer (observed_layer=, False = not measured).",
    "infinite": "Replace infinite values by the raw count.",
    "negative": "Pass raw UMI counts, for example layer='counts'; scaled or corrected values will not do.",
    "non-integer": "Pass raw UMI counts, for example layer='counts'; normalised or log values will not do.",
    "too large": f"Counts above {MAX_COUNT:,} cannot be held exactly; check the units of the layer.",
}


class InvalidCountsError(ValueError):
    """The matrix holds something that is no UMI count."""


@dataclass(frozen=True)
class CountScan:
    """Totals of a matrix of counts.

    Parameters
    ----------
    genes
        Mean and dispersion of each gene.
    library_size
        UMIs of each cell, ``(n_cells,)``.
    """

    genes: GeneSums
    library_size: NDArray[np.float64]


def check_counts(values: NDArray[Any]) -> tuple[str, int] | None:
    """Find the first value that is no count.

    Parameters
    ----------
    values
        Entries of a matrix, ``(n_values,)``.

    Returns
    -------
    ``None`` if all values are non-negative integers below :data:`MAX_COUNT`; else what is wrong ("NaN", "infinite",
    "negative", "non-integer" or "too large") and the position of the first offender in ``values``.
    """
    if values.size == 0 or values.dtype.kind in "bu":
        return None
    # One pass answers the usual case; NaN fails every comparison, so it cannot slip through.
    if (
        values.min() >= 0
        and values.max() <= MAX_COUNT
        and (values.dtype.kind == "i" or np.array_equal(values, np.rint(values)))
    ):
        return None
    with np.errstate(invalid="ignore"):
        for problem, wrong in (
            ("NaN", np.isnan(values)),
            ("infinite", np.isinf(values)),
            ("negative", values < 0),
            ("non-integer", values % 1 != 0),
            ("too large", values > MAX_COUNT),
        ):
            if wrong.any():
                return problem, int(np.argmax(wrong))
    return None


def scan_counts(
    matrix: Any,
    *,
    observed: Any = None,
    cell_names: ArrayLike | None = None,
    gene_names: ArrayLike | None = None,
    where: str = "the counts",
) -> CountScan:
    """Check every entry and add up the totals, in one pass over chunks of cells.

    Parameters
    ----------
    matrix
        UMI counts, ``(n_cells, n_genes)``, in any storage that :func:`~sccountsdiff.data.read_rows` reads.
    observed
        Boolean matrix of the same shape; entries where it is False are neither checked nor counted.
    cell_names, gene_names
        Names for error messages; positions are used if missing.
    where
        What the matrix is called in error messages, for example ``"adata.layers['counts']"``.

    Returns
    -------
    The totals.

    Raises
    ------
    InvalidCountsError
        If there are no cells or genes, or an entry is NaN, infinite, negative, fractional or above
        :data:`MAX_COUNT`: the message names the cell, the gene and the remedy.
    """
    n_cells, n_genes = matrix.shape
    if n_cells == 0 or n_genes == 0:
        raise InvalidCountsError(f"{where} is empty: {n_cells} cells x {n_genes} genes. Pass at least one of each.")
    genes = GeneSums(n_genes)
    library_size = np.empty(n_cells)
    masks = None if observed is None else row_chunks(observed)
    for block, rows in row_chunks(matrix):
        measured = None
        if masks is not None:
            measured = _dense(next(masks)[1]).astype(bool)
            rows = keep_measured(rows, measured)
        _raise_if_invalid(rows, block.start, cell_names, gene_names, where)
        library_size[block] = np.asarray(rows.sum(axis=1, dtype=np.float64)).ravel()
        genes.add(rows, library_size[block], measured)
    return CountScan(genes, library_size)


def _raise_if_invalid(
    rows: Rows, offset: int, cell_names: ArrayLike | None, gene_names: ArrayLike | None, where: str
) -> None:
    values = rows.data if sparse.issparse(rows) else rows.ravel()
    found = check_counts(values)
    if found is None:
        return
    problem, position = found
    if sparse.issparse(rows):
        row, gene = int(np.searchsorted(rows.indptr, position, side="right")) - 1, int(rows.indices[position])
    else:
        row, gene = divmod(position, rows.shape[1])
    cell = row + offset
    cell_name = cell if cell_names is None else repr(str(np.asarray(cell_names)[cell]))
    gene_name = gene if gene_names is None else repr(str(np.asarray(gene_names)[gene]))
    raise InvalidCountsError(
        f"{where} holds a value that is no UMI count: {problem} ({values[position]}) in cell {cell_name}, "
        f"gene {gene_name}. {_REMEDY[problem]}"
    )


def _dense(rows: Rows) -> NDArray[Any]:
    return rows.toarray() if sparse.issparse(rows) else np.asarray(rows)
