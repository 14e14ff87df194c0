"""The cells a model was trained on, as far as generation needs them: library sizes and conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

#: Embeddings are remembered if they take at most this many different values.
MAX_VECTORS = 10_000


@dataclass(frozen=True)
class Population:
    """Library size and condition of each training cell.

    Attributes
    ----------
    rows
        Position of each cell in the training AnnData, ``(n_cells,)``; -1 for cells that only the reference of the model
        was trained on.
    library_size
        UMI total of each cell ``(n_cells,)``, or of each modality ``(n_cells, n_modalities)``; NaN where genes were not
        measured.
    values
        Name of a key -> value of each cell: integer codes ``(n_cells,)``, floats ``(n_cells,)``, or for an embedding
        the row of ``vectors`` it takes ``(n_cells,)``.
    vectors
        Name of an embedding -> its different values, ``(n_values, dim)``.
    """

    rows: NDArray[np.integer]
    library_size: NDArray[np.float32]
    values: dict[str, NDArray[Any]]
    vectors: dict[str, NDArray[np.float32]]

    @classmethod
    def of(cls, rows: NDArray[Any], library_size: NDArray[Any], columns: Mapping[str, NDArray[Any]]) -> Population:
        """Build from the columns of the cells; embeddings with too many values are left out."""
        values, vectors = {}, {}
        for name, column in columns.items():
            if column.ndim == 1:
                values[name] = _narrow(column) if column.dtype.kind == "i" else column
                continue
            unique, inverse = np.unique(column, axis=0, return_inverse=True)
            if len(unique) <= MAX_VECTORS:
                vectors[name], values[name] = unique, inverse.ravel().astype(np.int32)
        return cls(_narrow(rows), library_size.astype(np.float32, copy=False), values, vectors)

    def __getstate__(self) -> dict[str, Any]:
        """The arrays, in the form in which files hold them."""
        return as_tensors(vars(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The arrays from a file."""
        vars(self).update(as_arrays(state))

    def __len__(self) -> int:
        return len(self.library_size)

    def matching(self, given: Mapping[str, Any], categorical: Sequence[str]) -> NDArray[np.intp]:
        """Cells whose categorical keys have the codes ``given``; continuous keys and embeddings do not select."""
        matches = np.ones(len(self), dtype=bool)
        for name in categorical:
            if name in given:
                matches &= self.values[name] == given[name]
        return np.flatnonzero(matches)

    def complete(self, cells: NDArray[np.intp]) -> NDArray[np.intp]:
        """Those of some cells at hand in which every gene was measured, or all of them if there is none."""
        library = self.library_size[cells]
        known = np.isfinite(library).all(axis=tuple(range(1, library.ndim))) & (self.rows[cells] >= 0)
        return cells[known] if known.any() else cells

    def at_hand(self, cells: NDArray[np.intp]) -> NDArray[np.intp]:
        """Those of some cells that are in the training data of the model itself, not only in that of its reference."""
        return cells[self.rows[cells] >= 0]

    def elsewhere(self) -> Population:
        """Those cells that were trained on by the reference, whose counts are not at hand."""
        away = self.rows < 0
        values = {name: column[away] for name, column in self.values.items()}
        return Population(self.rows[away], self.library_size[away], values, self.vectors)

    def handed_on(self, recode: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]]) -> Population:
        """The cells as a model remembers them that does not have their counts.

        Parameters
        ----------
        recode
            Name of a key -> from its values to those of the other model.
        """
        values = {name: recode[name](column) for name, column in self.values.items()}
        return Population(np.full_like(self.rows, -1), self.library_size, values, self.vectors)

    def joined(self, other: Population) -> Population:
        """These cells, then those of another population with the same keys."""
        if not len(self):
            return other
        values, vectors = {}, {}
        for name in (name for name in self.values if name in other.values):
            mine, theirs = self.values[name], other.values[name]
            if name in self.vectors:
                vectors[name] = np.concatenate([self.vectors[name], other.vectors[name]])
                theirs = theirs + len(self.vectors[name])
            values[name] = np.concatenate([mine, theirs])
        library_size = np.concatenate([self.library_size, other.library_size])
        return Population(np.concatenate([self.rows, other.rows]), library_size, values, vectors)

    def column(self, name: str, cells: NDArray[np.integer]) -> NDArray[Any] | None:
        """Values of a key in some cells; None if they are not remembered."""
        if name not in self.values:
            return None
        column = self.values[name][cells]
        return self.vectors[name][column] if name in self.vectors else column


def as_tensors(value: Any) -> Any:
    """Arrays, also those within mappings, as tensors: torch turns arrays in files to text and back, in many copies."""
    if isinstance(value, Mapping):
        return {name: as_tensors(inner) for name, inner in value.items()}
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def as_arrays(value: Any) -> Any:
    """Tensors, also those within mappings, as arrays; older files hold arrays."""
    if isinstance(value, Mapping):
        return {name: as_arrays(inner) for name, inner in value.items()}
    return value.cpu().numpy() if isinstance(value, torch.Tensor) else value


def _narrow(numbers: NDArray[np.integer]) -> NDArray[np.integer]:
    """Rows or codes in 32 bits, unless codes of combinations need more."""
    fits = not len(numbers) or numbers.max() <= np.iinfo(np.int32).max
    return numbers.astype(np.int32 if fits else np.int64)
