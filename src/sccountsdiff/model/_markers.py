"""Genes that differ between groups of cells, tested on what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from sccountsdiff.model._contrasts import Pooling, find_contrasts, pool_contrasts, rows_of, tabulate
from sccountsdiff.model._expression import warn_of_model_counts
from sccountsdiff.model._impute import ImputeMixin
from sccountsdiff.model._question import Question, parse_mask
from sccountsdiff.model._random import seeded
from sccountsdiff.stats import PooledEstimate, pool_imputations, pool_synthetic

#: What draws replace: entries that were missing, or all.
Replaced = Literal["masked", "all"]

#: Runs an analysis on completed counts; returns its estimate and the sampling variance of that.
Analysis = Callable[[AnnData], tuple[ArrayLike, ArrayLike]]

_RULES: dict[Replaced, Pooling] = {"masked": pool_imputations, "all": pool_synthetic}


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
        replace: Replaced = "masked",
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
            measured entries only. That finds more, but draws do not carry the uncertainty of the trained network, so
            that the level is not guaranteed. Without a hidden entry there is nothing to draw.
        replace
            What the imputations draw: ``"masked"``, the hidden entries; or ``"all"``, every entry anew given the whole
            cell, pooled by Reiter's rule. The latter is what tests of posterior draws come to if they are done right: it
            holds its level by a wide margin and finds what the counts show, no more.
        batch_size
            Cells in a minibatch; ``None`` is :attr:`scvi.settings.batch_size`, on a GPU what takes 1 GB of its memory.
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
            If a group has fewer than two cells, the mask is not boolean or has the wrong shape, or all entries are to
            be replaced while some are hidden.
        """
        with self._using(adata) as data:
            warn_of_model_counts(data, self._counts_layer)
            cells, contrasts = find_contrasts(data, groupby, group1, group2)
            counts, hidden = self._visible(data, cells, mask, batch_size)
            rule = _rule(replace, hidden is not None)
            tables = [contrast.compare(counts, hidden=rows_of(hidden, contrast.rows)) for contrast in contrasts]
            if n_imputations is None or (hidden is None and replace == "masked"):
                pooled = [PooledEstimate(t.difference, t.variance, t.df, np.zeros(len(t.df))) for t in tables]
            else:
                draws = self._completed(data, cells, mask, replace, n_imputations, batch_size, seed, silent)
                pooled = pool_contrasts(contrasts, tables, draws, rule)
        parts = zip(contrasts, tables, pooled, strict=True)
        return pd.concat([tabulate(*part, genes=data.var_names) for part in parts])

    def pool_imputations(
        self,
        analysis: Analysis,
        adata: AnnData | None = None,
        *,
        mask: str | Any | None = None,
        n_imputations: int = 20,
        replace: Replaced = "masked",
        complete_df: ArrayLike = np.inf,
        batch_size: int | None = None,
        seed: int | None = None,
        silent: bool = True,
    ) -> PooledEstimate:
        """Run an analysis on several completed data sets and pool the answers.

        Measured counts stay as they are; only hidden entries are drawn, those of a cell together, and Rubin's rules
        pool. With ``replace="all"`` every entry is a fresh measurement, and Reiter's rule pools.

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
        replace
            What is drawn: ``"masked"``, the hidden entries, or ``"all"``, every entry given the whole cell.
        complete_df
            Degrees of freedom that the analysis would have without a missing entry.
        batch_size
            Cells in a minibatch; ``None`` is :attr:`scvi.settings.batch_size`, on a GPU what takes 1 GB of its memory.
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
            If nothing is hidden (with ``replace="masked"``) or something is (with ``replace="all"``), or
            ``n_imputations`` is below 2.

        See Also
        --------
        sccountsdiff.stats.pool_imputations : Rubin's formulas.
        sccountsdiff.stats.pool_synthetic : Reiter's formulas.
        """
        with self._using(adata) as data:
            cells = np.arange(data.n_obs)
            some_hidden = self._visible(data, cells, mask, batch_size)[1] is not None
            rule = _rule(replace, some_hidden)
            if replace == "masked" and not some_hidden:
                raise ValueError(
                    "Nothing is hidden, so there is nothing to impute. Pass a mask, or analyse the counts."
                )
            draws = self._completed(data, cells, mask, replace, n_imputations, batch_size, seed, silent)
            answers = [analysis(AnnData(counts, obs=data.obs, var=data.var)) for counts in draws]
        estimates, variances = zip(*answers, strict=True)
        return rule(np.stack(estimates), np.stack(variances), complete_df=complete_df)

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
        replace: Replaced,
        n_imputations: int,
        batch_size: int | None,
        seed: int | None,
        silent: bool,
    ) -> Iterator[sparse.csr_matrix]:
        """Counts of some cells, hidden entries (or all) drawn, one data set after the other."""
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
                replace=replace,
                return_mean=False,
                batch_size=batch_size,
                seed=first + k,
                layer_added=None,
                silent=silent,
            )


def _rule(replace: Replaced, some_hidden: bool) -> Pooling:
    """How draws are pooled that replace what was missing (Rubin), or measurements themselves (Reiter)."""
    if replace not in _RULES:
        raise ValueError(f"replace must be one of {list(_RULES)}, got {replace!r}.")
    if replace == "all" and some_hidden:
        raise ValueError(
            "replace='all' draws measured entries anew, and some entries are hidden: missing and replaced values need "
            "different pooling. Use replace='masked', or analyse cells without hidden entries."
        )
    return _RULES[replace]
