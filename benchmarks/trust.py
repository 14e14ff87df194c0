"""What do tests and correlations of imputed values find where there is nothing?

Half of the genes are replaced by ``Poisson(depth * mean)`` (Andrews and Hemberg 2018): no two groups of cells differ in
them and no two of them are correlated. Every method works on all cells; two real cell types are then compared.

- ``fpr``: share of null genes with p < .05; a test that holds its level stays at .05.
- ``power``, ``power_bh``: share of true markers with p < .05, and at a false discovery rate of 5 %. True markers are
  real genes that a Wilcoxon test of raw counts finds (Bonferroni, 1 %) in one random half of both groups; everything is
  tested in the other half. That favours Wilcoxon.
- ``null_correlation``, ``made_up``: mean absolute correlation of log1p(CP10k) over pairs of null genes, and the share of
  pairs above .3.

Rows: raw counts under Wilcoxon and under ``stats.compare_groups``; Wilcoxon on the output of each imputation; counts
drawn anew for every entry, one draw or 20 pooled (Rubin's rule for missing values, Reiter's for replaced ones); and
``half_*``, where half of all entries are hidden: Wilcoxon on what is left, ``test_markers`` on measured entries, and
pooled over 20 imputations. ``*_de`` is ``differential_expression``, where "called" is ``is_de_fdr_0.05``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from _data import choose_genes, load
from _peers import PEERS
from _record import Record, arguments, run
from scipy.stats import false_discovery_control, mannwhitneyu

from sccountsdiff import metrics
from sccountsdiff.data import mcar_mask, plant_null_genes
from sccountsdiff.stats import compare_groups, pool_imputations, pool_synthetic

GROUPS = {
    "pbmc68k": ("CD14+ Monocyte", "CD19+ B"),
    "pbmc3k": ("CD14+ Mono", "B"),
    "pancreas_endocrinogenesis": ("Ductal", "Beta"),
    "kang_ifnb": ("CD14 Mono", "CD4 Naive T"),
}
SCORES = ("fpr", "power", "power_bh", "null_correlation", "made_up")
N_DRAWS = 20
DELTA = {"mode": "change", "delta": 0.25, "fdr_target": 0.05, "silent": True}


@dataclass(frozen=True)
class Study:
    """Counts with null genes, and the cells that are compared."""

    counts: sp.csr_matrix
    null: np.ndarray
    #: Cells of the first and second group in the half that is tested, and true markers from the other half.
    groups: tuple[np.ndarray, np.ndarray]
    markers: np.ndarray
    seed: int
    max_epochs: int | None = None

    @property
    def cells(self) -> np.ndarray:
        return np.concatenate(self.groups)

    @property
    def first(self) -> np.ndarray:
        return np.arange(len(self.cells)) < len(self.groups[0])

    def labels(self) -> np.ndarray:
        names = np.full(self.counts.shape[0], None, dtype=object)
        for name, rows in zip(("first", "second"), self.groups, strict=True):
            names[rows] = name
        return names


@dataclass(frozen=True)
class Finding:
    """P-values of all genes, and the values that were tested (None where there is no such matrix)."""

    p_value: np.ndarray
    values: np.ndarray | sp.spmatrix | None = None


def wilcoxon(values, first: np.ndarray) -> np.ndarray:
    """Return p-values of log1p(CP10k); NaN for constant genes."""
    logged = metrics.log1p_cp10k(values)
    p_value = mannwhitneyu(logged[first], logged[~first], axis=0).pvalue
    return np.where(np.ptp(logged, axis=0) > 1e-12, p_value, np.nan)


def study(data: str, seed: int, max_epochs: int | None = None) -> Study:
    """Plant null genes and split the two groups in a half that defines markers and a half that is tested."""
    adata = load(data)
    genes = choose_genes(adata.X)
    counts, null = plant_null_genes(adata.X[:, genes], seed=seed)
    rng = np.random.default_rng(seed)
    halves = [np.array_split(rng.permutation(np.flatnonzero(adata.obs["label"] == name)), 2) for name in GROUPS[data]]
    reference = np.concatenate([half[0] for half in halves])
    p_value = wilcoxon(counts[reference], np.arange(len(reference)) < len(halves[0][0]))
    markers = ~null & (np.nan_to_num(p_value, nan=1.0) * len(null) < 0.01)
    return Study(counts, null, tuple(np.sort(half[1]) for half in halves), markers, seed, max_epochs)


def tested(values, on: Study) -> Finding:
    """Wilcoxon on the values of an imputation."""
    return Finding(wilcoxon(values[on.cells], on.first), values)


def raw_rarefied(on: Study) -> Finding:
    """The test of counts at a common depth."""
    return Finding(compare_groups(on.counts[on.cells], on.first).p_value, on.counts)


def peer(name: str, on: Study) -> Finding:
    """A peer's expected counts."""
    return tested(PEERS[name](on.counts, on.seed), on)


@lru_cache(maxsize=1)
def scvi_model(data: str, seed: int, max_epochs: int | None):
    """Return scVI trained on the planted counts."""
    from _scvi import fit

    return fit(study(data, seed).counts, "early", seed, max_epochs)[0]


@lru_cache(maxsize=2)
def our_model(data: str, seed: int, max_epochs: int | None, hidden: float = 0.0):
    """Return CountsDiff trained on the planted counts, part of the entries hidden."""
    from _training import QUIET, prepare

    from sccountsdiff import CountsDiff

    prepare(seed)
    adata = ad.AnnData(study(data, seed).counts)
    adata.layers["measured"] = ~mcar_mask(adata.shape, hidden, seed=seed)
    CountsDiff.setup_anndata(adata, observed_layer="measured" if hidden else None)
    model = CountsDiff(adata)
    model.train(max_epochs=max_epochs, **QUIET)
    return model


