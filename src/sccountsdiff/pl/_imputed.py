"""What imputation says, against what was there: entry by entry, cell by cell, and group by group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sccountsdiff.pl._style import Counts, dense, finish, log_cp10k, new_axes, role_color

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from anndata import AnnData
    from matplotlib.axes import Axes

N_BINS = 15
MIN_ENTRIES = 30
TICKS = np.array([0, 1, 3, 10, 30, 100, 300, 1000])


def observed_imputed(observed: npt.ArrayLike, imputed: npt.ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Counts that were hidden against the counts expected for them, both as log1p.

    Parameters
    ----------
    observed
        The counts that were hidden, any shape.
    imputed
        Their expected counts, same shape.
    ax
        Axes to draw on; a new figure if ``None``.

    Returns
    -------
    The axes. Colour is the number of entries; points are means of the hidden counts over entries with similar
    expectation, with two standard errors. Points on the diagonal say that expected counts mean what they say, points
    that spread along it say that they tell entries apart.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    counts, expected = (np.asarray(values, dtype=np.float64).ravel() for values in (observed, imputed))
    if counts.shape != expected.shape:
        raise ValueError(f"observed has {counts.size:,} entries and imputed {expected.size:,}: pass the same ones.")
    ax = new_axes(ax)
    drawn = ax.hexbin(
        np.log1p(expected), np.log1p(counts), bins="log", gridsize=45, mincnt=1, cmap="Greys", linewidths=0
    )
    ax.figure.colorbar(drawn, ax=ax, label="entries", shrink=0.7)
    mean, center, error = _binned(expected, counts)
    top = np.log1p(max(expected.max(), counts.max(), 1.0))
    ax.plot([0, top], [0, top], color=role_color("floor"), linestyle="--", linewidth=1.2, label="observed = expected")
    low, high = (np.log1p(np.maximum(mean + sign * 2 * error, 0)) for sign in (-1, 1))
    bars = [np.log1p(mean) - low, high - np.log1p(mean)]
    color = role_color("imputed")
    ax.errorbar(
        np.log1p(center), np.log1p(mean), bars, fmt="o", color=color, markersize=4, label="mean of similar ones"
    )
    for axis in (ax.xaxis, ax.yaxis):
        shown = TICKS[np.log1p(TICKS) <= top]
        axis.set_ticks(np.log1p(shown), [f"{tick:g}" for tick in shown])
    title = "Hidden counts and what was expected of them"
    finish(ax, title, "expected UMIs", "hidden UMIs")
    ax.legend(fontsize=9, frameon=False, loc="upper left")
    return ax


def uncertainty(
    adata: AnnData,
    *,
    gene: str | None = None,
    layer: str = "imputed",
    basis: str = "X_umap",
    ax: Axes | None = None,
) -> Axes:
    """How sure the model is of each cell, on an embedding.

    The colour is the standard deviation of the expression behind the counts, relative to its expectation: of one gene,
    or of all together (the root of the summed variances over the root of the summed squares). Sampling noise, which
    no model can take away, is left out: the variance of a count less its mean.

    Parameters
    ----------
    adata
        Cells with expected counts in ``layer`` and the variance in ``<layer>_variance``, as
        ``model.impute(return_variance=True)`` writes them.
    gene
        Gene to show; ``None`` is all.
    layer
        Layer with the expected counts.
    basis
        Entry of ``.obsm`` with the embedding; its first two columns are shown.
    ax
        Axes to draw on; a new figure if ``None``.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        If ``adata`` lacks the layers, the gene or the embedding.
    """
    _check_uncertainty(adata, gene, layer, basis)
    chosen = slice(None) if gene is None else [adata.var_names.get_loc(gene)]
    mean, variance = (dense(adata.layers[name][:, chosen]) for name in (layer, f"{layer}_variance"))
    spread = np.sqrt(np.maximum(variance - mean, 0).sum(1) / np.maximum((mean**2).sum(1), 1e-12))
    ax = new_axes(ax)
    where = np.asarray(adata.obsm[basis])[:, :2]
    order = np.argsort(spread)  # the uncertain ones are not hidden by their neighbours
    drawn = ax.scatter(
        *where[order].T,
        c=spread[order],
        s=8,
        cmap="viridis",
        linewidths=0,
        rasterized=True,
        vmax=np.quantile(spread, 0.99),
    )
    ax.figure.colorbar(drawn, ax=ax, label="SD / expectation", shrink=0.7)
    name = basis.removeprefix("X_").upper()
    title = f"Uncertainty of {gene or 'all genes'}: median {np.median(spread):.0%}"
    finish(ax, title, f"{name} 1", f"{name} 2")
    ax.set(xticks=[], yticks=[])
    return ax


def _check_uncertainty(adata: AnnData, gene: str | None, layer: str, basis: str) -> None:
    missing = [name for name in (layer, f"{layer}_variance") if name not in adata.layers]
    if missing:
        raise KeyError(f"No layer {missing} in adata; model.impute(adata, return_variance=True) writes them.")
    if gene is not None and gene not in adata.var_names:
        raise KeyError(f"No gene {gene!r} in adata.var_names, which go from {adata.var_names[0]!r} on.")
    if basis not in adata.obsm:
        raise KeyError(f"No embedding {basis!r} in adata.obsm; it has {list(adata.obsm)}. scanpy.tl.umap makes one.")


def dotplot(
    adata: AnnData,
    genes: Sequence[str],
    *,
    groupby: str,
    layers: Sequence[str] = ("counts", "imputed"),
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Dot plots of scanpy before and after imputation, one per layer, on one scale of colours and one of sizes.

    The colour is the group mean of log1p(CP10k). The size is the share of cells with more than half a UMI: those with
    a count, or those for which one is more likely to be expected than not.

    Parameters
    ----------
    adata
        Cells with ``layers`` of counts.
    genes
        Genes to show, in this order.
    groupby
        Column of ``.obs`` that groups the cells.
    layers
        Layers to show.
    axes
        Axes to draw on, one per layer; a new figure if ``None``. scanpy puts its own axes in their place.

    Returns
    -------
    The axes of the dots, one per layer.

    Raises
    ------
    KeyError
        If a gene, a layer or the column is not in ``adata``.
    """
    unknown = [gene for gene in genes if gene not in adata.var_names]
    unknown += [layer for layer in layers if layer not in adata.layers] + [groupby] * (groupby not in adata.obs)
    if unknown:
        raise KeyError(f"Not in adata: {unknown} (genes, layers and a column of obs are asked for).")
    groups = adata.obs[groupby].astype("category")
    if axes is None:
        axes = _dot_axes(len(layers), len(genes), [str(group) for group in groups.cat.categories])
    colors, sizes = zip(*(_dots(adata, layer, list(genes), groups) for layer in layers), strict=True)
    tops = tuple(max(float(table.to_numpy().max()) for table in tables) for tables in (colors, sizes))
    panels = zip(axes, layers, colors, sizes, strict=True)
    return [_dot_panel(adata, groupby, ax, layer, color, size, tops) for ax, layer, color, size in panels]


