"""What the model reads of an AnnData, checked in full.

Each class is a field of scvi-tools whose checks are complete where those of scvi-tools are silent: gene names and
order, every count, missing values, unseen categories, and changes made after ``setup_anndata``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.data.fields import CategoricalObsField, LayerField, NumericalObsField, ObsmField

from sccountsdiff.data import GeneSums, read_rows, scan_counts
from sccountsdiff.model._measured import Measured, observed_matrix
from sccountsdiff.model._text import listed


def check_genes(expected: Any, given: Any) -> None:
    """Raise ``ValueError`` unless ``given`` are the ``expected`` gene names in the same order."""
    expected, given = np.asarray(expected).astype(str), np.asarray(given).astype(str)
    if np.array_equal(expected, given):
        return
    missing = expected[~np.isin(expected, given)]
    if len(missing):
        raise ValueError(
            f"{len(missing)} of the {len(expected)} genes of the model are missing: {listed(missing)}. Genes that "
            "were not measured are imputed: run CountsDiff.prepare_query_anndata(adata, model) first."
        )
    extra = given[~np.isin(given, expected)]
    what = f"Genes unknown to the model: {listed(extra)}" if len(extra) else "The genes are in another order"
    raise ValueError(f"{what}. Put them in the order of the training data: adata[:, training_genes].copy().")


class CountsField(LayerField):
    """UMI counts; the registry keeps the gene names and the totals that a denoiser is initialised with."""

    GENE_MEAN_KEY = "gene_mean"
    GENE_DISPERSION_KEY = "gene_dispersion"
    LIBRARY_MEAN_KEY = "library_mean"
    TOTALS = (GENE_MEAN_KEY, GENE_DISPERSION_KEY, LIBRARY_MEAN_KEY)
    MEASURED_KEY = "measured"

    def __init__(self, layer: str | None, measured: Sequence[Measured]) -> None:
        super().__init__(REGISTRY_KEYS.X_KEY, layer, is_count_data=False, correct_data_format=False)
        self.measured = tuple(measured)

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Check every count and record the totals."""
        return self._scan(adata, {source.name: source.register(adata) for source in self.measured})

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any) -> dict[str, Any]:
        """Check genes and counts of another AnnData; the totals stay those of the training data."""
        check_genes(state_registry[self.COLUMN_NAMES_KEY], adata_target.var_names)
        trained = state_registry[self.MEASURED_KEY]
        measured = {
            # Query data may bring lists of genes where the training data had none.
            s.name: s.transfer(adata_target, trained[s.name]) if s.name in trained else s.register(adata_target)
            for s in self.measured
        }
        state = self._scan(adata_target, measured)
        return state | {key: state_registry[key] for key in self.TOTALS if key in state_registry}

    def recheck(self, adata: AnnData, state_registry: dict[str, Any]) -> None:
        """Genes must still be those of the setup."""
        check_genes(state_registry[self.COLUMN_NAMES_KEY], adata.var_names)

    def observed(self, adata: AnnData, state_registry: dict[str, Any]) -> Any:
        """Boolean matrix of what was measured, None if all was."""
        return observed_matrix(self.measured, adata, state_registry[self.MEASURED_KEY])

    def _scan(self, adata: AnnData, measured: dict[str, Any]) -> dict[str, Any]:
        if not adata.var_names.is_unique:
            twice = adata.var_names[adata.var_names.duplicated()].unique()
            raise ValueError(f"Gene names are not unique: {listed(twice)}. Run adata.var_names_make_unique() first.")
        if adata.n_obs == 0 or adata.n_vars == 0:
            raise ValueError(f"adata is empty: {adata.n_obs} cells x {adata.n_vars} genes. Pass at least one of each.")
        scan = scan_counts(
            self.get_field_data(adata),
            observed=observed_matrix(self.measured, adata, measured),
            cell_names=adata.obs_names,
            gene_names=adata.var_names,
            where="adata.X" if self.attr_key is None else f"adata.layers[{self.attr_key!r}]",
        )
        return super().register_field(adata) | {
            self.MEASURED_KEY: measured,
            **self.totals(scan.genes),
        }

    @classmethod
    def totals(cls, genes: GeneSums) -> dict[str, Any]:
        """What a denoiser is initialised with."""
        mean = genes.mean
        values = (mean.astype(np.float32), genes.dispersion.astype(np.float32), float(mean.sum()))
        return dict(zip(cls.TOTALS, values, strict=True))


