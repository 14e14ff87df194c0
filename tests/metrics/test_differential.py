"""Differential genes of predictions, and all definitions against cell-eval where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from scipy import stats

from sccountsdiff import metrics


@pytest.fixture(scope="module")
def study():
    """Counts by condition, measured and predicted: 40 genes, of which ten respond to each perturbation."""
    rng = np.random.default_rng(0)
    rate = rng.gamma(2, 2, 40)
    factor = {"control": np.ones(40)}
    factor |= {f"gene{k}": np.exp(rng.normal(0, 1, 40) * (np.arange(40) % 4 == k)) for k in range(3)}
    draw = {name: lambda f=f: rng.poisson(rate * f, (60, 40)) for name, f in factor.items()}
    real = {name: cells() for name, cells in draw.items()}
    predicted = {name: rng.poisson(rate * np.sqrt(f), (50, 40)) for name, f in factor.items()}
    return real, predicted | {"control": real["control"]}


def genes(changes, fdr):
    return metrics.DifferentialGenes(np.array(changes, dtype=float), np.array(fdr, dtype=float))


REAL = genes([3, -2, 1, 0.5], [0.01, 0.01, 0.01, 0.5])
FOUND = genes([2, 2, 0.1, -3], [0.01, 0.01, 0.9, 0.01])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("de_overlap", 2 / 3), ("de_precision", 2 / 3), ("de_recall", 2 / 3), ("de_direction_match", 2 / 3)],
)
def test_scores_of_a_small_example(name, expected):
    assert metrics.METRICS[name].function(REAL, FOUND) == pytest.approx(expected)
    assert metrics.METRICS[name].function(REAL, REAL) == 1.0


def test_the_number_of_genes_can_be_bounded():
    assert metrics.de_overlap(REAL, FOUND, n_genes=1) == 0.0
    assert metrics.de_precision(REAL, FOUND, n_genes=99) == pytest.approx(2 / 3)


def test_fold_changes_are_correlated_over_measured_genes():
    assert metrics.de_lfc_spearman(REAL, FOUND) == pytest.approx(stats.spearmanr([3, -2, 1], [2, 2, 0.1]).statistic)
    assert np.isnan(metrics.de_lfc_spearman(genes([1, 2], [0.01, 0.5]), genes([1, 2], [0.5, 0.5])))


def test_nothing_significant_is_no_number_or_zero():
    nothing = genes([1, 2], [0.5, 0.5])
    assert metrics.de_overlap(nothing, nothing) == metrics.de_precision(nothing, nothing) == 0.0
    assert np.isnan(metrics.de_recall(nothing, nothing))
    assert np.isnan(metrics.de_direction_match(nothing, nothing))


def test_differential_genes_are_those_of_a_rank_sum_test(study):
    real, _ = study
    cells, control = real["gene1"].copy(), real["control"].copy()
    cells[:, 0] = control[:, 0] = 0
    found = metrics.differential_genes(cells, control)
    one, other = (metrics.log1p_cp10k(counts)[:, 5] for counts in (cells, control))
    assert found.log2_fold_change[5] == pytest.approx(np.log2(np.expm1(one.mean()) / np.expm1(other.mean())))
    assert found.fdr[5] >= stats.mannwhitneyu(one, other, method="asymptotic").pvalue
    assert found.log2_fold_change[0] == 0
    assert found.fdr[0] == 1


def test_the_gene_of_a_perturbation_can_be_left_out(study):
    names = [f"gene{k}" for k in range(40)]
    real = {name: np.eye(40)[k] for k, name in enumerate(names[:3])}
    leaning = {name: 5 * np.eye(40)[k] + 0.9 * np.eye(40)[(k + 1) % 3] for k, name in enumerate(names[:3])}
    assert metrics.discrimination_score(real, leaning) == 1.0
    assert metrics.discrimination_score(real, leaning, names) < 1.0


def test_definitions_agree_with_cell_eval(study, tmp_path):
    cell_eval = pytest.importorskip("cell_eval", reason="the scores of cell-eval to compare with")
    sides = [_adata(cells) for cells in study]
    evaluator = cell_eval.MetricsEvaluator(
        sides[1], sides[0], control_pert="control", pert_col="target", num_threads=1, outdir=str(tmp_path)
    )
    theirs = evaluator.compute(profile="full", skip_metrics=["clustering_agreement"], write_csv=False)[0].to_pandas()
    theirs = theirs.set_index("perturbation")
    real, predicted = study
    control = real["control"]
    for name in ("gene0", "gene1", "gene2"):
        cells, guess = real[name], predicted[name]
        tables = [metrics.differential_genes(part, control) for part in (cells, guess)]
        ours = {
            "pearson_delta": metrics.pearson_delta(cells, control, guess),
            "mse_delta": metrics.mse_delta(cells, control, guess),
            "overlap_at_N": metrics.de_overlap(*tables),
            "overlap_at_50": metrics.de_overlap(*tables, 50),
            "precision_at_N": metrics.de_precision(*tables),
            "de_sig_genes_recall": metrics.de_recall(*tables),
            "de_direction_match": metrics.de_direction_match(*tables),
            "de_spearman_lfc_sig": metrics.de_lfc_spearman(*tables),
        }
        for metric, value in ours.items():
            assert value == pytest.approx(theirs.loc[name, metric], abs=1e-5), (name, metric)
    responses = [
        {name: metrics.response(cells, control) for name, cells in side.items() if name != "control"} for side in study
    ]
    discrimination = metrics.discrimination_score(*responses, [f"gene{k}" for k in range(40)])
    assert discrimination == pytest.approx(theirs["discrimination_score_l1"].mean())


def _adata(cells):
    """Cells on the scale of our scores, which cell-eval takes as it is."""
    adata = AnnData(np.concatenate([metrics.log1p_cp10k(counts) for counts in cells.values()]))
    adata.obs["target"] = np.repeat(list(cells), [len(counts) for counts in cells.values()])
    adata.var_names = [f"gene{k}" for k in range(40)]
    return adata
