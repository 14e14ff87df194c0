"""Predicted against measured responses, and how well each condition is met."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from adjustText import adjust_text

from sccountsdiff.pl._style import Counts, finish, mean_log_cp10k, new_axes, role_color

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

N_NAMED = 8


def delta_scatter(
    real: Counts,
    control: Counts,
    generated: Counts,
    genes: Sequence[str],
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Predicted against measured response of every gene: the change of mean log1p(CP10k) from control cells.

    Parameters
    ----------
    real, control, generated
        Counts of measured, control and predicted cells, ``(n_cells, n_genes)``, or their mean log1p(CP10k) itself,
        ``(n_genes,)``: what a method predicts that gives no cells.
    genes
        Names of the genes; those with the largest measured response are written beside their points.
    title
        What responds, before the correlation; ``None`` is "Responses".
    ax
        Axes to draw on; a new figure if ``None``.

    Returns
    -------
    The axes, with the Pearson correlation in the title.
    """
    ax = new_axes(ax, (4.2, 4.0))
    base = mean_log_cp10k(control)
    measured, predicted = (mean_log_cp10k(cells) - base for cells in (real, generated))
    ax.axline((0, 0), slope=1, color=role_color("floor"), linestyle="--", linewidth=1.2)
    ax.axhline(0, color=role_color("baseline"), linewidth=0.6)
    ax.plot(measured, predicted, "o", color=role_color("generated"), markersize=3, alpha=0.5, mew=0)
    named = np.argsort(-np.abs(measured), kind="stable")[:N_NAMED]
    texts = [ax.text(measured[gene], predicted[gene], str(genes[gene]), fontsize=7.5) for gene in named]
    line = {"arrowstyle": "-", "linewidth": 0.5, "color": role_color("baseline")}
    # By iterations: the default goes on for a second, and the figure would depend on the machine.
    adjust_text(
        texts,
        measured[named],
        predicted[named],
        ax=ax,
        iter_lim=1000,
        expand=(1.3, 1.6),
        force_text=(0.4, 0.6),
        arrowprops=line,
    )
    flat = measured.std() == 0 or predicted.std() == 0
    pearson = 0.0 if flat else np.corrcoef(measured, predicted)[0, 1]
    title = f"{title or 'Responses'}: Pearson {pearson:.2f}"
    return finish(ax, title, "measured change, log1p(CP10k)", "predicted change")


def de_overlap(genes: Mapping[str, tuple[Collection[str], Collection[str]]], *, ax: Axes | None = None) -> Axes:
    """Differential genes of each condition: found in both, in measured cells only, in predicted cells only.

    Parameters
    ----------
    genes
        Name of a condition -> the genes called in measured cells, and those called in predicted cells.
    ax
        Axes to draw on; a new figure if ``None``.

    Returns
    -------
    The axes, with one bar per condition and the shares of shared genes beside it.
    """
    names = 0.075 * max((len(name) for name in genes), default=0)
    ax = new_axes(ax, (names + 5.2, 0.34 * len(genes) + 1.3))
    sets = [(set(real), set(predicted)) for real, predicted in genes.values()]
    parts = {
        "both": ([len(one & other) for one, other in sets], role_color("floor")),
        "measured only": ([len(one - other) for one, other in sets], role_color("real")),
        "predicted only": ([len(other - one) for one, other in sets], role_color("generated")),
    }
    left = np.zeros(len(genes))
    for name, (numbers, color) in parts.items():
        ax.barh(range(len(genes)), numbers, left=left, color=color, label=name, height=0.72)
        left += numbers
    for row, (one, other) in enumerate(sets):
        both = len(one & other)
        found, right = (f"{both / len(side):.0%}" if side else "-" for side in (one, other))
        ax.annotate(f" {found} found, {right} right", (left[row], row), va="center", fontsize=8)
    ax.set_yticks(range(len(genes)), list(genes))
    ax.invert_yaxis()
    ax.set_xlim(0, max(left.max(), 1) * 1.4)
    finish(ax, "Number of differential genes")
    # Below the tick labels, whatever the height of the axes: paddings are in units of the font.
    ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0, 0), borderaxespad=2.4, ncols=3)
    return ax


def score_card(
    values: pd.DataFrame,
    quality: pd.DataFrame,
    *,
    title: str | None = None,
    ends: tuple[str, str] = ("as the control", "as real cells"),
    ax: Axes | None = None,
) -> Axes:
    """Scores of each condition as a table, coloured by how good they are.

    Parameters
    ----------
    values
        Scores, one row per condition and one column per metric; they are written into the table.
    quality
        How good each score is, same shape: 1 as good as other real cells, 0 as bad as a control.
        :func:`sccountsdiff.metrics.quality` makes it of the scores of both. Values beyond have the colour of the end;
        NaN stays grey.
    title
        Title of the table.
    ends
        What a quality of 0 and of 1 means, beside the colours.
    ax
        Axes to draw on; a new figure if ``None``.

    Returns
    -------
    The axes.

    Raises
    ------
    ValueError
        If the two tables have different rows or columns.
    """
    if not (values.index.equals(quality.index) and values.columns.equals(quality.columns)):
        raise ValueError("values and quality need the same rows and columns, in the same order.")
    ax = new_axes(ax, (1.15 * values.shape[1] + 2.2, 0.34 * len(values) + 1.5))
    colors = plt.get_cmap("RdYlBu").with_extremes(bad="#DDDDDD")
    shown = ax.imshow(np.ma.masked_invalid(quality.to_numpy(float)), colors, vmin=0, vmax=1, aspect="auto", alpha=0.75)
    for row, column in np.ndindex(values.shape):
        number = values.iat[row, column]
        ax.annotate("-" if np.isnan(number) else f"{number:.3g}", (column, row), ha="center", va="center", fontsize=9)
    ax.set_xticks(range(values.shape[1]), [str(name).replace("_", "\n") for name in values.columns])
    ax.set_yticks(range(len(values)), [str(name) for name in values.index])
    finish(ax, title or "")
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    ax.spines[:].set_visible(False)
    bar = ax.figure.colorbar(shown, ax=ax, shrink=0.8, aspect=12, ticks=[0, 1])
    bar.ax.set_yticklabels(ends, fontsize=8)
    return ax