def called(model, on: Study) -> Finding:
    """``differential_expression``: genes called at a false discovery rate of 5 % get p = 0, the others 1."""
    model.adata.obs["group"] = pd.Categorical(on.labels())
    table = model.differential_expression(groupby="group", group1="first", group2="second", **DELTA)
    return Finding(1.0 - table.loc[model.adata.var_names, "is_de_fdr_0.05"].to_numpy(dtype=float))


def fresh_counts(model, n_samples: int, seed: int) -> list[sp.csr_matrix]:
    """Return draws of every entry given all counts of the cell."""
    drawn = np.asarray(model.posterior_predictive_sample(n_samples=n_samples, seed=seed).todense())
    return [sp.csr_matrix(drawn[..., k]) for k in range(n_samples)]


def pooled_draws(model, rule: Callable, on: Study) -> Finding:
    """Compare the groups on draws of every entry and pool."""
    results = [compare_groups(draw[on.cells], on.first) for draw in fresh_counts(model, N_DRAWS, on.seed)]
    return Finding(rule([r.difference for r in results], [r.variance for r in results]).p_value())


def half_wilcoxon(model, on: Study) -> Finding:
    """Wilcoxon gene by gene on the cells in which it was measured, scaled by what is visible of them."""
    visible = np.where(model.adata.layers["measured"], on.counts.toarray(), np.nan)[on.cells]
    logged = np.log1p(1e4 * visible / np.nansum(visible, axis=1, keepdims=True))
    arms = logged[on.first], logged[~on.first]
    return Finding(np.asarray(mannwhitneyu(*arms, axis=0, nan_policy="omit").pvalue))


def half_markers(model, n_imputations: int | None, on: Study) -> Finding:
    """``test_markers`` with half of the entries hidden."""
    model.adata.obs["group"] = pd.Categorical(on.labels())
    table = model.test_markers("group", "first", "second", n_imputations=n_imputations, seed=on.seed)
    values = None
    if n_imputations:
        values = model.impute(return_mean=False, replace="masked", layer_added=None, seed=on.seed)
    return Finding(table.loc[model.adata.var_names, "p_value"].to_numpy(), values)


def methods(data: str, on: Study) -> dict[str, Callable[[], Finding]]:
    """All rows of the table, to be worked out when called."""
    ours = partial(our_model, data, on.seed, on.max_epochs)
    scvi = partial(scvi_model, data, on.seed, on.max_epochs)
    half = partial(ours, 0.5)

    def scvi_draw() -> Finding:
        from _scvi import posterior_cells

        return tested(posterior_cells(scvi(), on.seed), on)

    def scvi_mean() -> Finding:
        from _scvi import expected_counts

        return tested(expected_counts(scvi()), on)

    def our_mean() -> Finding:
        return tested(ours().get_normalized_expression(library_size="latent", return_numpy=True), on)

    cheap = ("magic_log", "magic_sqrt", "alra_published", "knn_smoothing", "pca_tuned")
    return {
        "raw_wilcoxon": lambda: tested(on.counts, on),
        "raw_rarefied": lambda: raw_rarefied(on),
        **{name: partial(peer, name, on) for name in cheap},
        "scvi_mean": scvi_mean,
        "scvi_draw": scvi_draw,
        "scvi_de": lambda: called(scvi(), on),
        "countsdiff_mean": our_mean,
        "countsdiff_draw": lambda: tested(fresh_counts(ours(), 2, on.seed)[0], on),
        "countsdiff_draws_rubin": lambda: pooled_draws(ours(), pool_imputations, on),
        "countsdiff_draws_reiter": lambda: pooled_draws(ours(), pool_synthetic, on),
        "countsdiff_de": lambda: called(ours(), on),
        "half_wilcoxon": lambda: half_wilcoxon(half(), on),
        "half_measured": lambda: half_markers(half(), None, on),
        "half_imputed": lambda: half_markers(half(), N_DRAWS, on),
    }


METHODS = tuple(methods("", Study(sp.csr_matrix((1, 1)), np.ones(1), (np.ones(1), np.ones(1)), np.ones(1), 0)))


def scores(found: Finding, on: Study) -> dict[str, float]:
    """Return the scores of one method."""
    p_value = np.nan_to_num(found.p_value, nan=1.0)
    adjusted = false_discovery_control(p_value)
    result = {
        "fpr": metrics.false_positive_rate(p_value, on.null),
        "fpr_bh": metrics.false_positive_rate(adjusted, on.null),
        "power": metrics.marker_power(p_value, on.markers),
        "power_bh": metrics.marker_power(adjusted, on.markers),
        "n_markers": int(on.markers.sum()),
    }
    if found.values is not None:
        result["null_correlation"] = metrics.null_correlation(found.values, on.null)
        result["made_up"] = metrics.made_up_correlations(found.values, on.null)
    return result


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, GROUPS).parse_args()
    record = Record(options.results / "trust.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        on = study(data, seed, options.max_epochs)
        return scores(methods(data, on)[method](), on)

    if not options.table:
        run(record, options, job)
    for score in SCORES:
        print(f"\n{score}\n\n{record.table(score)}")


if __name__ == "__main__":
    main()
