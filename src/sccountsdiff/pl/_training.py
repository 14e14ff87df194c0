"""How training went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sccountsdiff.pl._style import finish, new_axes, role_color

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes


def training_curve(history: Mapping[str, pd.DataFrame], *, metric: str = "elbo", ax: Axes | None = None) -> Axes:
    """Loss of training and validation cells per epoch, with the best epoch marked.

    Parameters
    ----------
    history
        ``model.history``: one data frame per logged quantity, epochs as index.
    metric
        Quantity to draw: the entries ``{metric}_train`` and ``{metric}_validation``, or ``train_{metric}`` and
        ``validation_{metric}``. Lower is better.
    ax
        Axes to draw on; a new figure if ``None``.

    Returns
    -------
    The axes.

    Raises
    ------
    KeyError
        If ``history`` has no such quantity.
    """
    curves = {
        part: history[name].iloc[:, 0].astype(float).dropna()
        for part in ("train", "validation")
        for name in (f"{metric}_{part}", f"{part}_{metric}")
        if name in history
    }
    if not curves:
        raise KeyError(f"history has no '{metric}_train' or '{metric}_validation'; it has {sorted(history)}.")
    ax = new_axes(ax)
    for part, curve in curves.items():
        ax.plot(curve.index, curve.to_numpy(), color=role_color(part), linewidth=1.6, label=f"{part} cells")
    judged = curves.get("validation", curves.get("train"))
    best = judged.idxmin()
    ax.plot(best, judged[best], "o", color=role_color("validation"), markersize=5)
    ax.axvline(best, color=role_color("baseline"), linewidth=0.8, linestyle=":")
    # The first epochs tower over the rest and would press everything of interest into one line.
    settled = [curve.iloc[len(curve) // 20 :] for curve in curves.values()]
    low, high = min(curve.min() for curve in settled), max(curve.max() for curve in settled)
    margin = 0.05 * (high - low) or 1.0
    ax.set_ylim(low - margin, high + margin)
    where = "validation" if "validation" in curves else "training"
    return finish(ax, f"Best {where} {metric} {judged[best]:.1f} at epoch {best}", "epoch", f"{metric}", legend=True)
