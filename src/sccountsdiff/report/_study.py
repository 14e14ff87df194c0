"""The cells that a report is about: those a model was trained on, and those it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from sccountsdiff.model import CellsRead, read_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sccountsdiff.model import CountsDiff

#: Training cells that baselines are fitted to, for each held-out cell that may be scored.
TRAINING_PER_HELD_OUT = 3
FEWEST = 10


@dataclass(frozen=True)
class Study:
    """A trained model, its training cells and held-out cells.

    Attributes
    ----------
    model
        The model.
    train, held_out
        The cells, in memory.
    train_read, held_out_read
        Their counts.
    origin
        Where the held-out cells come from, in words.
    groupby
        Column of ``obs`` that groups the cells; None if there is none.
    seed
        Seed of all draws.
    """

    model: CountsDiff
    train: AnnData
    held_out: AnnData
    train_read: CellsRead
    held_out_read: CellsRead
    origin: str
    groupby: str | None
    seed: int

    def labels(self, cells: AnnData) -> NDArray[np.str_] | None:
        """Group of each cell.

        Parameters
        ----------
        cells
            Cells with the column :attr:`groupby`.

        Returns
        -------
        Names ``(n_cells,)``, None without groups.
        """
        return None if self.groupby is None else cells.obs[self.groupby].astype(str).to_numpy()

    def with_counts(self, counts: Any) -> AnnData:
        """The held-out cells with other counts.

        Parameters
        ----------
        counts
            Counts ``(n_cells, n_genes)``.

        Returns
        -------
        A copy.
        """
        cells, layer = self.held_out.copy(), counts_layer(self.model)
        if layer is None:
            cells.X = counts
        else:
            cells.layers[layer] = counts
        return cells


def counts_layer(model: CountsDiff) -> str | None:
    """Layer of the counts that a model was set up with; None is ``.X``.

    Parameters
    ----------
    model
        The model.

    Returns
    -------
    Name of the layer.
    """
    return model.registry["setup_args"].get("layer")


def study(model: CountsDiff, adata: AnnData | None, groupby: str | None, max_cells: int, seed: int) -> Study:
    """Choose the cells of a report.

    Parameters
    ----------
    model
        Trained model with its training data.
    adata
        Cells that the model was not trained on; ``None`` takes those that training left out.
    groupby
        Column of ``obs`` that groups the cells; ``None`` is the ``labels_key`` of the setup.
    max_cells
        Held-out cells to use at most; more are drawn from.
    seed
        Seed of the choice.

    Returns
    -------
    The cells.

    Raises
    ------
    ValueError
        If the model has no training data or several modalities, or there are fewer than 10 held-out cells.
    KeyError
        If the cells lack the column ``groupby``.
    """
    if model.registry["setup_args"].get("modality_key") is not None:
        raise ValueError("Reports are about models of one modality; this one has several. Judge each of them by hand.")
    if model.adata is None:
        raise ValueError("A report needs the training cells for its baselines: load the model with adata=.")
    rows, origin = (np.arange(adata.n_obs), "given: adata=") if adata is not None else _left_out(model)
    if len(rows) < FEWEST:
        raise ValueError(
            f"There are {len(rows)} held-out cells ({origin}); a report needs at least {FEWEST}. Train with "
            "train_size=0.8, or pass cells that the model has not seen as adata=."
        )
    rng = np.random.default_rng(seed)
    cells = model.adata if adata is None else adata
    rows, train_rows = (
        np.sort(rng.permutation(part)[:most])
        for part, most in ((rows, max_cells), (model.train_indices, TRAINING_PER_HELD_OUT * max_cells))
    )
    groupby = model.registry["setup_args"].get("labels_key") if groupby is None else groupby
    train, held_out = model.adata[train_rows].to_memory(), cells[rows].to_memory()
    for part in (train, held_out) if groupby is not None else ():
        if groupby not in part.obs:
            raise KeyError(f"No column {groupby!r} in obs (groupby); there are {list(part.obs.columns)}.")
    reads = read_cells(model, None, train_rows), read_cells(model, adata, rows)
    return Study(model, train, held_out, *reads, origin, groupby, seed)


def _left_out(model: CountsDiff) -> tuple[NDArray[np.integer], str]:
    """Rows of the training data that training left alone, or if they are too few those that it watched."""
    if model.test_indices is not None and len(model.test_indices) >= FEWEST:
        return np.asarray(model.test_indices), "cells that training left alone"
    watched = () if model.validation_indices is None else model.validation_indices
    return np.asarray(watched, dtype=int), "validation cells: not trained on, but they decided which weights to keep"


def groups(labels: NDArray[Any], fewest: int, most: int) -> list[str]:
    """Groups with enough cells, the largest first.

    Parameters
    ----------
    labels
        Group of each cell, ``(n_cells,)``.
    fewest
        Cells that a group needs.
    most
        Number of groups to return at most.

    Returns
    -------
    Names.
    """
    counted = pd.Series(labels).value_counts()
    return [str(name) for name in counted.index[counted >= fewest][:most]]
