"""Where results go, minibatch by minibatch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sccountsdiff.data._matrix import Rows


class Sink(ABC):
    """Takes several matrices ``(n_cells, n_genes)`` at once, in chunks of cells that may come in any order.

    Parameters
    ----------
    n_cells
        Rows of each matrix.
    chunk_size
        Rows of a chunk; the last one may have fewer.
    """

    def __init__(self, n_cells: int, chunk_size: int) -> None:
        self.n_cells = n_cells
        self.chunk_size = chunk_size

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return -(-self.n_cells // self.chunk_size)

    def rows(self, chunk: int) -> slice:
        """Rows of a chunk.

        Parameters
        ----------
        chunk
            Its number, from 0.

        Returns
        -------
        Their positions.
        """
        return slice(chunk * self.chunk_size, min((chunk + 1) * self.chunk_size, self.n_cells))

    @abstractmethod
    def pending(self) -> list[int]:
        """Chunks that are still to be written.

        Returns
        -------
        Their numbers, rising.
        """

    @abstractmethod
    def write(self, chunk: int, blocks: Sequence[Rows]) -> None:
        """Take a chunk.

        Parameters
        ----------
        chunk
            Its number.
        blocks
            The rows of each matrix, all dense or all ``csr_matrix``.
        """


@final
class MemorySink(Sink):
    """Keeps the matrices in memory: dense ones in place, sparse ones block by block."""

    def __init__(self, n_cells: int, chunk_size: int) -> None:
        super().__init__(n_cells, chunk_size)
        self._dense: list[NDArray[Any]] = []
        self._sparse: dict[int, list[sparse.csr_matrix]] = {}

    def pending(self) -> list[int]:
        """All chunks."""
        return list(range(self.n_chunks))

    def write(self, chunk: int, blocks: Sequence[Rows]) -> None:
        """Keep the blocks."""
        if all(sparse.issparse(block) for block in blocks):
            self._sparse[chunk] = list(blocks)
            return
        if not self._dense:
            self._dense = [np.empty((self.n_cells, block.shape[1]), dtype=block.dtype) for block in blocks]
        for matrix, block in zip(self._dense, blocks, strict=True):
            matrix[self.rows(chunk)] = block

    def matrices(self) -> list[Rows]:
        """The whole matrices.

        Returns
        -------
        Arrays or ``csr_matrix``, each ``(n_cells, n_genes)``.
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
