"""How training went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sccountsdiff.pl._style import finish, new_axes, role_color

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes

BOUND, LOSS = "elbo_validation", "train_loss"


def training_curve(history: Mapping[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """Bound of the validation cells per epoch with its best value marked, and behind it the training loss.

    The two are on scales of their own, left and right: the training loss averages over other survivals than the bound
    and leaves out a constant of the data.

    Parameters
    ----------
    history
        ``model.history``: one data frame per logged quantity, epochs as index.
    ax
        Axes to draw on; a new figure if ``None``.

    Returns
    -------
    The axes of the bound, or of the training loss if there were no validation cells.

    Raises
    ------
    KeyError
        If ``history`` has neither ``elbo_validation`` nor ``train_loss``.
    """
    curves = {name: history[name].iloc[:, 0].astype(float).dropna() for name in (BOUND, LOSS) if name in history}
    if not curves:
        raise KeyError(f"history has neither '{BOUND}' nor '{LOSS}'; it has {sorted(history)}.")
    ax = new_axes(ax)
    if BOUND not in curves:
        _line(ax, curves[LOSS], "train")
        return finish(ax, f"Training loss {curves[LOSS].iloc[-1]:.1f} at the end", "epoch", "loss")
    if LOSS in curves:
        behind = ax.twinx()
        _line(behind, curves[LOSS], "train", alpha=0.55)
        finish(behind, "", ylabel="training loss")
        behind.spines["right"].set_visible(True)
        behind.yaxis.label.set_color(role_color("train"))
        ax.set_zorder(behind.get_zorder() + 1)
        ax.patch.set_visible(False)
    bound = curves[BOUND]
    _line(ax, bound, "validation", marker="o", markersize=3)
    ax.yaxis.label.set_color(role_color("validation"))
    ax.axhline(bound.min(), color=role_color("baseline"), linewidth=0.8, linestyle=":")
    title = f"Validation bound: best {bound.min():.1f} nats per cell, epoch {bound.idxmin()}"
    return finish(ax, title, "epoch", "bound (nats per cell)")


def _line(ax: Axes, curve: pd.Series, role: str, **look: object) -> None:
    """Draw a curve, and let its settled part decide the limits: the first epochs tower over all that matters."""
    ax.plot(curve.index, curve.to_numpy(), color=role_color(role), linewidth=1.3, **look)
    settled = curve.iloc[len(curve) // 10 :]
    margin = 0.06 * (settled.max() - settled.min()) or 1.0
    ax.set_ylim(settled.min() - margin, settled.max() + margin)
