"""The figures of the imputation report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sccountsdiff import metrics, pl
from sccountsdiff.report._page import Exhibit
from sccountsdiff.report._scores import MODEL
from sccountsdiff.report._study import Study, groups

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

    from sccountsdiff.report._imputation import Answer

MOST_SHOWN = 1000
MOST_GROUPS = 12
MARKERS_PER_GROUP = 2
_COUNTS, _IMPUTED, _BASIS = "counts", "imputed", "X_umap"


def exhibits(on: Study, entries: Answer, pit: NDArray, genes: Sequence[str] | None) -> Iterator[Exhibit]:
    """Draw the figures one after the other.

    Parameters
    ----------
    on
        The cells.
    entries
        What was said of hidden entries.
    pit
        Of these entries under the model.
    genes
        Genes of the dot plots; None chooses.
    """
    yield Exhibit(
        "Calibration",
        "Entries of held-out cells, hidden at random. Left: where the hidden counts fall in their predicted laws; a "
        "calibrated model stays in the band. Right: the share of them that intervals hold.",
        _calibration(pit),
    )
    yield Exhibit(
        "Hidden counts and what was expected of them",
        "The same entries. Points on the diagonal: expected counts mean what they say. A long row of points: they tell "
        "entries apart.",
        pl.observed_imputed(entries.truth[entries.where], entries.laws[MODEL].mean[entries.where]).figure,
    )
    shown = _shown(on)
    yield Exhibit(
        "How sure the model is, cell by cell",
        f"{shown.n_obs:,} training cells. Colour: standard deviation of the expression behind the counts over its "
        "expectation, sampling noise left out.",
        pl.uncertainty(shown, basis=_BASIS, ax=_axes(1)[0]).figure,
    )
    if on.groupby is not None:
        yield Exhibit(
            "Before and after",
            "Training cells. Imputation fills gaps, it must not invent: a dot that appears in a group where the counts "
            "have none needs a reason.",
            _dots(on, shown, genes),
        )
    if on.model.history:
        yield Exhibit(
            "Training",
            "Bound on the negative log-likelihood of the validation cells (lower is better; it decides when training "
            "stops and which weights are kept), and the training loss on a scale of its own.",
            pl.training_curve(on.model.history, ax=_axes(1)[0]).figure,
        )


def _calibration(pit: NDArray) -> Figure:
    left, right = _axes(2)
    pl.pit_histogram(pit, ax=left)
    return pl.coverage(pit, ax=right).figure


def _dots(on: Study, shown: AnnData, genes: Sequence[str] | None) -> Figure:
    """Dot plots of the groups with enough cells."""
    some = shown[np.isin(on.labels(shown), groups(on.labels(shown), 5, MOST_GROUPS))].copy()
    some.obs[on.groupby] = some.obs[on.groupby].astype(str).astype("category")
    chosen = list(genes or _markers(some, on.groupby))
    return pl.dotplot(some, chosen, groupby=on.groupby, layers=(_COUNTS, _IMPUTED))[0].figure


def _shown(on: Study) -> AnnData:
    """Some training cells with imputed counts, their variance and an embedding."""
    import scanpy as sc

    chosen = np.random.default_rng(on.seed).permutation(on.train.n_obs)[:MOST_SHOWN]
    cells = on.train[np.sort(chosen)].copy()
    latent = on.model.get_latent_representation(cells)
    on.model.impute(cells, return_variance=True, layer_added=_IMPUTED)
    cells.layers[_COUNTS] = sparse.csr_matrix(on.train_read.counts[np.sort(chosen)])
    if _BASIS not in cells.obsm:
        cells.obsm["X_latent"] = latent
        sc.pp.neighbors(cells, n_neighbors=min(15, cells.n_obs - 1), use_rep="X_latent", random_state=on.seed)
        sc.tl.umap(cells, random_state=on.seed)
    return cells


def _markers(cells: AnnData, groupby: str) -> list[str]:
    """Genes that set each group apart, without repeats."""
    values = metrics.log1p_cp10k(cells.layers[_COUNTS])
    labels = cells.obs[groupby]
    chosen: list[str] = []
    for group in labels.cat.categories:
        inside = (labels == group).to_numpy()
        order = np.argsort(values[~inside].mean(0) - values[inside].mean(0))
        new = [name for name in cells.var_names[order] if name not in chosen]
        chosen += new[:MARKERS_PER_GROUP]
    return chosen


def _axes(n_panels: int) -> NDArray:
    """Axes ``(n_panels,)`` side by side in a new figure."""
    return plt.subplots(1, n_panels, figsize=(5.4 * n_panels, 3.9), layout="constrained", squeeze=False)[1][0]