def _dot_axes(n_layers: int, n_genes: int, groups: list[str]) -> npt.NDArray:
    """Axes ``(n_layers,)`` below each other, with room for the names that scanpy writes around them."""
    names = 0.09 * max(map(len, groups)) + 0.2
    width, height = names + 0.34 * n_genes + 2.4, 0.27 * len(groups) + 1.5
    figure, axes = plt.subplots(n_layers, 1, figsize=(width, height * n_layers), squeeze=False)
    below = 1.0 / (height * n_layers)
    figure.subplots_adjust(names / width, below, 0.98, 1 - 0.3 * below, hspace=1.2 / (height - 1.2))
    return axes[:, 0]


def _dot_panel(
    adata: AnnData,
    groupby: str,
    ax: Axes,
    layer: str,
    color: pd.DataFrame,
    size: pd.DataFrame,
    tops: tuple[float, float],
) -> Axes:
    """One dot plot of scanpy, in place of ``ax``; the scales of colours and sizes go from 0 to ``tops``."""
    from scanpy.pl import DotPlot  # scanpy takes seconds, and no other plot needs it

    tables = {"dot_color_df": color, "dot_size_df": size}
    plot = DotPlot(adata, list(color.columns), groupby, ax=ax, title=layer, vmin=0, vmax=tops[0], **tables)
    largest = max(np.ceil(10 * tops[1]), 1) / 10  # in tenths, as the legend of scanpy has them
    plot.style(cmap="Blues", dot_edge_lw=0.4, dot_min=0, dot_max=largest).legend(
        colorbar_title="mean log1p(CP10k)", size_title="% above half a UMI"
    )
    return plot.get_axes()["mainplot_ax"]


def _dots(adata: AnnData, layer: str, genes: list[str], groups: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Colours and sizes of the dots of a layer: tables of groups by genes."""
    columns = adata.var_names.get_indexer(genes)
    normalised = log_cp10k(adata.layers[layer], columns)
    seen = dense(adata.layers[layer][:, columns]) > 0.5
    return tuple(pd.DataFrame(part, columns=genes).groupby(groups.to_numpy()).mean() for part in (normalised, seen))


def _binned(expected: Counts, counts: Counts) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """Mean of the counts, mean of the expectations and standard error, in bins of similar expectation."""
    edges = np.linspace(np.log1p(expected.min()), np.log1p(expected.max()), N_BINS + 1)
    which = np.clip(np.digitize(np.log1p(expected), edges) - 1, 0, N_BINS - 1)
    n = np.bincount(which, minlength=N_BINS)
    kept = n >= min(MIN_ENTRIES, n.max())
    mean, center, square = (
        np.bincount(which, values, N_BINS)[kept] / n[kept] for values in (counts, expected, counts**2)
    )
    return mean, center, np.sqrt(np.maximum(square - mean**2, 0) / n[kept])
