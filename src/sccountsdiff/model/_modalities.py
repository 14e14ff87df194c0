"""Features of several modalities in one AnnData: which is which, and which cells have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, final

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS

from sccountsdiff.data import Panels
from sccountsdiff.model._compat import FIELD_REGISTRIES_KEY, STATE_REGISTRY_KEY
from sccountsdiff.model._fields import CountsField
from sccountsdiff.model._measured import Measured
from sccountsdiff.model._text import listed


class Modalities(NamedTuple):
    """The modalities of a model."""

    #: Column of ``var`` that names the modality of a feature.
    key: str
    #: Their names, in the order of the features.
    names: NDArray[Any]
    #: Number of features of each.
    n_features: NDArray[np.int64]
    #: Layer that the counts of each came from, if they came from a MuData.
    layers: dict[str, str] | None

    @property
    def of_features(self) -> pd.Categorical:
        """Modality of each feature."""
        return pd.Categorical(np.repeat(self.names, self.n_features), self.names)

    def means(self, gene_mean: NDArray[np.floating]) -> list[float]:
        """Mean library size of each, from the mean counts of the features."""
        return [max(float(part.sum()), 1.0) for part in np.split(gene_mean, np.cumsum(self.n_features)[:-1])]


@final
class MeasuredModalities(Measured):
    """Features belong to modalities, and some cells lack one: a boolean table in ``obsm``."""

    name = "modality"

    def __init__(self, key: str) -> None:
        self.key = key

    def register(self, adata: AnnData) -> dict[str, Any]:
        """Each feature must have a modality, and those of one modality follow each other."""
        if self.key not in adata.var:
            raise KeyError(
                f"adata.var has no column {self.key!r} (modality_key); it holds {listed(adata.var.columns)}."
            )
        modality = adata.var[self.key]
        if modality.isna().any():
            raise ValueError(f"adata.var[{self.key!r}] is missing for {listed(adata.var_names[modality.isna()])}.")
        modality = modality.astype(str).to_numpy()
        starts = np.flatnonzero(np.append(True, modality[1:] != modality[:-1]))
        names = modality[starts]
        if len(set(names)) < len(names):
            raise ValueError(
                f"The features of one modality must follow each other. Run adata = adata[:, "
                f"adata.var.sort_values({self.key!r}, kind='stable').index].copy() first."
            )
        self._check_table(adata, names)
        n_features = np.diff(np.append(starts, len(modality)))
        return {"key": self.key, "names": names, "n_features": n_features, "layers": adata.uns.get(self.key)}

    def transfer(self, adata: AnnData, state: dict[str, Any]) -> dict[str, Any]:
        """The features are those of the training data, and so are their modalities."""
        self._check_table(adata, np.asarray(state["names"]))
        return state

    def matrix(self, adata: AnnData, state: dict[str, Any]) -> Panels | None:
        """Rows by what a cell has."""
        table = adata.obsm.get(self.key)
        if table is None:
            return None
        has = np.stack([table[name] if name in table else np.ones(adata.n_obs, bool) for name in state["names"]], 1)
        if has.all():
            return None
        kinds, codes = np.unique(has, axis=0, return_inverse=True)
        return Panels(np.repeat(kinds, state["n_features"], axis=1), codes.ravel())

    def _check_table(self, adata: AnnData, names: NDArray[Any]) -> None:
        table = adata.obsm.get(self.key)
        if table is None:
            return
        if not isinstance(table, pd.DataFrame) or not all(dtype == np.bool_ for dtype in table.dtypes):
            raise ValueError(
                f"adata.obsm[{self.key!r}] must be a boolean DataFrame (True = the cell has the modality) with the "
                f"columns {listed(names)}."
            )
        unknown = [column for column in table.columns if column not in names]
        if unknown:
            raise ValueError(f"adata.obsm[{self.key!r}] names modalities {listed(unknown)}; there are {listed(names)}.")


def per_modality(value: Any, modalities: Modalities) -> NDArray[np.float32] | None:
    """Numbers given by modality, side by side: ``(n_modalities,)`` or ``(n_cells, n_modalities)``.

    Parameters
    ----------
    value
        Mapping from each modality to one number or one for each cell; None stays None.
    modalities
        The modalities.
    """
    if value is None:
        return None
    names = list(modalities.names)
    if not isinstance(value, Mapping) or set(value) != set(names):
        example = ", ".join(f"{name!r}: ..." for name in names)
        raise ValueError(f"Each modality has a library size of its own: pass library_size={{{example}}}.")
    columns = np.broadcast_arrays(*(np.asarray(value[name], dtype=np.float32) for name in names))
    return np.stack(columns, -1)


def modalities_of(registry: dict[str, Any]) -> Modalities | None:
    """The modalities of a registered data set; None if it was set up without ``modality_key``.

    Parameters
    ----------
    registry
        Registry of the training data.
    """
    counts = registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY][STATE_REGISTRY_KEY]
    state = counts[CountsField.MEASURED_KEY].get(MeasuredModalities.name)
    if state is None:
        return None
    layers = state["layers"]
    names, n_features = np.asarray(state["names"]), np.asarray(state["n_features"])
    return Modalities(state["key"], names, n_features, None if layers is None else dict(layers))
