"""The figure of the simulated counts: marginals, one joint density, variances."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from _toy import N_DIMS, variances
from scipy.stats import gaussian_kde
from torch import Tensor

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

REAL = "0.35"
COLOURS = ("#0072b2", "#d55e00", "#009e73")
#: Dimensions of the joint density: those of the paper.
PAIR = (0, 1)


def draw_figure(path: Path, real: Tensor, samples: Mapping[str, Tensor]) -> None:
    """Write the figure of real rows ``(n, 10)`` beside samples by name."""
    fig = plt.figure(figsize=(9, 6.5), constrained_layout=True)
    grid = fig.add_gridspec(3, 4)
    _variances(fig.add_subplot(grid[0, :]), samples)
    everyone = {"real": real, **samples}
    largest = [int(np.quantile(real[:, d], 0.995)) for d in PAIR]
    for column, (name, rows) in enumerate(everyone.items()):
        _joint(fig.add_subplot(grid[1, column]), name, rows, largest)
    for column, d in enumerate((1, 5, 7, 9)):
        _marginal(fig.add_subplot(grid[2, column]), d, everyone)
    fig.savefig(path, dpi=90)


def _variances(axis: Axes, samples: Mapping[str, Tensor]) -> None:
    """Bars of the variance of each dimension over the true one."""
    width = 0.8 / len(samples)
    for number, ((name, rows), colour) in enumerate(zip(samples.items(), COLOURS, strict=True)):
        where = np.arange(N_DIMS) + (number - (len(samples) - 1) / 2) * width
        axis.bar(where, (rows.var(0) / variances()).numpy(), width, color=colour, label=name)
    axis.axhline(1, color=REAL, linewidth=1)
    axis.set(xticks=range(N_DIMS), xlabel="dimension", ylabel="variance over truth")
    axis.legend(frameon=False, ncols=len(samples), loc="lower center", bbox_to_anchor=(0.5, 1))


def _joint(axis: Axes, name: str, rows: Tensor, largest: list[int]) -> None:
    """Kernel density of two dimensions."""
    density = gaussian_kde(rows[:, PAIR].T.numpy(), bw_method=0.35)
    x, y = np.meshgrid(*(np.linspace(-0.5, high + 0.5, 50) for high in largest), indexing="ij")
    axis.contourf(x, y, density([x.ravel(), y.ravel()]).reshape(x.shape) ** 0.5, levels=10, cmap="Greys")
    axis.set(title=name, xlabel=f"dimension {PAIR[0]}", ylabel=f"dimension {PAIR[1]}")


def _marginal(axis: Axes, d: int, everyone: Mapping[str, Tensor]) -> None:
    """Frequencies of the counts of one dimension, logarithmic."""
    high = int(everyone["real"][:, d].max())
    for (name, rows), colour in zip(everyone.items(), (REAL, *COLOURS), strict=True):
        frequency = np.bincount(rows[:, d].int().clamp(0, high).numpy(), minlength=high + 1) / len(rows)
        axis.plot(
            np.where(frequency > 0, frequency, np.nan), ".-", color=colour, markersize=3, linewidth=0.8, label=name
        )
    axis.set(yscale="log", title=f"dimension {d}", xlabel="count")
