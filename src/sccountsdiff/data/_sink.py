"""Where results go, minibatch by minibatch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sccountsdiff.data._matrix import Rows


class Chunks(NamedTuple):
    """Cells in chunks of neighbours, the last of which may be smaller.

    Parameters
    ----------
    n_cells
        Number of cells.
    size
        Cells in a chunk.
    """

    n_cells: int
    size: int

    @property
    def number(self) -> int:
        """Number of chunks."""
        return -(-self.n_cells // self.size)

    def rows(self, chunk: int) -> slice:
        """Cells of a chunk.

        Parameters
        ----------
        chunk
            Its number, from 0.

        Returns
        -------
        Their positions.
        """
        return slice(chunk * self.size, min((chunk + 1) * self.size, self.n_cells))


class Sink(ABC):
    """Takes several matrices with a row for each cell at once, in chunks of cells that may come in any order.

    Parameters
    ----------
    chunks
        The chunks of cells.
    """

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks

    @abstractmethod
    def pending(self, chunks: Sequence[int] | None = None) -> list[int]:
        """Chunks that are still to be written.

        Parameters
        ----------
        chunks
            Those to look at; ``None`` is all.

        Returns
        -------
        Their numbers, in the same order.
        """

    @abstractmethod
    def write(self, chunk: int, blocks: Sequence[Rows], inputs: Iterable[NDArray[Any]]) -> None:
        """Take a chunk.

        Parameters
        ----------
        chunk
            Its number.
        blocks
            The rows of each matrix, all dense or all ``csr_matrix``.
        inputs
            What the chunk was made of.
        """


@final
class MemorySink(Sink):
    """Keeps the matrices in memory: dense ones in place, sparse ones block by block."""

    def __init__(self, chunks: Chunks) -> None:
        super().__init__(chunks)
        self._dense: list[NDArray[Any]] = []
        self._sparse: dict[int, list[sparse.csr_matrix]] = {}

    def pending(self, chunks: Sequence[int] | None = None) -> list[int]:
        """All chunks."""
        return list(range(self.chunks.number) if chunks is None else chunks)

    def write(self, chunk: int, blocks: Sequence[Rows], inputs: Iterable[NDArray[Any]] = ()) -> None:
        """Keep the blocks."""
        if all(sparse.issparse(block) for block in blocks):
            self._sparse[chunk] = list(blocks)
            return
        if not self._dense:
            self._dense = [np.empty((self.chunks.n_cells, *block.shape[1:]), dtype=block.dtype) for block in blocks]
        for matrix, block in zip(self._dense, blocks, strict=True):
            matrix[self.chunks.rows(chunk)] = block

    def matrices(self) -> list[Rows]:
        """The whole matrices.

        Returns
        -------
        Arrays or ``csr_matrix``, each with a row for each cell.
        """
        if self._dense:
            return list(self._dense)
        parts = zip(*(self._sparse[chunk] for chunk in sorted(self._sparse)), strict=True)
        return [sparse.vstack(part, format="csr") for part in parts]


def smaller_form(matrix: Rows) -> Rows:
    """A matrix in the form that takes less memory.

    Parameters
    ----------
    matrix
        An array, which is returned as it is, or a ``csr_matrix``.

    Returns
    -------
    The ``csr_matrix``, or the same values as an array.
    """
    if not sparse.issparse(matrix):
        return matrix
    stored = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    return matrix if stored < matrix.dtype.itemsize * np.prod(matrix.shape, dtype=np.int64) else matrix.toarray()


def sparse_counts(counts: NDArray[Any]) -> sparse.csr_matrix:
    """Integer counts in sparse form; unlike by SciPy, without coordinates of rows: most of them are 0.

    Parameters
    ----------
    counts
        Integer-valued, ``(n_cells, n_genes)``.

    Returns
    -------
    ``csr_matrix`` of int32 with sorted indices.
    """
    n_cells, n_genes = counts.shape
    there = counts != 0
    ends = np.concatenate([[0], np.cumsum(there.sum(1))])
    places = np.flatnonzero(there)
    indices = (places % max(n_genes, 1)).astype(np.int32)
    matrix = sparse.csr_matrix((counts.ravel()[places].astype(np.int32), indices, ends), shape=(n_cells, n_genes))
    matrix.has_sorted_indices = True
    return matrix
