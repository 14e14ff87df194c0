"""Pairs of groups of cells: which cells they are, what a test says of them, and the table of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import false_discovery_control

from sccountsdiff.model._text import listed
from sccountsdiff.stats import GroupComparison, PooledEstimate, compare_groups

#: Rule that makes one estimate of several: estimates, variances and ``complete_df`` in.
Pooling = Callable[..., PooledEstimate]


@dataclass(frozen=True)
class Contrast:
    """Two groups of cells, by position among the cells that were read."""

    name_1: str
    name_2: str
    rows: NDArray[np.intp]
    first: NDArray[np.bool_]

    def compare(self, counts: sparse.csr_matrix, **settings: Any) -> GroupComparison:
        """Test every gene; settings are those of :func:`~sccountsdiff.stats.compare_groups`."""
        return compare_groups(counts[self.rows], self.first, **settings)


def find_contrasts(
    data: AnnData, groupby: str, group1: str | None, group2: str | None
) -> tuple[NDArray[np.intp], list[Contrast]]:
    """Cells to read, and the pairs of groups among them."""
    labels, known = check_groups(data, groupby, (group1, group2))
    if group1 is not None and str(group1) == str(group2):
        raise ValueError(f"group1 and group2 are both {group1!r}; leave out group2 to compare with all other cells.")
    firsts = known if group1 is None else [str(group1)]
    firsts = [name for name in firsts if name != group2]
    wanted = {*firsts, str(group2)} if group2 is not None else set(known)
    cells = np.flatnonzero([label in wanted for label in labels])
    kept = labels[cells]
    contrasts = []
    for name in firsts:
        rows = np.arange(len(cells)) if group2 is None else np.flatnonzero((kept == name) | (kept == str(group2)))
        contrasts.append(Contrast(name, "rest" if group2 is None else str(group2), rows, kept[rows] == name))
        _check_sizes(groupby, contrasts[-1])
    return cells, contrasts


def check_groups(data: AnnData, groupby: str, groups: Iterable[Any]) -> tuple[NDArray[Any], list[str]]:
    """Label of each cell (None where missing), and the labels that there are.

    Raises
    ------
    KeyError
        If there is no such column, or no such group in it; groups that are None were not asked for.
    """
    if groupby not in data.obs:
        raise KeyError(f"adata.obs has no column {groupby!r}. It holds: {listed(data.obs.columns)}.")
    labels = data.obs[groupby].astype("string").to_numpy(dtype=object, na_value=None)
    known = sorted({label for label in labels if label is not None})
    for group in groups:
        if group is not None and str(group) not in known:
            raise KeyError(f"adata.obs[{groupby!r}] holds no {group!r}. It holds: {listed(known)}.")
    return labels, known


def _check_sizes(groupby: str, contrast: Contrast) -> None:
    """A spread between cells takes two of them."""
    sizes = {contrast.name_1: contrast.first.sum(), contrast.name_2: (~contrast.first).sum()}
    for name, size in sizes.items():
        if size < 2:
            raise ValueError(
                f"Group {name!r} of adata.obs[{groupby!r}] has {size} cell(s); a test needs at least 2. Name the groups "
                "to compare with group1= and group2=, or set the label of such cells to NaN."
            )


def rows_of(matrix: sparse.csr_matrix | None, rows: NDArray[np.intp]) -> sparse.csr_matrix | None:
    """Rows of a matrix that may not be there."""
    return None if matrix is None else matrix[rows]


def pool_contrasts(
    contrasts: list[Contrast], measured: list[GroupComparison], draws: Iterator[sparse.csr_matrix], pool: Pooling
) -> list[PooledEstimate]:
    """Each contrast on each drawn data set, thinned to the depths of the measured one, pooled."""
    results = [
        [contrast.compare(counts, depth=table.depth) for contrast, table in zip(contrasts, measured, strict=True)]
        for counts in draws
    ]
    return [
        pool([r.difference for r in of], [r.variance for r in of], complete_df=np.mean([r.df for r in of], 0))
        for of in zip(*results, strict=True)
    ]


def tabulate(contrast: Contrast, measured: GroupComparison, pooled: PooledEstimate, genes: pd.Index) -> pd.DataFrame:
    """One row for each gene, the smallest p-values first."""
    p_value = pooled.p_value()
    tested = ~np.isnan(p_value)
    adjusted = np.full(len(genes), np.nan)
    adjusted[tested] = false_discovery_control(p_value[tested])
    table = pd.DataFrame(
        {
            "group1": contrast.name_1,
            "group2": contrast.name_2,
            "detection1": measured.detection_1,
            "detection2": measured.detection_2,
            "difference": pooled.estimate,
            "standard_error": pooled.standard_error,
            "log2_fold_change": measured.log2_fold_change,
            "p_value": p_value,
            "p_adjusted": adjusted,
            "missing_information": pooled.missing_information,
        },
        index=genes,
    )
    return table.sort_values("p_value", kind="stable")
