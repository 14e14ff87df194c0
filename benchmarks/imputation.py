"""Who fills in hidden entries best, and who knows how sure to be?

The model is trained on 80 % of the cells. Of the held-out cells entries are hidden: 10, 50 and 90 % completely at
random, and 25 % where small counts are hidden more often (MNAR-low: nobody is told). Scored are the hidden entries,
zeros included: RMSE, Poisson deviance, CRPS, and for methods that predict a distribution the coverage of its central
intervals and the PIT (both randomised for discreteness) and its Kolmogorov-Smirnov distance from uniform. One fit per
data set and seed serves all masks; scores are named ``<mask>_<score>``.

Peers see everything that is allowed: the training cells whole, and the held-out cells with hidden entries filled by
gene frequency times the size of what is visible (zeros, as they would have it, are far worse). A number that a method
leaves open (rank, neighbours, diffusion time) is tuned on the training cells. ``conditional_mean`` is told the cell
type. Methods that predict a mean alone are scored as Poisson laws of that mean; scVI by its mixture of negative
binomials over 100 posterior draws, ours by its law (CRPS of both from draws, unbiased, 100 of ours); RePaint (the paper's imputation with the same network) by the number of draws in its
name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import anndata as ad
import numpy as np
import scipy.sparse as sp
from _data import cell_split
from _peers import alra_rescaled, choose, knn_smoothing, magic, pca
from _record import Record, arguments, run

from sccountsdiff import metrics
from sccountsdiff.data import mcar_mask, mnar_mask

DATASETS = ("pbmc68k", "pbmc3k", "pancreas_endocrinogenesis", "scmix_5cl_celseq2", "onek1k_sub", "kang_ifnb")
MASKS: dict[str, Callable[[sp.csr_matrix, int], np.ndarray]] = {
    "mcar10": lambda counts, seed: mcar_mask(counts.shape, 0.1, seed=seed),
    "mcar50": lambda counts, seed: mcar_mask(counts.shape, 0.5, seed=seed),
    "mcar90": lambda counts, seed: mcar_mask(counts.shape, 0.9, seed=seed),
    "mnar25": lambda counts, seed: mnar_mask(counts, 0.25, seed=seed),
}
LEVELS = (0.5, 0.8, 0.9, 0.95)
SCORES = ("rmse", "poisson_deviance", "crps", "pit_ks", "coverage90")
CANDIDATES = {
    "pca": [partial(pca, rank=rank) for rank in (2, 5, 10, 20, 40)],
    "magic": [partial(magic, transform=space, t=t) for space in ("sqrt", "log") for t in (1, 3)],
    "knn_smoothing": [partial(knn_smoothing, k=k) for k in (8, 16, 32, 64)],
    "alra": [alra_rescaled],
}


@dataclass(frozen=True)
class Question:
    """Held-out cells with hidden entries, and the training cells."""

    train: ad.AnnData
    test: ad.AnnData
    hidden: np.ndarray
    data: str
    seed: int
    max_epochs: int | None

    @property
    def truth(self) -> np.ndarray:
        return self.test.X.toarray()[self.hidden]

    def size(self) -> np.ndarray:
        """Library size of the held-out cells from what is visible and the gene frequencies of training cells."""
        share = np.asarray(self.train.X.sum(axis=0), dtype=np.float64).ravel()
        share /= share.sum()
        visible = np.where(self.hidden, 0, self.test.X.toarray()).sum(axis=1)
        # Peers divide by the size: a cell that shows nothing counts as one that shows half a molecule.
        return np.maximum(visible, 0.5) / np.maximum((~self.hidden) @ share, 1e-12)

    def filled(self) -> sp.csr_matrix:
        """Training cells, then held-out cells whose hidden entries hold gene frequency times size."""
        return sp.csr_matrix(
            sp.vstack([self.train.X, np.where(self.hidden, by_frequency(self), self.test.X.toarray())])
        )


@dataclass(frozen=True)
class Forecast:
    """What a method says of the hidden entries."""

    mean: np.ndarray
    crps: float
    #: Randomised PIT values; None if a mean is all there is.
    pit: np.ndarray | None = None


def by_frequency(on: Question) -> np.ndarray:
    """Gene frequency in training cells times the size of the cell."""
    frequency = np.asarray(on.train.X.sum(axis=0), dtype=np.float64).ravel() / on.train.X.sum()
    return on.size()[:, None] * frequency


def of_mean(expected: np.ndarray, on: Question) -> Forecast:
    """A mean, scored as a Poisson law."""
    mean = expected[on.hidden]
    return Forecast(mean, metrics.crps(on.truth, mean))


def gene_mean(on: Question) -> Forecast:
    """No difference between cells but their size."""
    return of_mean(by_frequency(on), on)


def conditional_mean(on: Question) -> Forecast:
    """Gene frequency in training cells of the same type times size."""
    expected = by_frequency(on)
    for label in on.test.obs["label"].unique():
        alike = on.train.X[(on.train.obs["label"] == label).to_numpy()]
        if alike.shape[0]:
            cells = (on.test.obs["label"] == label).to_numpy()
            expected[cells] = on.size()[cells, None] * (np.asarray(alike.sum(axis=0)).ravel() / alike.sum())
    return of_mean(expected, on)


@lru_cache(maxsize=len(CANDIDATES))
def chosen(name: str, data: str, seed: int) -> Callable:
    """Return the candidate of a peer that does best on the training cells."""
    candidates = CANDIDATES[name]
    return candidates[0] if len(candidates) == 1 else choose(candidates, cell_split(data, seed)[0].X, seed)


def smoothed(name: str, on: Question) -> Forecast:
    """A peer that works on a matrix of counts."""
    expected = chosen(name, on.data, on.seed)(on.filled(), on.seed)
    return of_mean(expected[on.train.n_obs :], on)


@lru_cache(maxsize=1)
def scvi_model(data: str, seed: int, max_epochs: int | None):
    """Return scVI trained on the training cells."""
    from _scvi import fit

    return fit(cell_split(data, seed)[0].X, "early", seed, max_epochs)[0]


def by_scvi(on: Question, n_samples: int = 100) -> Forecast:
    """ScVI decodes the filled cells; its law is the mixture of negative binomials over draws of the latent state."""
    from _scvi import predictive

    model = scvi_model(on.data, on.seed, on.max_epochs)
    means, size = predictive(model, on.filled()[on.train.n_obs :], n_samples, on.seed)
    means, size = means[:, on.hidden], np.broadcast_to(size, on.hidden.shape)[on.hidden]
    below, at = (np.mean([metrics.negative_binomial_cdf(on.truth - k, m, size) for m in means], axis=0) for k in (1, 0))
    rng = np.random.default_rng(on.seed)
    draws = rng.poisson(rng.gamma(size, means / size))
    crps = float(metrics.crps_draws(on.truth, draws).mean())
    return Forecast(means.mean(axis=0), crps, metrics.randomized_pit(below, at, on.seed))


@lru_cache(maxsize=1)
def our_model(data: str, seed: int, max_epochs: int | None):
    """Return CountsDiff trained on the training cells."""
    from _countsdiff import fit

    return fit(cell_split(data, seed)[0].X, seed, max_epochs)[0]


def by_countsdiff(on: Question) -> Forecast:
    """One pass, laws in closed form."""
    from _countsdiff import predictive

    law = predictive(our_model(on.data, on.seed, on.max_epochs), on.test.X, on.hidden, on.seed)
    crps = float(metrics.crps_draws(on.truth, law.draws).mean())
    return Forecast(law.mean, crps, metrics.randomized_pit(law.below, law.at, on.seed))


def by_repaint(n_samples: int, on: Question) -> Forecast:
    """The paper's imputation, the same network."""
    model = our_model(on.data, on.seed, on.max_epochs)
    cells = ad.AnnData(on.test.X.astype(np.float32))
    options = {"method": "repaint", "n_samples": n_samples, "seed": on.seed, "layer_added": None}
    draws = np.stack([draw.toarray()[on.hidden] for draw in model.impute(cells, mask=on.hidden, **options)])
    return Forecast(draws.mean(axis=0), float(metrics.crps_draws(on.truth, draws).mean()))


