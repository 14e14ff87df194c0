"""Results into an AnnData, with a note of how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from sccountsdiff._version import __version__

UNS_KEY = "sccountsdiff"


def provenance(method: str, **settings: Any) -> dict[str, Any]:
    """What was done, in a form that h5ad can store: method, package version and the settings that were given."""
    given = {name: _storable(value) for name, value in settings.items() if value is not None}
    return {"method": method, "version": __version__} | given


def _storable(value: Any) -> Any:
    """Plain values and numbers as they are, the rest as text."""
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple, pd.Series, np.ndarray)) and np.asarray(value).dtype.kind in "iufb":
        return np.asarray(value)
    if isinstance(value, AnnData):
        return f"AnnData with {value.n_obs} cells"
    return str(dict(value) if isinstance(value, Mapping) else value)


def add_layer(adata: AnnData, name: str, values: Any, note: Mapping[str, Any], counts_layer: str | None) -> None:
    """Write a layer and leave the note in ``adata.uns["sccountsdiff"][name]``.

    Raises
    ------
    ValueError
        If ``name`` is a layer that is never written (:func:`check_layer_name`).
    """
    check_layer_name(adata, name, counts_layer)
    adata.layers[name] = values
    _leave_note(adata, name, note)


def add_columns(adata: AnnData, name: str, values: pd.DataFrame, note: Mapping[str, Any]) -> None:
    """Write some genes of all cells to ``adata.obsm``, and leave the note in ``adata.uns["sccountsdiff"][name]``."""
    adata.obsm[name] = values
    _leave_note(adata, name, note)


def _leave_note(adata: AnnData, name: str, note: Mapping[str, Any]) -> None:
    given = {key: value for key, value in note.items() if value is not None}
    adata.uns[UNS_KEY] = {**adata.uns.get(UNS_KEY, {}), name: given}


def check_layer_name(adata: AnnData, name: str, counts_layer: str | None) -> None:
    """Neither the raw counts nor what says which of them were measured or hidden is ever written."""
    if name == counts_layer:
        raise ValueError(f"Layer {name!r} holds the raw counts and is never written. Choose another layer_added.")
    if name in adata.layers and adata.layers[name].dtype == np.bool_:  # results never are boolean
        raise ValueError(
            f"Layer {name!r} is boolean: a mask, or what was measured. It is never written; choose another layer_added."
        )


def check_layer_shape(layer_added: str | None, whole: bool) -> None:
    """A layer needs all cells and all genes."""
    if layer_added is not None and not whole:
        raise ValueError(
            f"A layer holds all cells and all genes, so layer_added={layer_added!r} cannot take a selection. Pass "
            "layer_added=None to get the result returned, or leave out indices and gene_list."
        )
