"""Query data with other genes than the model: put in order, and what is missing marked as not measured."""

from __future__ import annotations

import warnings
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS, settings
from scvi.model.base import BaseModelClass

from sccountsdiff.data import take_columns
from sccountsdiff.data._panels import NOT_MISSING_KEY, measured_names
from sccountsdiff.model._compat import FIELD_REGISTRIES_KEY, STATE_REGISTRY_KEY
from sccountsdiff.model._fields import CountsField
from sccountsdiff.model._modalities import modalities_of
from sccountsdiff.model._text import listed

#: Warn if fewer than this part of the model's genes were measured.
_FEW = 0.5


class QueryMixin(BaseModelClass):
    """Preparation of query data."""

    @classmethod
    def prepare_query_anndata(
        cls,
        adata: AnnData,
        reference_model: BaseModelClass | str | PathLike[str],
        return_reference_var_names: bool = False,
        inplace: bool = True,
    ) -> AnnData | pd.Index | None:
        """Bring query data into the form of a model: its genes, in its order.

        Genes of the model that the query lacks are added as *not measured* (column ``_sccountsdiff_measured`` of
        ``var``), sparse. They are hidden from the model, carry no loss and are imputed; scvi-tools' own
        ``prepare_query_anndata`` makes them zeros that the model takes for measured. Genes that the model does not know
        are left out, and so are ``varm`` and ``varp`` but for boolean tables.

        Parameters
        ----------
        adata
            Query data, in memory.
        reference_model
            A model, or the folder it was saved to.
        return_reference_var_names
            Whether to return the genes of the model and do nothing else.
        inplace
            Whether to change ``adata`` or return new data.

        Returns
        -------
        Nothing if ``inplace``; else the prepared data, or the genes of the model.

        Raises
        ------
        ValueError
            If no gene of the model is in the query, gene names repeat, or ``adata`` is a view or backed by a file.

        Warns
        -----
        UserWarning
            If the query has fewer than half of the genes of the model.

        Examples
        --------
        >>> CountsDiff.prepare_query_anndata(query, model)
        >>> model.impute(query)  # query.layers["imputed"], with the genes that the query lacked
        """
        is_model = isinstance(reference_model, BaseModelClass)
        registry = reference_model.registry if is_model else cls.load_registry(str(reference_model))
        genes = pd.Index(genes_of(registry))
        if return_reference_var_names:
            return genes
        prepared = with_genes_of(registry, adata)
        if not inplace:
            return prepared
        adata._init_as_actual(prepared)
        return None


def with_genes_of(registry: dict[str, Any], adata: AnnData) -> AnnData:
    """The same cells over the genes of a model, in its order.

    Raises
    ------
    ValueError
        If no gene of the model is in the data, gene names repeat, or ``adata`` is a view or backed by a file.
    """
    genes = pd.Index(genes_of(registry))
    _check_query(adata, genes)
    prepared = _with_genes(adata, genes)
    modalities = modalities_of(registry)
    if modalities is not None:
        prepared.var[modalities.key] = modalities.of_features
    return prepared


def genes_of(registry: dict[str, Any]) -> NDArray[Any]:
    """Genes of a model, from its registry, ``(n_genes,)``."""
    counts = registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY][STATE_REGISTRY_KEY]
    return np.asarray(counts[CountsField.COLUMN_NAMES_KEY]).astype(str)


def _check_query(adata: AnnData, genes: pd.Index) -> None:
    if adata.is_view:
        raise ValueError("adata is a view of another AnnData. Run adata = adata.copy() first.")
    if adata.isbacked:
        raise ValueError("adata is backed by a file, which stays as it is. Run adata = adata.to_memory() first.")
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()].unique()
        raise ValueError(f"Gene names are not unique: {listed(twice)}. Run adata.var_names_make_unique() first.")
    n_found = int(genes.isin(measured_names(adata)).sum())
    if n_found == 0:
        raise ValueError(
            f"None of the {len(genes)} genes of the model is in adata. The model knows {listed(genes)}; adata has "
            f"{listed(adata.var_names)}. Use the same kind of gene names (symbols or Ensembl ids, letter case)."
        )
    if n_found < _FEW * len(genes):
        warnings.warn(
            f"adata has {n_found} of the {len(genes)} genes of the model ({n_found / len(genes):.0%}); the others are "
            "imputed from these. Compare a few known genes with impute(mask=...) before you trust them.",
            UserWarning,
            stacklevel=settings.warnings_stacklevel,
        )


def _with_genes(adata: AnnData, genes: pd.Index) -> AnnData:
    """The same cells over other genes."""
    positions = adata.var_names.get_indexer(genes)
    prepared = AnnData(
        None if adata.X is None else take_columns(adata.X, positions),
        obs=adata.obs.copy(),
        var=_reindexed(adata.var, genes),
        layers={name: take_columns(layer, positions) for name, layer in adata.layers.items() if name is not None},
        obsm=dict(adata.obsm),
        obsp=dict(adata.obsp),
        uns=adata.uns,
        varm={name: _reindexed(table, genes) for name, table in adata.varm.items() if _is_boolean(table)},
    )
    if adata.raw is not None:
        prepared.raw = adata.raw.to_adata()
    measured = genes.isin(measured_names(adata))
    if not measured.all():
        prepared.var[NOT_MISSING_KEY] = measured
    return prepared


def _reindexed(table: pd.DataFrame, genes: pd.Index) -> pd.DataFrame:
    """Rows by gene; False in boolean columns and a missing value in others where a gene is new."""
    rows = table.reindex(genes)
    boolean = [name for name, dtype in table.dtypes.items() if dtype == np.bool_]
    return rows.assign(**{name: rows[name].eq(True) for name in boolean})


def _is_boolean(table: Any) -> bool:
    return isinstance(table, pd.DataFrame) and all(dtype == np.bool_ for dtype in table.dtypes)
