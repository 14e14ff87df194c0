"""Marker genes before and after imputation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from sccountsdiff.pl._style import finish, log_cp10k

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from anndata import AnnData
    from matplotlib.axes import Axes


def markers(
    adata: AnnData,
    genes: Sequence[str],
    *,
    groupby: str,
    layers: Sequence[str] = ("counts", "imputed"),
    n_rows: int = 40,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Heat maps of marker genes in single cells, one per layer on one colour scale.

    Every row is a cell. Groups get the same height, filled with ``n_rows`` of their cells taken evenly from the
    largest library to the smallest (a cell of a small group fills several rows), so that what is left of sequencing
    depth would show as a gradient.

    Parameters
    ----------
    adata
        Cells with ``layers`` of counts.
    genes
        Genes to show, in this order.
    groupby
        Column of ``.obs`` that groups the cells.
    layers
        Layers to show; all are drawn as log1p of counts per ten thousand.
    n_rows
        Rows per group.
    axes
        Axes to draw on, one per layer; a new figure if ``None``.

    Returns
    -------
    The axes, one per layer.

    Raises
    ------
    KeyError
        If a gene, a layer or the column is not in ``adata``.
    """
    unknown = [gene for gene in genes if gene not in adata.var_names]
    unknown += [layer for layer in layers if layer not in adata.layers] + [groupby] * (groupby not in adata.obs)
    if unknown:
        raise KeyError(f"Not in adata: {unknown} (genes, layers and a column of obs are asked for).")
    if axes is None:
        size = (0.32 * len(genes) * len(layers) + 3.2, 5.2)
        _, axes = plt.subplots(1, len(layers), figsize=size, layout="constrained", sharey=True)
    axes = list(np.atleast_1d(axes))
    groups = adata.obs[groupby].astype("category").cat.remove_unused_categories()
    library_size = np.asarray(adata.layers[layers[0]].sum(1)).ravel()
    rows = [_spread(np.flatnonzero(groups == group), library_size, n_rows) for group in groups.cat.categories]
    columns = adata.var_names.get_indexer(list(genes))
    images = [log_cp10k(adata.layers[layer], columns)[np.concatenate(rows)] for layer in layers]
    vmax = np.quantile(images[0], 0.99)
    edges = np.arange(len(rows) + 1) * n_rows - 0.5
    for ax, layer, image in zip(axes, layers, images, strict=True):
        drawn = ax.imshow(image, aspect="auto", cmap="cividis", vmin=0, vmax=vmax, interpolation="none")
        ax.hlines(edges[1:-1], -0.5, len(genes) - 0.5, color="white", linewidth=1)
        finish(ax, f"{layer}: log1p(CP10k) of single cells")
        ax.set_xticks(range(len(genes)), genes, rotation=90, fontsize=9)
        ax.set_yticks((edges[1:] + edges[:-1]) / 2, groups.cat.categories, fontsize=9)
        ax.tick_params(length=0)
    axes[0].figure.colorbar(drawn, ax=axes, label="log1p(counts per 10,000 UMIs)", shrink=0.5, aspect=25)
    return axes


def _spread(cells: npt.NDArray, library_size: npt.NDArray, n_rows: int) -> npt.NDArray:
    """``n_rows`` of ``cells``, evenly from the largest library to the smallest."""
    ordered = cells[np.argsort(-library_size[cells], kind="stable")]
    return ordered[np.linspace(0, len(ordered) - 1, n_rows).round().astype(int)]
