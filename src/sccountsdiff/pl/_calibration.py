"""Can the stated uncertainty be believed: two views of the probability integral transform (PIT).

The PIT of a held-out count is the predicted probability of a count below it plus a uniformly drawn part of the
probability of the count itself. It is uniform on [0, 1] if and only if the predictive distribution is calibrated
(Czado, Gneiting & Held 2009, Predictive model assessment for count data, Biometrics 65).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sccountsdiff.pl._style import finish, new_axes, role_color

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes


def pit_histogram(pit: npt.ArrayLike, *, n_bins: int = 20, ax: Axes | None = None) -> Axes:
    """Histogram of randomised PIT values with the band a calibrated model would stay in.

    Parameters
    ----------
    pit
        Randomised PIT values in [0, 1], any shape.
    n_bins
        Number of bins.
    ax
        Axes to draw on; a new figure if ``None``.

    Returns
    -------
    The axes. The dashed line is uniformity; the band holds 95 % of the bars of a calibrated model with as many values.

    Raises
    ------
    ValueError
        If a value is outside [0, 1] or NaN.
    """
    values = _checked(pit)
    ax = new_axes(ax)
    ax.hist(values, bins=n_bins, range=(0, 1), density=True, color=role_color("imputed"), alpha=0.75, rwidth=0.94)
    spread = 1.96 * np.sqrt((n_bins - 1) / values.size)  # binomial SD of a bar, relative to its mean of one
    ax.axhspan(
        1 - spread, 1 + spread, color=role_color("floor"), alpha=0.3, linewidth=0, label="95 % of calibrated bars"
    )
    ax.axhline(1, color=role_color("floor"), linestyle="--", linewidth=1.2)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, max(1.6, ax.get_ylim()[1] * 1.15))
    title = "Held-out counts within their predictions"
    return finish(ax, title, "probability integral transform (PIT)", "density", legend=True)


def coverage(pit: npt.ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Share of held-out counts inside the central intervals, against the share the intervals promise.

    Parameters
    ----------
    pit
        Randomised PIT values in [0, 1], any shape. A central interval of nominal mass ``p`` holds a value exactly if
        its PIT is within ``p / 2`` of one half.
    ax
        Axes to draw on; a new figure if ``None``.

    Returns
    -------
    The axes. The diagonal is perfect calibration; a curve below it means intervals that are too narrow.

    Raises
    ------
    ValueError
        If a value is outside [0, 1] or NaN.
    """
    distance = 2 * np.abs(_checked(pit) - 0.5)
    nominal = np.linspace(0, 1, 101)
    empirical = np.searchsorted(np.sort(distance), nominal, side="right") / distance.size
    ax = new_axes(ax)
    ax.plot([0, 1], [0, 1], color=role_color("floor"), linestyle="--", linewidth=1.2, label="calibrated")
    ax.plot(nominal, empirical, color=role_color("imputed"), linewidth=2, label="observed")
    ax.fill_between(nominal, nominal, empirical, color=role_color("imputed"), alpha=0.15, linewidth=0)
    marked = {level: empirical[round(level * 100)] for level in (0.5, 0.9)}
    ax.plot(list(marked), list(marked.values()), "o", color=role_color("imputed"), markersize=5)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.02)
    title = ", ".join(f"{level:.0%} intervals hold {share:.1%}" for level, share in marked.items())
    finish(ax, title, "nominal coverage", "share of held-out counts inside")
    ax.legend(fontsize=9, frameon=False, loc="lower right")
    return ax


def _checked(pit: npt.ArrayLike) -> npt.NDArray:
    values = np.asarray(pit, dtype=np.float64).ravel()
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any() or not values.size:
        first = f", the first being {values[wrong][0]}" if wrong.any() else ""
        raise ValueError(f"PIT values must lie in [0, 1]; {wrong.sum()} of {values.size} do not{first}.")
    return values
