"""Genes that differ between groups of cells, tested on what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.stats import false_discovery_control

from sccountsdiff.model._expression import warn_of_model_counts
from sccountsdiff.model._impute import ImputeMixin
from sccountsdiff.model._question import Question, parse_mask
from sccountsdiff.model._random import seeded
from sccountsdiff.model._text import listed
from sccountsdiff.stats import GroupComparison, PooledEstimate, compare_groups, pool_imputations

#: Runs an analysis on completed counts; returns its estimate and the sampling variance of that.
Analysis = Callable[[AnnData], tuple[ArrayLike, ArrayLike]]


@dataclass(frozen=True)
class _Contrast:
    """Two groups of cells, by position among the cells that were read."""

    name_1: str
    name_2: str
    rows: NDArray[np.intp]
    first: NDArray[np.bool_]

    def compare(self, counts: sparse.csr_matrix, **settings: Any) -> GroupComparison:
        return compare_groups(counts[self.rows], self.first, **settings)


class MarkersMixin(ImputeMixin):
    """Tests on measured counts, and analyses pooled over imputations."""

    def test_markers(
        self,
        groupby: str,
        group1: str | None = None,
        group2: str | None = None,
        adata: AnnData | None = None,
        *,
        mask: str | Any | None = None,
        n_imputations: int | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
        silent: bool = True,
    ) -> pd.DataFrame:
        """Test which genes differ between groups of cells: the test to believe.

        Raw counts are compared (:func:`~sccountsdiff.stats.compare_groups`), each gene in the cells in which it was
        measured: imputation adds no information to what was measured, and tests of imputed means call most genes that
        do not differ. The groups must not come from the same counts: clusters differ by construction.

        Parameters
        ----------
        groupby
            Column of ``adata.obs`` with the groups.
        group1
            Group to test; ``None`` tests each.
        group2
            Group to compare with; ``None`` is all other cells.
        adata
            Data with the genes of the training data; ``None`` is the training data.
        mask
            Entries to leave out beside those not measured according to the setup: name of a boolean layer, or a
            boolean array or sparse matrix ``(n_cells, n_genes)``; True = hidden.
        n_imputations
            Complete what is hidden by this many joint draws and pool the tests by Rubin's rules, in place of testing
            measured entries only. That finds more, but draws do not carry the uncertainty of the trained network: with
            half of the entries hidden between 1 and 7 % of null genes were called at 5 %. Without a hidden entry there is
            nothing to draw.
        batch_size
            Cells in a minibatch; ``None`` is :attr:`scvi.settings.batch_size`.
        seed
            Seed of the draws; ``None`` follows :attr:`scvi.settings.seed`.
        silent
            Whether to hide the progress bar.

        Returns
        -------
        One row for each gene and pair of groups, the smallest p-values first: ``group1``, ``group2``, ``detection1``
        and ``detection2`` (how often the gene is seen once cells are thinned to one depth), ``difference``,
        ``standard_error``, ``log2_fold_change`` (molecules per molecule), ``p_value``, ``p_adjusted`` (Benjamini and
        Hochberg, over the genes that can be tested) and ``missing_information`` (part of the information that hidden
        entries cost, 0 without imputations). NaN where a gene cannot be tested.

        Raises
        ------
        KeyError
            If there is no such column or group.
        ValueError
            If a group has fewer than two cells, or the mask is not boolean or has the wrong shape.
        """
        with self._using(adata) as data:
            warn_of_model_counts(data, self._counts_layer)
            cells, contrasts = _contrasts(data, groupby, group1, group2)
            counts, hidden = self._visible(data, cells, mask, batch_size)
            tables = [contrast.compare(counts, hidden=_rows(hidden, contrast.rows)) for contrast in contrasts]
            if n_imputations is None or hidden is None:
                pooled = [PooledEstimate(t.difference, t.variance, t.df, np.zeros(len(t.df))) for t in tables]
            else:
                draws = self._completed(data, cells, mask, n_imputations, batch_size, seed, silent)
                pooled = _pool_contrasts(contrasts, tables, draws)
        parts = zip(contrasts, tables, pooled, strict=True)
        return pd.concat([_table(*part, genes=data.var_names) for part in parts])

    def pool_imputations(
        self,
        analysis: Analysis,
        adata: AnnData | None = None,
        *,
        mask: str | Any | None = None,
        n_imputations: int = 20,
        complete_df: ArrayLike = np.inf,
        batch_size: int | None = None,
        seed: int | None = None,
        silent: bool = True,
    ) -> PooledEstimate:
        """Run an analysis on several completed data sets and pool the answers by Rubin's rules.

        Measured counts stay as they are; only hidden entries are drawn, those of a cell together.

        Parameters
        ----------
        analysis
            Function of an AnnData with completed integer counts in ``.X`` (sparse) and the ``obs`` and ``var`` of
            ``adata``. It returns an estimate, a number or an array, and its sampling variance (squared standard error).
        adata
            Data with the genes of the training data; ``None`` is the training data.
        mask
            Entries to hide beside those not measured according to the setup: name of a boolean layer, or a boolean
            array or sparse matrix ``(n_cells, n_genes)``; True = hidden.
        n_imputations
            Number of completed data sets, at least 2; 20 leave little noise unless most is missing.
        complete_df
            Degrees of freedom that the analysis would have without a missing entry.
        batch_size
            Cells in a minibatch; ``None`` is :attr:`scvi.settings.batch_size`.
        seed
            Seed of the draws; ``None`` follows :attr:`scvi.settings.seed`.
        silent
            Whether to hide the progress bar.

        Returns
        -------
        Pooled estimate with its total variance, degrees of freedom and part of missing information.

        Raises
        ------
        ValueError
            If nothing is hidden, or ``n_imputations`` is below 2.

        See Also
        --------
        sccountsdiff.stats.pool_imputations : The formulas.
        """
        with self._using(adata) as data:
            cells = np.arange(data.n_obs)
            if self._visible(data, cells, mask, batch_size)[1] is None:
                raise ValueError(
                    "Nothing is hidden, so there is nothing to impute. Pass a mask, or analyse the counts."
                )
            draws = self._completed(data, cells, mask, n_imputations, batch_size, seed, silent)
            answers = [analysis(AnnData(counts, obs=data.obs, var=data.var)) for counts in draws]
        estimates, variances = zip(*answers, strict=True)
        return pool_imputations(np.stack(estimates), np.stack(variances), complete_df=complete_df)

    @torch.inference_mode()
    def _visible(
        self, data: AnnData, cells: NDArray[np.intp], mask: Any, batch_size: int | None
    ) -> tuple[sparse.csr_matrix, sparse.csr_matrix | None]:
        """Counts of some cells, and where they are hidden (None if nowhere)."""
        question = Question("masked", parse_mask(data, mask))
        counts, hidden, start = [], [], 0
        for batch in self._minibatches(data, cells, batch_size):
            batch = question.mask(batch, cells[start : start + len(batch.counts)])
            start += len(batch.counts)
            absent = np.zeros(batch.counts.shape, bool) if batch.observed is None else ~batch.observed.cpu().numpy()
            counts.append(sparse.csr_matrix(batch.counts.cpu().numpy()))
            hidden.append(sparse.csr_matrix(absent))
        whole = sparse.vstack(hidden, format="csr")
        return sparse.vstack(counts, format="csr"), whole if whole.nnz else None

    def _completed(
        self,
        data: AnnData,
        cells: NDArray[np.intp],
        mask: Any,
        n_imputations: int,
        batch_size: int | None,
        seed: int | None,
        silent: bool,
    ) -> Iterator[sparse.csr_matrix]:
        """Counts of some cells, hidden entries drawn, one data set after the other."""
        if n_imputations < 2:
            raise ValueError(
                f"n_imputations must be at least 2 to show how much the draws differ, got {n_imputations}."
            )
        first = seeded(seed)
        for k in range(n_imputations):
            yield self.impute(
                data,
                cells,
                mask=mask,
                replace="masked",
                return_mean=False,
                batch_size=batch_size,
                seed=first + k,
                layer_added=None,
                silent=silent,
            )


def _contrasts(
    data: AnnData, groupby: str, group1: str | None, group2: str | None
) -> tuple[NDArray[np.intp], list[_Contrast]]:
    """Cells to read, and the pairs of groups among them."""
    if groupby not in data.obs:
        raise KeyError(f"adata.obs has no column {groupby!r}. It holds: {listed(data.obs.columns)}.")
    labels = data.obs[groupby].astype("string").to_numpy(dtype=object, na_value=None)
    known = sorted({label for label in labels if label is not None})
    for group in (group1, group2):
        if group is not None and str(group) not in known:
            raise KeyError(f"adata.obs[{groupby!r}] holds no {group!r}. It holds: {listed(known)}.")
    firsts = known if group1 is None else [str(group1)]
    firsts = [name for name in firsts if name != group2]
    wanted = {*firsts, str(group2)} if group2 is not None else set(known)
    cells = np.flatnonzero([label in wanted for label in labels])
    kept = labels[cells]
    contrasts = []
    for name in firsts:
        rows = np.arange(len(cells)) if group2 is None else np.flatnonzero((kept == name) | (kept == str(group2)))
        contrasts.append(_Contrast(name, "rest" if group2 is None else str(group2), rows, kept[rows] == name))
        _check_sizes(groupby, contrasts[-1])
    return cells, contrasts


def _check_sizes(groupby: str, contrast: _Contrast) -> None:
    """A spread between cells takes two of them."""
    sizes = {contrast.name_1: contrast.first.sum(), contrast.name_2: (~contrast.first).sum()}
    for name, size in sizes.items():
        if size < 2:
            raise ValueError(
                f"Group {name!r} of adata.obs[{groupby!r}] has {size} cell(s); a test needs at least 2. Name the groups "
                "to compare with group1= and group2=, or set the label of such cells to NaN."
            )


def _rows(matrix: sparse.csr_matrix | None, rows: NDArray[np.intp]) -> sparse.csr_matrix | None:
    return None if matrix is None else matrix[rows]


def _pool_contrasts(
    contrasts: list[_Contrast], measured: list[GroupComparison], draws: Iterator[sparse.csr_matrix]
) -> list[PooledEstimate]:
    """Each contrast on each completed data set, thinned to the depths of the measured one, pooled."""
    results = [
        [contrast.compare(counts, depth=table.depth) for contrast, table in zip(contrasts, measured, strict=True)]
        for counts in draws
    ]
    return [
        pool_imputations(
            [r.difference for r in of], [r.variance for r in of], complete_df=np.mean([r.df for r in of], 0)
        )
        for of in zip(*results, strict=True)
    ]


def _table(contrast: _Contrast, measured: GroupComparison, pooled: PooledEstimate, genes: pd.Index) -> pd.DataFrame:
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
