"""Predicted and measured perturbations as files that cell-eval and pertpy read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata import concat as concat_cells
from scipy import sparse

from sccountsdiff.data._scan import InvalidCountsError, check_counts

COUNTS_LAYER = "counts"
TARGET_TOTAL = 1e4


def export_perturbations(
    predicted: AnnData,
    real: AnnData,
    folder: str | os.PathLike[str],
    *,
    perturbation_key: str,
    control: str,
    layer: str | None = None,
    log1p: bool = False,
) -> tuple[Path, Path]:
    """Write predicted and measured cells as a pair of files for cell-eval; pertpy reads either.

    Both files hold the same genes in the same order, the predicted perturbations and the *measured* control cells:
    cell-eval compares each side with its own control. ``.X`` is sparse integer counts, which cell-eval scales to the
    median depth of each file and log-transforms; where the two differ in depth, ``log1p=True`` puts them on one scale.

    Parameters
    ----------
    predicted
        Generated cells, for instance of ``model.generate``. Control cells among them are left out.
    real
        Measured cells with the predicted perturbations and the control; further genes and perturbations are left out.
    folder
        Where to write ``predicted.h5ad`` and ``real.h5ad``; made if need be.
    perturbation_key
        Column of ``obs`` that names the perturbation (``--pert-col`` of cell-eval). Other columns that both have are
        kept.
    control
        Value of the control (``--control-pert``).
    layer
        Layer with the counts; ``None`` is ``.X``.
    log1p
        Whether to write log1p of counts per ten thousand; the counts are then in ``layers["counts"]``.

    Returns
    -------
    Paths of the predicted and of the measured cells.

    Raises
    ------
    KeyError
        If the column or the layer is missing.
    ValueError
        If a gene or a perturbation was predicted but not measured, there are no control cells, or the counts are none.
    """
    genes = predicted.var_names
    _check(predicted, real, perturbation_key, control)
    names = pd.unique(predicted.obs[perturbation_key].astype(str))
    perturbed = _part(predicted, [name for name in names if name != control], perturbation_key, layer)
    measured = _part(real[:, genes], [*names, control], perturbation_key, layer)
    controls = measured[(measured.obs[perturbation_key] == control).to_numpy()]
    together = concat_cells({"predicted": perturbed, "real": controls}, index_unique="-")
    sides = {"predicted": together, "real": measured}
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    shared = [name for name in measured.obs if name in perturbed.obs]
    for name, cells in sides.items():
        cells = AnnData(cells.X, obs=cells.obs[shared].copy(), var=pd.DataFrame(index=genes))
        cells.obs[perturbation_key] = cells.obs[perturbation_key].astype("category")
        _transform(cells, log1p).write_h5ad(where / f"{name}.h5ad", compression="gzip")
    return where / "predicted.h5ad", where / "real.h5ad"


def _check(predicted: AnnData, real: AnnData, key: str, control: str) -> None:
    """Everything that was predicted must have been measured."""
    for what, cells in {"predicted": predicted, "real": real}.items():
        if key not in cells.obs:
            raise KeyError(f"{what}.obs has no column {key!r} (perturbation_key); it has {list(cells.obs.columns)}.")
    lost = predicted.var_names.difference(real.var_names)
    if len(lost):
        raise ValueError(
            f"{len(lost)} predicted genes are not in real, the first being {lost[0]!r}. Export those of both."
        )
    names, measured = (set(cells.obs[key].astype(str)) for cells in (predicted, real))
    if control not in measured:
        raise ValueError(f"real has no cells of the control {control!r}; {key!r} holds {sorted(measured)[:10]}.")
    unmeasured = sorted(names - measured)
    if unmeasured:
        raise ValueError(f"Predicted but not measured: {unmeasured[:10]}. Leave them out of predicted.")


def _part(adata: AnnData, names: list[str], key: str, layer: str | None) -> AnnData:
    """Cells of some perturbations, with integer counts in ``.X`` and the perturbation as text."""
    cells = adata[adata.obs[key].astype(str).isin(names).to_numpy()]
    if layer is not None and layer not in cells.layers:
        raise KeyError(f"No layer {layer!r} with counts; there are {[name for name in cells.layers if name]}.")
    counts: Any = sparse.csr_matrix(cells.X if layer is None else cells.layers[layer])
    found = check_counts(counts.data)
    if found is not None:
        raise InvalidCountsError(f"These are no counts: there are {found[0]} values. Name the layer of the counts.")
    obs = cells.obs.assign(**{key: cells.obs[key].astype(str)})
    return AnnData(counts.astype(np.int32), obs=obs, var=pd.DataFrame(index=cells.var_names))


def _transform(cells: AnnData, log1p: bool) -> AnnData:
    """Counts as they are, or their log-transform with the counts in a layer."""
    if not log1p:
        return cells
    counts = sparse.csr_matrix(cells.X)
    size = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    scaled = sparse.csr_matrix(sparse.diags_array(TARGET_TOTAL / size) @ counts).astype(np.float32)
    cells.layers[COUNTS_LAYER] = counts
    cells.X = scaled.log1p()
    return cells
