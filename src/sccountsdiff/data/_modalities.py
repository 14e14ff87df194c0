"""Several modalities of the same cells as one AnnData, and back. Sparse throughout."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

if TYPE_CHECKING:
    from mudata import MuData

#: Column of ``var`` with the modality of each feature; key of ``obsm`` for the modalities of each cell, and of ``uns``.
MODALITY_KEY = "modality"
#: Key of ``uns`` under which a model leaves notes of what it wrote.
_NOTES_KEY = "sccountsdiff"


def join_modalities(mdata: MuData, modalities: Mapping[str, str | None] | Iterable[str] | None = None) -> AnnData:
    """Counts of several modalities side by side, one AnnData over all cells and features.

    Parameters
    ----------
    mdata
        Cells with several modalities, in memory. A cell may lack a modality.
    modalities
        Modalities to take, with the layer of their counts (None is ``.X``); ``None`` is all with ``.X``.

    Returns
    -------
    AnnData with sparse counts in ``.X``, empty where a cell lacks a modality; the modality of each feature in
    ``.var["modality"]``; what each cell has in ``.obsm["modality"]``, a boolean table; the layers of the counts in
    ``.uns["modality"]``. ``.obs`` and ``.obsm`` are those of ``mdata``; columns of a modality's own ``obs`` are called
    ``"modality:column"``. Boolean layers come along, as masks.

    Raises
    ------
    KeyError
        If there is no such modality or layer.
    ValueError
        If feature names repeat, within or between modalities.
    """
    layers = _layers_of(mdata, modalities)
    names = list(layers)
    var_names = pd.Index(np.concatenate([mdata[name].var_names.to_numpy(dtype=str) for name in names]))
    if not var_names.is_unique:
        twice = var_names[var_names.duplicated()][0]
        raise ValueError(f"Feature {twice!r} is in the data more than once. Run mdata.var_names_make_unique() first.")
    membership = pd.DataFrame({name: _positions(mdata, name) >= 0 for name in names}, index=mdata.obs_names)
    joined = AnnData(
        sparse.hstack([_rows(_counts(mdata, name, layers[name]), _positions(mdata, name)) for name in names], "csr"),
        obs=_obs(mdata),
        var=pd.DataFrame(index=var_names),
        obsm={key: value for key, value in mdata.obsm.items() if key not in mdata.mod} | {MODALITY_KEY: membership},
        uns={MODALITY_KEY: {name: layer or "X" for name, layer in layers.items()}},
    )
    joined.var[MODALITY_KEY] = pd.Categorical(np.repeat(names, [mdata[name].n_vars for name in names]), names)
    for layer, mask in boolean_layers(mdata, names).items():
        joined.layers[layer] = mask
    return joined


def boolean_layers(mdata: MuData, modalities: Iterable[str]) -> dict[str, sparse.csr_matrix]:
    """Boolean layers of some modalities side by side, False in a modality without a layer of that name.

    Parameters
    ----------
    mdata
        Cells with several modalities.
    modalities
        Their names, in the order of the features.

    Returns
    -------
    Name of a layer -> ``csr_matrix`` over all cells and features.
    """
    modalities = list(modalities)
    found = dict.fromkeys(
        layer
        for name in modalities
        for layer, values in mdata[name].layers.items()
        if layer is not None and values.dtype == np.bool_
    )
    masks = {}
    for layer in found:
        parts = []
        for name in modalities:
            adata = mdata[name]
            values = adata.layers[layer] if layer in adata.layers else sparse.csr_matrix(adata.shape, dtype=bool)
            parts.append(_rows(sparse.csr_matrix(values), _positions(mdata, name)))
        masks[layer] = sparse.hstack(parts, "csr")
    return masks


def write_back(joined: AnnData, mdata: MuData, layers: Iterable[str]) -> None:
    """Write layers of the joined data to the modalities they belong to.

    ``mdata[modality].layers[name]`` holds the cells of the modality. If some cells lack it, all of them are in
    ``mdata.obsm["<modality>_<name>"]`` as well: a DataFrame, or a sparse matrix if the layer is sparse.

    Parameters
    ----------
    joined
        Data as :func:`join_modalities` made them of ``mdata``.
    mdata
        The cells with their modalities.
    layers
        Names of the layers.
    """
    modality = joined.var[MODALITY_KEY].astype(str).to_numpy()
    for layer in layers:
        values = joined.layers[layer]
        for name in pd.unique(modality):
            features = np.flatnonzero(modality == name)
            positions = _positions(mdata, name)
            (present,) = np.nonzero(positions >= 0)
            rows = np.empty(len(present), dtype=np.intp)
            rows[positions[present]] = present
            block = values[:, features]
            mdata[name].layers[layer] = block[rows]
            if len(present) < mdata.n_obs:
                named = pd.DataFrame(block, mdata.obs_names, joined.var_names[features]) if _is_dense(block) else block
                mdata.obsm[f"{name}_{layer}"] = named
    notes = joined.uns.get(_NOTES_KEY, {})
    mdata.uns[_NOTES_KEY] = {**mdata.uns.get(_NOTES_KEY, {}), **notes}


def split_modalities(adata: AnnData, modality_key: str = MODALITY_KEY) -> MuData:
    """One AnnData for each modality, together in a MuData.

    Parameters
    ----------
    adata
        Cells with features of several modalities, for example generated ones.
    modality_key
        Column of ``var`` with the modality of each feature.

    Returns
    -------
    MuData whose modalities have the layers of ``adata``. Cells that lack a modality are not in it, if
    ``adata.obsm[modality_key]`` says which these are.

    Examples
    --------
    >>> cells = model.generate(n_cells=500)
    >>> mdata = split_modalities(cells)
    """
    from mudata import MuData

    modality = adata.var[modality_key].astype(str)
    has = adata.obsm.get(modality_key)
    parts = {}
    for name in modality.unique():
        cells = np.ones(adata.n_obs, dtype=bool) if has is None else has[name].to_numpy()
        part = adata[cells, (modality == name).to_numpy()].copy()
        part.obs, part.uns = part.obs[[]], {}
        part.obsm.clear()
        parts[name] = part
    with warnings.catch_warnings():
        # mudata 0.3 announces a default of 0.4 that makes no difference here.
        warnings.simplefilter("ignore", FutureWarning)
        mdata = MuData(parts)
    mdata.obs = adata.obs.loc[mdata.obs_names].copy()
    mdata.uns.update({key: value for key, value in adata.uns.items() if key != modality_key})
    return mdata


def _layers_of(mdata: MuData, modalities: Mapping[str, str | None] | Iterable[str] | None) -> dict[str, str | None]:
    wanted = list(mdata.mod) if modalities is None else modalities
    layers = dict(wanted) if isinstance(wanted, Mapping) else dict.fromkeys(wanted)
    if not layers:
        raise ValueError(f"modalities is empty. mdata has {', '.join(map(repr, mdata.mod))}.")
    for name, layer in layers.items():
        if name not in mdata.mod:
            raise KeyError(f"mdata has no modality {name!r}; it has {', '.join(map(repr, mdata.mod))}.")
        if layer is not None and layer != "X" and layer not in mdata[name].layers:
            known = sorted(key for key in mdata[name].layers if key is not None)  # None is .X in anndata 0.13
            raise KeyError(f"mdata[{name!r}] has no layer {layer!r}; it has {known}.")
    return {name: None if layer == "X" else layer for name, layer in layers.items()}


def _counts(mdata: MuData, name: str, layer: str | None) -> sparse.csr_matrix:
    values = mdata[name].X if layer is None else mdata[name].layers[layer]
    return sparse.csr_matrix(values, dtype=np.float32)


def _positions(mdata: MuData, name: str) -> NDArray[np.intp]:
    """Row of each cell in a modality, -1 if it lacks it."""
    return np.asarray(mdata.obsmap[name]).ravel().astype(np.intp) - 1


def _rows(matrix: sparse.csr_matrix, positions: NDArray[np.intp]) -> sparse.csr_matrix:
    """Rows by position, empty for -1; the matrix itself if nothing changes."""
    if np.array_equal(positions, np.arange(matrix.shape[0])):
        return matrix
    empty = sparse.csr_matrix((1, matrix.shape[1]), dtype=matrix.dtype)
    return sparse.vstack([matrix, empty], "csr")[positions]


def _obs(mdata: MuData) -> pd.DataFrame:
    """Columns of the cells; those of a modality under its name, as older releases of mudata put them there."""
    obs = mdata.obs.copy()
    for name, adata in mdata.mod.items():
        for column in adata.obs.columns:
            if f"{name}:{column}" not in obs:
                obs[f"{name}:{column}"] = adata.obs[column].reindex(obs.index)
    return obs


def _is_dense(block: Any) -> bool:
    return not sparse.issparse(block)
