"""The figures of the generation report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from sccountsdiff import metrics, pl
from sccountsdiff.report._contest import CellSet, Contest
from sccountsdiff.report._page import Exhibit
from sccountsdiff.report._scores import MODEL
from sccountsdiff.report._study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SCATTERS = 3
_COUNTS, _CONDITION = "real", "condition"


def exhibits(
    on: Study,
    cells: Contest,
    card: tuple[pd.DataFrame, pd.DataFrame],
    reference: Mapping[str, NDArray],
) -> Iterator[Exhibit]:
    """Draw the figures one after the other.

    Parameters
    ----------
    on
        The cells.
    cells
        The contest.
    card
        Values and quality of each condition.
    reference
        Reference cells of each condition.
    """
    yield Exhibit(
        "Each condition",
        "Scores of the generated cells of each condition, against its held-out cells. Colour: from the training cells of "
        "the most similar other condition (red) to other real cells of this one (blue).",
        pl.score_card(*card, ends=("as the nearest\nother condition", "as real cells")).figure,
    )
    yield Exhibit(
        "Real and generated cells on one map",
        "The map is fitted to held-out real cells only; generated cells are projected onto it, so that it cannot bend to "
        "make them agree. Grey: the real cells. A cell unlike all of them is put beside the least unlike: what a "
        "classifier tells apart (two_sample_auc) may look right here.",
        _map(on, cells),
    )
    yield Exhibit(
        "Library sizes and mean-variance",
        "Held-out and generated cells of all conditions.",
        _populations(cells),
    )
    if reference:
        yield Exhibit(
            "Responses",
            "Change of every gene from the reference cells of the condition, predicted against measured, in the "
            "conditions with most held-out cells.",
            _responses(on, cells, reference),
        )
        yield Exhibit(
            "Differential genes",
            "Genes that a rank-sum test calls different from the reference cells (5 % false discovery rate), in measured "
            "cells and in as many generated ones.",
            _genes(on, cells, reference),
        )


def _map(on: Study, cells: Contest) -> Figure:
    real, generated = (_adata(part, on) for part in (cells.real, cells.entrants[MODEL]))
    return pl.embedding(real, generated, color=_CONDITION, layers=(_COUNTS,), seed=on.seed)[0].figure


def _adata(cells: CellSet, on: Study) -> AnnData:
    counts = sparse.csr_matrix(cells.counts)
    obs = pd.DataFrame({_CONDITION: pd.Categorical(cells.labels)}, index=[str(n) for n in range(len(cells.labels))])
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=on.held_out.var_names), layers={_COUNTS: counts})


def _populations(cells: Contest) -> Figure:
    sets = {"real": cells.real.counts, "generated": cells.entrants[MODEL].counts}
    left, right = plt.subplots(1, 2, figsize=(10.8, 3.9), layout="constrained")[1]
    pl.library_size(sets, ax=left)
    return pl.mean_variance(sets, ax=right).figure


def _responses(on: Study, cells: Contest, reference: Mapping[str, NDArray]) -> Figure:
    shown = list(reference)[:MOST_SCATTERS]
    axes = plt.subplots(1, len(shown), figsize=(4.4 * len(shown), 4.2), layout="constrained", squeeze=False)[1][0]
    for ax, name in zip(axes, shown, strict=True):
        parts = cells.real.of(name), reference[name], cells.entrants[MODEL].of(name)
        pl.delta_scatter(*parts, on.held_out.var_names, title=f"{name}\nResponses", ax=ax)
    return axes[0].figure


def _genes(on: Study, cells: Contest, reference: Mapping[str, NDArray]) -> Figure:
    names = np.asarray(on.held_out.var_names)
    called = {}
    for name, base in reference.items():
        real = cells.real.of(name)
        generated = cells.entrants[MODEL].of(name)[: len(real)]
        called[name] = tuple(names[metrics.differential_genes(part, base).significant()] for part in (real, generated))
    return pl.de_overlap(called).figure
