"""Scores of imputation, calibration, generation and false signal.

Plain functions on counts of shape ``(n_cells, n_genes)``; each says in its docstring in which space it works, after
which transform, and over what it averages. :func:`list_metrics` is the table of all of them with the better direction.
"""

from ._registry import METRICS, Metric, list_metrics, metric
from .biology import cluster_cells, clustering_ari, clustering_nmi, fold_change_slope, marker_auc
from .calibration import (
    coverage_error,
    interval_coverage,
    negative_binomial_cdf,
    pit_ks,
    randomized_pit,
    sample_cdf,
)
from .classifiers import label_transfer_accuracy, two_sample_auc
from .counts import (
    bias,
    expected_log1p_cp10k,
    log1p_cp10k,
    mae,
    mse_counts,
    mse_log1p_cp10k,
    poisson_deviance,
    rmse,
    total_ratio,
)
from .differential import (
    DifferentialGenes,
    de_direction_match,
    de_lfc_spearman,
    de_overlap,
    de_precision,
    de_recall,
    differential_genes,
)
from .entries import cell_pearson, cell_r2, cell_spearman, energy_distance
from .gene_laws import gene_total_variation, zero_fraction_error
from .novelty import copied_fraction, nearest_distance, nearest_neighbor_ratio, novelty_ks
from .nulls import (
    correlation_inflation,
    false_positive_rate,
    made_up_correlations,
    marker_power,
    null_correlation,
    null_correlations,
)
from .open_problems import open_problems_mse, open_problems_poisson
from .perturbation import (
    direction_match,
    discrimination_score,
    e_distance,
    mse_delta,
    pearson_delta,
    response,
    spearman_delta,
    top_response_overlap,
)
from .populations import (
    LogPCA,
    gene_correlation_agreement,
    library_size_mean_ratio,
    library_size_sd_ratio,
    median_squared_distance,
    mmd2,
    mmd2_floor,
    variance_error,
    zero_fraction_difference,
)
from .probabilistic import crps, crps_draws, crps_negative_binomial, half_mean_difference, log_score
from .quality import quality
from .support import support_coverage, support_density, support_precision, support_recall
from .wasserstein import gaussian_w2, genes_detected_distance, library_size_distance, ot_w2

__all__ = [
    "METRICS",
    "DifferentialGenes",
    "LogPCA",
    "Metric",
    "bias",
    "cell_pearson",
    "cell_r2",
    "cell_spearman",
    "cluster_cells",
    "clustering_ari",
    "clustering_nmi",
    "copied_fraction",
    "correlation_inflation",
    "coverage_error",
    "crps",
    "crps_draws",
    "crps_negative_binomial",
    "de_direction_match",
    "de_lfc_spearman",
    "de_overlap",
    "de_precision",
    "de_recall",
    "differential_genes",
    "direction_match",
    "discrimination_score",
    "e_distance",
    "energy_distance",
    "expected_log1p_cp10k",
    "false_positive_rate",
    "gaussian_w2",
    "fold_change_slope",
    "gene_correlation_agreement",
    "gene_total_variation",
    "genes_detected_distance",
    "half_mean_difference",
    "interval_coverage",
    "label_transfer_accuracy",
    "library_size_distance",
    "library_size_mean_ratio",
    "library_size_sd_ratio",
    "list_metrics",
    "log1p_cp10k",
    "log_score",
    "made_up_correlations",
    "mae",
    "marker_auc",
    "marker_power",
    "median_squared_distance",
    "metric",
    "mmd2",
    "mmd2_floor",
    "mse_counts",
    "mse_delta",
    "mse_log1p_cp10k",
    "nearest_distance",
    "nearest_neighbor_ratio",
    "negative_binomial_cdf",
    "novelty_ks",
    "null_correlation",
    "null_correlations",
    "open_problems_mse",
    "open_problems_poisson",
    "ot_w2",
    "pearson_delta",
    "pit_ks",
    "poisson_deviance",
    "quality",
    "randomized_pit",
    "response",
    "rmse",
    "sample_cdf",
    "spearman_delta",
    "support_coverage",
    "support_density",
    "support_precision",
    "support_recall",
    "top_response_overlap",
    "total_ratio",
    "two_sample_auc",
    "variance_error",
    "zero_fraction_difference",
    "zero_fraction_error",
]