METHODS: dict[str, Callable[[Question], Forecast]] = {
    "gene_mean": gene_mean,
    "conditional_mean": conditional_mean,
    **{name: partial(smoothed, name) for name in CANDIDATES},
    "scvi": by_scvi,
    "repaint_5": partial(by_repaint, 5),
    "countsdiff": by_countsdiff,
}


def scores(found: Forecast, truth: np.ndarray) -> dict[str, float]:
    """Return the scores of one forecast."""
    result = {
        "rmse": metrics.rmse(found.mean, truth),
        "poisson_deviance": metrics.poisson_deviance(found.mean, truth),
        "crps": found.crps,
    }
    if found.pit is not None:
        result["pit_ks"] = metrics.pit_ks(found.pit)
        result |= {f"coverage{100 * level:.0f}": metrics.interval_coverage(found.pit, level) for level in LEVELS}
    return result


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, DATASETS).parse_args()
    record = Record(options.results / "imputation.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        train, test = cell_split(data, seed)
        start, found = time.perf_counter(), {}
        for name, mask in MASKS.items():
            on = Question(train, test, mask(test.X, seed), data, seed, options.max_epochs)
            found |= {f"{name}_{score}": value for score, value in scores(METHODS[method](on), on.truth).items()}
        return found | {"method_seconds": time.perf_counter() - start}

    if not options.table:
        run(record, options, job)
    for mask in MASKS:
        for score in SCORES:
            print(f"\n{mask} {score}\n\n{record.table(f'{mask}_{score}')}")
        for score in SCORES[:3]:
            print(f"\n{mask} {score} beside the best peer\n\n{record.against_best(f'{mask}_{score}', 'countsdiff')}")


if __name__ == "__main__":
    main()
