"""The figures of the quickstart: title, what to look for, and a function that draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from sccountsdiff import pl
from sccountsdiff.cli._study import GENERATED_TYPES, LABELS, Study
from sccountsdiff.report import Exhibit

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from matplotlib.figure import Figure

# Textbook markers of T, cytotoxic, B, monocytic, dendritic and progenitor cells, as far as pbmc68k has them.
MARKERS = (
    "CD3D", "IL7R", "CCR7", "CD8A", "CD8B", "NKG7", "GNLY", "GZMB", "MS4A1", "CD79A", "LYZ", "S100A8", "S100A9",
    "FCGR3A", "FCER1A", "CST3", "PRSS57", "SPINK2",
)  # fmt: skip


def exhibits(study: Study, pit: npt.NDArray) -> Iterator[Exhibit]:
    """Draw the figures one after the other."""
    yield Exhibit(
        "Training",
        "Bound on the negative log-likelihood of the validation cells (lower is better; it decides when training stops "
        "and which weights are kept), and the training loss on a scale of its own.",
        pl.training_curve(study.model.history, ax=_axes(1)[0]).figure,
    )
    yield Exhibit(
        "Observed, imputed and generated cells on one map",
        "The map is fitted on the observed cells only; imputed and generated cells are projected onto it, so that it "
        "cannot bend to make them agree. Grey: observed cells.",
        pl.embedding(study.adata, study.generated, color=LABELS, seed=study.seed)[0].figure,
    )
    yield Exhibit(
        "Marker genes before and after imputation",
        "One row is one cell; within a type, cells run from the largest library to the smallest. Imputed values are "
        "expected counts: use them to look, and the counts to test.",
        pl.markers(study.adata, MARKERS, groupby=LABELS)[0].figure,
    )
    yield Exhibit(
        "Library sizes and mean-variance of real and generated cells",
        f"All real cells of the types {' and '.join(GENERATED_TYPES)}, and as many generated ones.",
        _populations(study),
    )
    yield Exhibit(
        "Calibration of intervals",
        "Half of the entries of cells the model was not trained on were hidden. Left: where the hidden counts fall in "
        "their predicted distributions; a calibrated model stays in the band. Right: the share of them that intervals "
        "hold.",
        _calibration(pit),
    )


def _populations(study: Study) -> Figure:
    chosen = study.adata.obs[LABELS].isin(GENERATED_TYPES).to_numpy()
    cells = {"real": study.adata.layers["counts"][chosen], "generated": study.generated.layers["counts"]}
    left, right = _axes(2)
    pl.library_size(cells, ax=left)
    return pl.mean_variance(cells, ax=right).figure


def _calibration(pit: npt.NDArray) -> Figure:
    left, right = _axes(2)
    pl.pit_histogram(pit, ax=left)
    return pl.coverage(pit, ax=right).figure


def _axes(n_panels: int) -> npt.NDArray:
    """Axes ``(n_panels,)`` side by side in a new figure."""
    return plt.subplots(1, n_panels, figsize=(5.4 * n_panels, 3.9), layout="constrained", squeeze=False)[1][0]