class CategoryField(CategoricalObsField):
    """A categorical column of ``obs``; categories without cells are left out."""

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Encode the column."""
        if self.is_default:
            return self._encode_default(adata)
        column = self._column(adata)
        return self._encode(adata, column, _used_categories(column))

    def transfer_field(
        self,
        state_registry: dict[str, Any],
        adata_target: AnnData,
        extend_categories: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Encode the column of another AnnData with the codes of the training data."""
        if self.is_default:
            return self._encode_default(adata_target)
        known = pd.Index(state_registry[self.CATEGORICAL_MAPPING_KEY])
        column = self._column(adata_target)
        used = _used_categories(column)
        unseen = used[~used.isin(known)]
        alike = unseen[unseen.astype(str).isin(known.astype(str))]
        if len(alike):
            raise ValueError(
                f"adata.obs[{self._original_attr_key!r}] holds {listed(alike)} as {unseen.inferred_type}, which the "
                f"model knows as {known.inferred_type}. Convert the column to the type of the training data."
            )
        if len(unseen) and not extend_categories:
            raise ValueError(
                f"adata.obs[{self._original_attr_key!r}] holds categories that the model was not trained on: "
                f"{listed(unseen)}. Known categories: {', '.join(map(repr, known.astype(str)))}. Drop these cells, "
                "rename the categories, or teach the model with load_query_data."
            )
        return self._encode(adata_target, column, known.append(pd.Index(unseen)))

    def recheck(self, adata: AnnData, state_registry: dict[str, Any]) -> None:
        """The column must still say what its codes say."""
        if self.is_default:
            return
        known = pd.Index(state_registry[self.CATEGORICAL_MAPPING_KEY])
        codes = _codes(self._column(adata), known)
        changed = np.flatnonzero(codes != adata.obs[self.attr_key].to_numpy())
        if len(changed):
            raise ValueError(
                f"adata.obs[{self._original_attr_key!r}] was changed after setup_anndata, in {len(changed)} cells: "
                f"{listed(adata.obs_names[changed])}. Restore the column, or pass a copy of the AnnData "
                f"(adata.copy()) whose categories are among {listed(known)}."
            )

    def _column(self, adata: AnnData) -> pd.Series:
        """The column as a categorical without missing values."""
        key = self._original_attr_key
        column = _obs_column(adata, key)
        _raise_if_missing(column.isna().to_numpy(), key, adata, "Name them (for example 'unknown') or drop the cells.")
        return column.astype("category")

    def _encode(self, adata: AnnData, column: pd.Series, categories: pd.Index) -> dict[str, Any]:
        adata.obs[self.attr_key] = _codes(column, categories)
        return {
            self.CATEGORICAL_MAPPING_KEY: categories.to_numpy(copy=True),
            self.ORIGINAL_ATTR_KEY: self._original_attr_key,
        }

    def _encode_default(self, adata: AnnData) -> dict[str, Any]:
        """One category for all cells."""
        # As scvi-tools does it, which hands a Series to NumPy: see _codes.
        self._original_attr_key = self.attr_key
        adata.obs[self.attr_key] = np.zeros(adata.n_obs, dtype=np.int8)
        return {self.CATEGORICAL_MAPPING_KEY: np.array([0]), self.ORIGINAL_ATTR_KEY: self._original_attr_key}


class NumberField(NumericalObsField):
    """A continuous column of ``obs``; the registry keeps mean and standard deviation of the training data."""

    MEAN_KEY, STD_KEY = "mean", "std"

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Check the column and record its moments."""
        values = self._values(adata)
        super().register_field(adata)
        return {self.MEAN_KEY: float(values.mean()), self.STD_KEY: float(values.std()) or 1.0}

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any) -> dict[str, Any]:
        """Check the column of another AnnData; the moments stay those of the training data."""
        self._values(adata_target)
        return dict(state_registry)

    def recheck(self, adata: AnnData, state_registry: dict[str, Any]) -> None:
        """The column must still be there, and finite."""
        self._values(adata)

    def _values(self, adata: AnnData) -> np.ndarray:
        column = _obs_column(adata, self.attr_key)
        if not pd.api.types.is_numeric_dtype(column):
            raise ValueError(
                f"adata.obs[{self.attr_key!r}] has dtype {column.dtype}, a continuous covariate must be numeric. Name "
                "it in categorical_covariate_keys instead, or convert it."
            )
        values = column.to_numpy(dtype=np.float64)
        _raise_if_missing(~np.isfinite(values), self.attr_key, adata, "Fill them in or drop the cells.")
        return values


class VectorField(ObsmField):
    """A dense matrix of ``obsm``, one vector per cell."""

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Check the matrix."""
        self.recheck(adata, {})
        return super().register_field(adata)

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **kwargs: Any) -> dict[str, Any]:
        """Check the matrix of another AnnData."""
        self.recheck(adata_target, {})
        return super().transfer_field(state_registry, adata_target, **kwargs)

    def recheck(self, adata: AnnData, state_registry: dict[str, Any]) -> None:
        """The matrix must be there, numeric and finite."""
        if self.attr_key not in adata.obsm:
            raise KeyError(f"adata.obsm has no {self.attr_key!r}; it holds {listed(adata.obsm.keys())}.")
        values = np.asarray(adata.obsm[self.attr_key], dtype=np.float64)
        wrong = ~np.isfinite(values).all(axis=1)
        _raise_if_missing(wrong, self.attr_key, adata, "Fill them in or drop the cells.", where="obsm")


def _used_categories(column: pd.Series) -> pd.Index:
    """Those categories of a categorical column without missing values that have cells."""
    return column.cat.categories[np.sort(column.cat.codes.unique())]


def _codes(column: pd.Series, categories: pd.Index) -> np.ndarray:
    """Place of each value of a categorical column among some categories; -1 if it is none of them."""
    # Categories are looked up, not cells: of these there may be millions. A Series as the index, in place of an array,
    # would make pandas build a hash table of the names of all cells, and keep it.
    return categories.get_indexer(column.cat.categories).astype(np.int32)[column.cat.codes.to_numpy()]


def _obs_column(adata: AnnData, key: str) -> pd.Series:
    if key not in adata.obs:
        raise KeyError(
            f"adata.obs has no column {key!r}, which the model needs. It holds: {listed(adata.obs.columns)}. "
            "If the column was renamed, rename it back."
        )
    return adata.obs[key]


def _raise_if_missing(missing: np.ndarray, key: str, adata: AnnData, remedy: str, where: str = "obs") -> None:
    if missing.any():
        raise ValueError(
            f"adata.{where}[{key!r}] has missing or infinite values in {int(missing.sum())} cells: "
            f"{listed(adata.obs_names[missing])}. {remedy}"
        )


def dense_rows(matrix: Any, rows: np.ndarray) -> np.ndarray:
    """Rows of any matrix as a dense array, in the order asked for."""
    block = read_rows(matrix, rows)
    return block.toarray() if hasattr(block, "toarray") else block
