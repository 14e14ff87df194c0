"""What does each choice bring? One choice changed at a time, everything else at its default.

80/20 cells over the 2,000 most dispersed genes. ``nats``: held-out bound, the same for every variant whatever it was
trained on; ``masked_rmse``: error of held-out cells' counts, half of all entries (zeros included) hidden and imputed
in one pass; ``mmd2``: 20 steps from zeros against held-out cells, as in ``generation.py``; ``train_seconds``: wall
time, which means little unless the machine was left alone.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
from _countsdiff import bound, fit
from _data import cell_split
from _record import Record, arguments, run

from sccountsdiff import metrics
from sccountsdiff.conditioning import LIBRARY_SIZE
from sccountsdiff.nets import DENOISERS, GeneMLP

DATASETS = ("pbmc68k", "pbmc3k")
VARIANTS: dict[str, dict[str, object]] = {
    "default": {},
    "head: conjugate": {"head": "conjugate"},
    "head: poisson": {"head": "poisson"},
    "head: softplus (paper)": {"head": "softplus"},
    "weighting: paper": {"weighting": "paper"},
    "pattern: uniform only": {"pattern": "uniform"},
    "pattern and weighting: paper": {"pattern": "paper", "weighting": "paper"},
    "pattern: entrywise only": {"pattern": "entrywise"},
    "input: log counts (paper)": {"input": "log"},
    "input: mean survival per cell": {"denoiser": "mlp_mean_survival"},
    "input: library size hidden": {"denoiser": "mlp_no_library_size"},
    "width: 64": {"n_hidden": 64},
    "width: 256": {"n_hidden": 256},
    "blocks: 1": {"n_layers": 1},
    "blocks: 4": {"n_layers": 4},
}
SCORES = {"nats": 1, "masked_rmse": 4, "mmd2": 5, "train_seconds": 0}
N_STEPS = 20


@DENOISERS.register("mlp_mean_survival")
class MeanSurvivalMLP(GeneMLP):
    """The default network, told only the mean survival of a cell; the head still knows that of each entry."""

    def embed(self, x_t, alpha, condition):
        """Features from counts and the mean survival."""
        return super().embed(x_t, alpha.mean(-1, keepdim=True), condition)


@DENOISERS.register("mlp_no_library_size")
class NoLibrarySizeMLP(GeneMLP):
    """The default network, never told the library size."""

    def embed(self, x_t, alpha, condition):
        """Features without the library size."""
        return super().embed(x_t, alpha, {key: value for key, value in condition.items() if key != LIBRARY_SIZE})

    def forward(self, x_t, alpha, condition):
        """Posterior without the library size."""
        return super().forward(x_t, alpha, {key: value for key, value in condition.items() if key != LIBRARY_SIZE})


def masked_rmse(model, test: ad.AnnData, seed: int) -> float:
    """Return the error of half of the entries of held-out cells, imputed from the other half."""
    mask = np.random.default_rng(seed).random(test.shape) < 0.5
    cells = ad.AnnData(test.X.astype(np.float32))
    imputed = model.impute(cells, mask=mask, replace="masked", layer_added=None)
    return metrics.rmse(imputed.to_numpy(), test.X, mask)


def generated_mmd2(model, train: ad.AnnData, test: ad.AnnData, seed: int) -> float:
    """Return the discrepancy between generated and held-out cells."""
    pca = metrics.LogPCA(30).fit(train.X)
    bandwidth = metrics.median_squared_distance(pca.transform(train.X))
    cells = model.generate(n_steps=N_STEPS, seed=seed).X
    return metrics.mmd2(pca.transform(test.X), pca.transform(cells), bandwidth)


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, VARIANTS, DATASETS).parse_args()
    record = Record(options.results / "ablation.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        train, test = cell_split(data, seed)
        model, seconds = fit(train.X, seed, options.max_epochs, **VARIANTS[method])
        return {
            "nats": bound(model, test.X)[0],
            "masked_rmse": masked_rmse(model, test, seed),
            "mmd2": generated_mmd2(model, train, test, seed),
            "train_seconds": seconds,
        }

    if not options.table:
        run(record, options, job)
    for score, digits in SCORES.items():
        print(f"\n{score}\n\n{record.table(score, digits)}")


if __name__ == "__main__":
    main()
