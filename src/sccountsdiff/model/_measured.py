"""What was measured: a boolean matrix put together from what a user says about entries, batches and genes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import pandas as pd
from anndata import AnnData

from sccountsdiff.data import AllOf, Panels, row_readable
from sccountsdiff.data._panels import NOT_MISSING_KEY
from sccountsdiff.model._text import listed

#: Name of the boolean tensor in a minibatch.
OBSERVED_KEY = "observed"


class Measured(ABC):
    """One thing that is known of what was measured."""

    #: Name under which the registry keeps its state.
    name: str

    @abstractmethod
    def register(self, adata: AnnData) -> dict[str, Any]:
        """Check the data; return what has to be remembered of them."""

    def transfer(self, adata: AnnData, state: dict[str, Any]) -> dict[str, Any]:
        """Check other data in the light of the training data's state; return their own state."""
        return self.register(adata)

    @abstractmethod
    def matrix(self, adata: AnnData, state: dict[str, Any]) -> Any:
        """Boolean matrix ``(n_cells, n_genes)`` whose rows can be read, or None if all was measured."""


@final
class MeasuredLayer(Measured):
    """A boolean layer, entry by entry."""

    name = "layer"

    def __init__(self, layer: str) -> None:
        self.layer = layer

    def register(self, adata: AnnData) -> dict[str, Any]:
        """The layer must exist and be boolean."""
        if self.layer not in adata.layers:
            raise KeyError(
                f"adata.layers has no {self.layer!r} (observed_layer); it holds {listed(filter(None, adata.layers))}."
            )
        dtype = adata.layers[self.layer].dtype
        if dtype != np.bool_:
            raise ValueError(
                f"observed_layer {self.layer!r} must be boolean (True = measured), got dtype {dtype}. "
                f"Convert it with adata.layers[{self.layer!r}] = adata.layers[{self.layer!r}].astype(bool)."
            )
        return {}

    def matrix(self, adata: AnnData, state: dict[str, Any]) -> Any:
        """The layer."""
        return row_readable(adata.layers[self.layer])


@final
class MeasuredByBatch(Measured):
    """A list of genes for each batch: a mapping, or a boolean table in ``varm``."""

    name = "batch"

    def __init__(self, genes: Mapping[Any, Sequence[str]] | str, batch_key: str | None) -> None:
        if batch_key is None:
            raise ValueError("measured_genes says which genes each batch measured: pass batch_key as well.")
        self.batch_key = batch_key
        self.read = _TableOfGenes(genes) if isinstance(genes, str) else _ListsOfGenes(genes)

    def register(self, adata: AnnData) -> dict[str, Any]:
        """Read the genes of each batch; a gene must be measured in at least one, and each batch must measure one."""
        table = self.read(adata, _batches(adata, self.batch_key), self.batch_key)
        _check_table(table)
        return _state(table)

    def transfer(self, adata: AnnData, state: dict[str, Any]) -> dict[str, Any]:
        """What the data say of their batches goes before what the training data said; other batches keep that."""
        known = pd.DataFrame(np.asarray(state["genes"]).T, index=adata.var_names, columns=state["batches"])
        table = self.read.further(adata, _batches(adata, self.batch_key), self.batch_key, known.columns)
        _check_table(table)
        return _state(pd.concat([known.loc[:, ~known.columns.isin(table.columns)], table], axis=1))

    def matrix(self, adata: AnnData, state: dict[str, Any]) -> Panels:
        """Rows by batch; a batch that is not listed measured everything."""
        codes = pd.Index(state["batches"]).get_indexer(adata.obs[self.batch_key].astype(str))
        everything = np.ones((1, adata.n_vars), dtype=bool)  # the last row, which code -1 takes
        return Panels(np.concatenate([state["genes"], everything]), codes)


@final
class MeasuredGenes(Measured):
    """Genes that were added to query data to fit the model are not measured."""

    name = "genes"

    def register(self, adata: AnnData) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def matrix(self, adata: AnnData, state: dict[str, Any]) -> Panels | None:
        """One row for all cells."""
        if NOT_MISSING_KEY not in adata.var or adata.var[NOT_MISSING_KEY].all():
            return None
        return Panels(adata.var[[NOT_MISSING_KEY]].to_numpy(dtype=bool).T, np.zeros(adata.n_obs))


