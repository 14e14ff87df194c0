"""Do generated cells look like cells: library sizes, and variance against mean of the genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sccountsdiff.pl._style import Counts, dense, finish, new_axes, role_color

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes


def library_size(cells: Mapping[str, Counts], *, ax: Axes | None = None) -> Axes:
    """Histograms of the UMIs per cell, one per set of cells, with their means.

    Parameters
    ----------
    cells
        Name of a set of cells -> UMI counts ``(n_cells, n_genes)``, for instance ``{"real": ..., "generated": ...}``.
        The first set is filled, as the one that the others are compared with.
    ax
        Axes to draw on; a new figure if ``None``.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError
        If there are no sets, or one has no cells.
    """
    _check(cells)
    ax = new_axes(ax)
    sizes = {name: np.asarray(counts.sum(1)).ravel() for name, counts in cells.items()}
    pooled = np.concatenate(list(sizes.values()))
    bins = np.linspace(pooled.min(), np.quantile(pooled, 0.995) + 1, 36)
    for position, (name, size) in enumerate(sizes.items()):
        color = role_color(name, position)
        look = {"histtype": "stepfilled", "alpha": 0.35} if position == 0 else {"histtype": "step", "linewidth": 1.8}
        label = f"{name}: mean {size.mean():,.0f}, SD {size.std():,.0f}"
        # clipped so that the few largest cells are counted in the last bin rather than lost
        ax.hist(np.minimum(size, bins[-1]), bins=bins, density=True, color=color, label=label, **look)
        ax.axvline(size.mean(), color=color, linestyle="--", linewidth=1.2)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    return finish(ax, "Library sizes (dashed: means)", "UMIs per cell", legend=True)


def mean_variance(cells: Mapping[str, Counts], *, ax: Axes | None = None) -> Axes:
    """Variance against mean of every gene, with the Poisson line as baseline.

    Parameters
    ----------
    cells
        Name of a set of cells -> UMI counts ``(n_cells, n_genes)``, for instance ``{"real": ..., "generated": ...}``.
    ax
        Axes to draw on; a new figure if ``None``.

    Returns
    -------
    The axes. Genes without a count in a set are not drawn for it.

    Raises
    ------
    ValueError
        If there are no sets, or one has no cells.
    """
    _check(cells)
    ax = new_axes(ax)
    for position, (name, counts) in enumerate(cells.items()):
        values = dense(counts)
        mean, variance = values.mean(0), values.var(0)
        shown = (mean > 0) & (variance > 0)
        color = role_color(name, position)
        ax.plot(mean[shown], variance[shown], "o", color=color, markersize=3.2, alpha=0.5, mew=0, label=name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ends = np.array(ax.get_xlim())
    ax.plot(ends, ends, color=role_color("baseline"), linestyle="--", linewidth=1.2, label="Poisson (variance = mean)")
    ax.set_xlim(*ends)
    finish(ax, "Mean and variance of each gene", "mean UMIs per cell", "variance", legend=True)
    for handle in ax.get_legend().legend_handles:
        handle.set_alpha(1)
    return ax


def _check(cells: Mapping[str, Counts]) -> None:
    empty = [name for name, counts in cells.items() if not counts.shape[0]]
    if empty or not cells:
        found = f"no cells in {empty}" if empty else "no sets of cells"
        raise ValueError(f"There are {found}: pass at least one set, each of at least one cell, as {{name: counts}}.")
