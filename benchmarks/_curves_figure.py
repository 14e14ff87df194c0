"""The figure of quality against steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from _record import Record

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

REAL = "0.35"
TICKS = (1, 2, 5, 10, 20, 50, 100)
SCORES = {"mmd2_over_floor": "squared MMD / floor", "auc_log": "AUC on log counts"}


def draw_figure(path: Path, record: Record, families: Mapping[str, Sequence[str]], datasets: Sequence[str]) -> None:
    """Write the figure: a column for each family of walks, a row for each score and data set."""
    rows = [(score, data) for score in SCORES for data in datasets]
    size = (3 * len(families), 2.2 * len(rows))
    fig, axes = plt.subplots(len(rows), len(families), figsize=size, sharex="col", sharey="row", layout="constrained")
    for line, (score, data) in zip(axes, rows, strict=True):
        for axis, (family, names) in zip(line, families.items(), strict=True):
            _curves(axis, record.values(score), names, data)
            axis.set_title(f"{data}: {family}", fontsize=9)
            if score == "mmd2_over_floor":
                axis.set_yscale("symlog", linthresh=1)
        line[0].set_ylabel(SCORES[score])
    for axis in axes[0]:
        axis.legend(fontsize=6, frameon=False)
    for axis in axes[-1]:
        axis.set(xscale="log", xlabel="steps")
        axis.set_xticks(TICKS, map(str, TICKS))
        axis.minorticks_off()
    fig.savefig(path, dpi=90)


def _curves(axis: Axes, values: Mapping[tuple[str, str], Mapping[int, float]], names: Sequence[str], data: str) -> None:
    """Mean over seeds against steps, one curve a name; real cells are a dotted line."""
    for name in names:
        walks = {
            int(walk.removeprefix(f"{name}_")): found
            for (walk, where), found in values.items()
            if where == data and walk.rpartition("_")[0] == name
        }
        axis.plot(sorted(walks), [np.mean([*walks[n].values()]) for n in sorted(walks)], ".-", linewidth=1, label=name)
    real = values.get(("real", data))
    if real:
        axis.axhline(np.mean([*real.values()]), color=REAL, linestyle=":", linewidth=1)
