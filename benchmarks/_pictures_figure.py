"""Figures of the images: samples at each setting, and scores over guidance scale and attrition."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import torch
from _record import Record
from torch import Tensor

matplotlib.use("agg")
from matplotlib import pyplot as plt

CURVES = {"accuracy": "read as what was asked for", "frechet": "Frechet distance"}
COLOUR, REAL = "#0072b2", "0.35"


def draw_tiles(path: Path, tiles: Mapping[str, Tensor]) -> None:
    """Write a row of images ``(n_images, n_channels, height, width)``, between 0 and 1, for each setting."""
    fig, axes = plt.subplots(len(tiles), 1, figsize=(6, 0.6 * len(tiles)), constrained_layout=True)
    for axis, (name, images) in zip(axes, tiles.items(), strict=True):
        axis.imshow(torch.cat([*images], -1).permute(1, 2, 0), cmap="gray_r", vmin=0, vmax=1)
        axis.set_ylabel(name.replace("_", " "), rotation=0, ha="right", va="center")
        axis.set(xticks=[], yticks=[])
    fig.savefig(path, dpi=100, bbox_inches="tight")


def draw_curves(path: Path, record: Record, data: str, settings: Mapping[str, Mapping[str, float]]) -> None:
    """Write the recorded scores, mean and range over seeds, over each setting; a dashed line is real images."""
    fig, axes = plt.subplots(len(CURVES), len(settings), figsize=(7, 5), sharey="row", constrained_layout=True)
    for row, (score, title) in zip(axes, CURVES.items(), strict=True):
        found = record.values(score)
        for axis, (label, values) in zip(row, settings.items(), strict=True):
            seeds = {value: [*found[name, data].values()] for name, value in values.items() if found[name, data]}
            x, y = np.array([*seeds]), np.array([np.mean(scores) for scores in seeds.values()])
            low, high = ([extreme(scores) for scores in seeds.values()] for extreme in (min, max))
            axis.fill_between(x, low, high, color=COLOUR, alpha=0.2, linewidth=0)
            axis.plot(x, y, ".-", color=COLOUR)
            axis.axhline(np.mean([*found["real", data].values()]), color=REAL, linestyle="--", linewidth=1)
            axis.set_xlabel(label)
        row[0].set_ylabel(title)
        if score == "frechet":
            row[0].set_yscale("log")
    fig.savefig(path, dpi=90)