@final
class _ListsOfGenes:
    """Batch -> genes, as the user typed them."""

    def __init__(self, genes: Mapping[Any, Sequence[str]]) -> None:
        self.genes = {str(batch): pd.Index(names) for batch, names in genes.items()}

    def further(self, adata: AnnData, batches: pd.Index, batch_key: str, known: pd.Index) -> pd.DataFrame:
        """Boolean table of batches that the training data did not list."""
        new = {batch: genes for batch, genes in self.genes.items() if batch not in known}
        return _ListsOfGenes(new)(adata, batches, batch_key)

    def __call__(self, adata: AnnData, batches: pd.Index, batch_key: str) -> pd.DataFrame:
        """Boolean table genes by batches."""
        unknown = [batch for batch in self.genes if batch not in batches]
        if unknown:
            raise ValueError(
                f"measured_genes names batches that adata.obs[{batch_key!r}] does not hold: {listed(unknown)}. It "
                f"holds {listed(batches)}."
            )
        table = {}
        for batch, names in self.genes.items():
            lost = names[~names.isin(adata.var_names)]
            if len(lost):
                raise ValueError(
                    f"measured_genes[{batch!r}] names genes that adata does not hold: {listed(lost)}. Pass "
                    "genes.intersection(adata.var_names) if the others were left out on purpose."
                )
            table[batch] = adata.var_names.isin(names)
        return pd.DataFrame(table, index=adata.var_names)


@final
class _TableOfGenes:
    """Boolean table in ``varm``, genes by batches."""

    def __init__(self, key: str) -> None:
        self.key = key

    def further(self, adata: AnnData, batches: pd.Index, batch_key: str, known: pd.Index) -> pd.DataFrame:
        """The table that other data bring, if they do."""
        brings = self.key in adata.varm
        return self(adata, batches, batch_key) if brings else pd.DataFrame(index=adata.var_names, dtype=bool)

    def __call__(self, adata: AnnData, batches: pd.Index, batch_key: str) -> pd.DataFrame:
        """The table, with batches as strings."""
        if self.key not in adata.varm:
            raise KeyError(f"adata.varm has no {self.key!r} (measured_genes); it holds {listed(adata.varm.keys())}.")
        table = adata.varm[self.key]
        if not isinstance(table, pd.DataFrame) or not all(dtype == np.bool_ for dtype in table.dtypes):
            raise ValueError(
                f"adata.varm[{self.key!r}] must be a boolean DataFrame (True = measured) with one column for each "
                f"value of adata.obs[{batch_key!r}]."
            )
        table = table.rename(columns=str)
        lost = batches[~batches.isin(table.columns)]
        if len(lost):
            raise ValueError(
                f"adata.varm[{self.key!r}] has no column for the batches {listed(lost)}; it has {listed(table)}."
            )
        return table[list(batches)]


def observed_matrix(sources: Sequence[Measured], adata: AnnData, states: Mapping[str, dict[str, Any]]) -> Any:
    """Boolean matrix of what was measured, None if all was."""
    matrices = [source.matrix(adata, states[source.name]) for source in sources]
    matrices = [matrix for matrix in matrices if matrix is not None]
    return AllOf(matrices) if len(matrices) > 1 else next(iter(matrices), None)


def _batches(adata: AnnData, batch_key: str) -> pd.Index:
    if batch_key not in adata.obs:
        raise KeyError(f"adata.obs has no column {batch_key!r} (batch_key). It holds: {listed(adata.obs.columns)}.")
    return pd.Index(adata.obs[batch_key].dropna().astype(str).unique())


def _state(table: pd.DataFrame) -> dict[str, Any]:
    """What the registry keeps of a boolean table genes by batches."""
    return {"batches": table.columns.to_numpy(dtype=str), "genes": table.to_numpy(dtype=bool).T}


def _check_table(table: pd.DataFrame) -> None:
    empty = table.columns[~table.any(axis=0)]
    if len(empty):
        raise ValueError(f"measured_genes leaves no gene to the batches {listed(empty)}. Drop their cells.")
