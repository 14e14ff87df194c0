"""The look all plots share: colours told apart by everybody, quiet axes, a title that says what is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

Counts = np.ndarray | sparse.spmatrix | sparse.sparray

# Roles keep their colour from plot to plot (Okabe & Ito 2008).
ROLE_COLORS = {
    "real": "#4D4D4D",
    "observed": "#4D4D4D",
    "generated": "#D55E00",
    "imputed": "#0072B2",
    "train": "#56B4E9",
    "validation": "#D55E00",
    "baseline": "#999999",
    "floor": "#009E73",
}
# For anything else, in order (Paul Tol's "muted" scheme and two more).
CYCLE = (
    "#332288", "#DDCC77", "#117733", "#CC6677", "#88CCEE", "#882255", "#44AA99", "#AA4499", "#999933", "#EE7733",
    "#6699CC", "#888888",
)  # fmt: skip


def role_color(name: str, position: int = 0) -> str:
    """Colour of a named set of cells: that of its role, or the one of its ``position`` in the cycle."""
    return ROLE_COLORS.get(name.lower(), CYCLE[position % len(CYCLE)])


def new_axes(ax: Axes | None, size: tuple[float, float] = (4.6, 3.6)) -> Axes:
    """Return ``ax``, or the axes of a new figure of ``size`` inches."""
    return ax if ax is not None else plt.subplots(figsize=size, layout="constrained")[1]


def finish(ax: Axes, title: str, xlabel: str = "", ylabel: str = "", legend: bool = False) -> Axes:
    """Set the texts in readable sizes and take away what carries no information."""
    ax.set_title(title, loc="left", fontsize=11)
    ax.set_xlabel(xlabel, fontsize=10)
    ax.set_ylabel(ylabel, fontsize=10)
    ax.tick_params(labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    if legend:
        ax.legend(fontsize=9, frameon=False)
    return ax


def dense(counts: Counts) -> npt.NDArray:
    """Matrix ``(n_cells, n_genes)`` as a dense ``float64`` array."""
    return np.asarray(counts.toarray() if sparse.issparse(counts) else counts, dtype=np.float64)


def log_cp10k(counts: Counts, genes: npt.ArrayLike | slice = slice(None)) -> npt.NDArray:
    """``log1p`` of counts per ten thousand, of some columns or all, dense; empty cells stay zero."""
    values = counts.tocsr() if sparse.issparse(counts) else np.asarray(counts)
    size = np.asarray(values.sum(1), dtype=np.float64).reshape(-1, 1)
    return np.log1p(dense(values[:, genes]) / np.where(size > 0, size, 1.0) * 1e4)


def mean_log_cp10k(cells: Counts) -> npt.NDArray:
    """Mean over cells of :func:`log_cp10k`, ``(n_genes,)``; what has one dimension is such a mean already."""
    return np.asarray(cells, dtype=np.float64) if np.ndim(cells) == 1 else log_cp10k(cells).mean(0)
