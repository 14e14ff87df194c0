"""Observed, imputed and generated cells on one map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from sccountsdiff.pl._style import CYCLE, Counts, finish, log_cp10k, role_color

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from anndata import AnnData
    from matplotlib.axes import Axes


N_NEIGHBORS = 15
MIN_DISTANCE = 0.5


def embedding(
    adata: AnnData,
    generated: AnnData | None = None,
    *,
    color: str,
    layers: Sequence[str] = ("counts", "imputed"),
    n_pcs: int = 20,
    seed: int = 0,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Panels of the same UMAP: one per layer of the real cells, and one of generated cells.

    Principal components and UMAP are fitted on the real cells in the first layer only, so that the map cannot bend
    itself to make the others agree with it. All other cells are *projected*: each is placed by the fitted UMAP, which
    starts it among its neighbours of the first layer and moves it alone, these staying where they are; further layers
    are centred on their own mean first. Projected cells spread like fitted ones, but a cell unlike all of these is put
    beside the least unlike: what lies off the map cannot be seen on it (:func:`sccountsdiff.metrics.two_sample_auc`
    would tell).

    Parameters
    ----------
    adata
        Real cells.
    generated
        Generated cells with counts in ``.X``, genes as in ``adata``; no such panel if ``None``.
    color
        Column of ``.obs`` that colours the cells. The legend has the values of all panels, in the order of ``adata``
        and then of ``generated``; cells without a value are grey.
    layers
        Layers of ``adata`` to show. The first is what the map is fitted on.
    n_pcs
        Principal components that the UMAP is computed from.
    seed
        Seed of the UMAP.
    axes
        Axes to draw on, one per panel; a new figure if ``None``.

    Returns
    -------
    The axes, one per panel.

    Raises
    ------
    KeyError
        If ``adata`` lacks one of ``layers``, or ``adata`` or ``generated`` lacks ``color``.
    ValueError
        If ``generated`` has other genes than ``adata``, or the number of ``axes`` is not that of the panels.
    """
    _check(adata, generated, color, layers)
    cells = {name: (adata.layers[name], adata.obs[color]) for name in layers}
    if generated is not None:
        cells["generated"] = (generated.X, generated.obs[color])
    if axes is None:
        _, axes = plt.subplots(1, len(cells), figsize=(3.6 * len(cells) + 1.9, 3.8), layout="constrained")
    axes = list(np.atleast_1d(axes))
    if len(axes) != len(cells):
        raise ValueError(f"{len(axes)} axes given for {len(cells)} panels ({', '.join(cells)}).")
    shown = [counts for counts, _ in cells.values()]
    positions = _project(shown[: len(layers)], shown[len(layers) :], n_pcs, seed)
    levels = dict.fromkeys(str(level) for _, of in cells.values() for level in of.astype("category").cat.categories)
    for ax, (name, (_, labels)), where in zip(axes, cells.items(), positions, strict=True):
        _panel(ax, where, [str(label) for label in labels], list(levels), positions[0])
        how = "map fitted here" if name == layers[0] else "projected"
        finish(ax, f"{name}: {len(where):,} cells ({how})", "UMAP 1", "UMAP 2" if ax is axes[0] else "")
        ax.set(xticks=[], yticks=[])
    axes[-1].legend(
        *axes[0].get_legend_handles_labels(), fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5),
        handletextpad=0.2, markerscale=3,
    )  # fmt: skip
    return axes


def _check(adata: AnnData, generated: AnnData | None, color: str, layers: Sequence[str]) -> None:
    missing = [name for name in layers if name not in adata.layers]
    if missing:
        raise KeyError(f"No layer {missing} in adata; it has {[name for name in adata.layers if name is not None]}.")
    for name, part in {"adata": adata, "generated": generated}.items():
        if part is not None and color not in part.obs:
            raise KeyError(f"No column '{color}' in {name}.obs; it has {list(part.obs.columns)}.")
    if generated is not None and list(generated.var_names) != list(adata.var_names):
        raise ValueError("generated has other genes than adata, or another order; use generated[:, adata.var_names].")


def _panel(ax: Axes, where: npt.NDArray, labels: list[str], levels: list[str], behind: npt.NDArray) -> None:
    """Draw one panel: the fitted cells in pale grey behind, its own cells in colour."""
    ax.scatter(*behind.T, s=5, color="#E4E4E4", linewidths=0, rasterized=True)
    order = np.random.default_rng(0).permutation(len(where))  # no type hides another by being drawn last
    color_of = {level: CYCLE[position % len(CYCLE)] for position, level in enumerate(levels)}
    colors = [color_of.get(labels[cell], role_color("baseline")) for cell in order]
    ax.scatter(*where[order].T, s=8, c=colors, linewidths=0, rasterized=True)
    for level in levels:
        ax.scatter([], [], s=8, color=color_of[level], label=level)


def _project(layers: Sequence[Counts], generated: Sequence[Counts], n_pcs: int, seed: int) -> list[npt.NDArray]:
    """Positions ``(n_cells, 2)`` of all sets of cells on the UMAP of the first layer."""
    from sklearn.decomposition import PCA
    from umap import UMAP  # scanpy's own; it compiles for many seconds, and no other plot needs it

    reference = log_cp10k(layers[0])
    pca = PCA(min(n_pcs, *reference.shape), random_state=seed).fit(reference)
    first, *others = (pca.transform(log_cp10k(counts)) for counts in (*layers, *generated))
    # The log of an expected count exceeds the expected log of a count, which shifts all cells of an imputed layer
    # alike. The layers hold the same cells, so centring each takes that away, and only that.
    centered = [part - part.mean(0) if position < len(layers) - 1 else part for position, part in enumerate(others)]
    n_neighbors = min(N_NEIGHBORS, len(first) - 1)
    fitted = UMAP(n_neighbors=n_neighbors, min_dist=MIN_DISTANCE, random_state=seed, n_jobs=1).fit(first)
    return [fitted.embedding_, *map(fitted.transform, centered)]
