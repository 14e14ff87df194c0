r"""DCM beside CountsDiff: bound, generated cells, hidden entries and costs on the same splits.

Trained on 80 % of the cells (2,000 most dispersed genes of these) with default settings and without conditions:

- ``nats``: ``get_elbo`` of held-out cells. Both models bound the same quantity, ``-log p(x | library size)`` of the
  integer counts of a cell, so that the numbers can be compared; ``error`` is the Monte-Carlo error;
- ``hidden_rmse``, ``hidden_bias``: half of the entries of held-out cells hidden at random and predicted in one pass,
  scored on counts at the hidden entries; ``gene_mean_rmse`` predicts the mean of the gene in training cells instead;
- ``mmd2_over_floor_N``, ``gene_correlation_N``, ``library_sd_N``: as many cells as were trained on, from nothing in N
  steps, scored as in ``generation.py``;
- ``train_cpu``, and for 1,000 cells ``impute_cpu`` and ``generate_cpu_N``: seconds of processor time.

``dcm_paper`` drops the weight 1 / t from the loss, as the paper does. ``dcm_conjugate`` has the head of CountsDiff (a
negative binomial) in place of tokens, and ``dcm_long`` trains for twice as many steps.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import scipy.sparse as sp
from _data import cell_split
from _record import Record, arguments, run
from _training import QUIET, Time, prepare
from generation import Ruler

from sccountsdiff import DCM, CountsDiff, metrics
from sccountsdiff.model import default_max_epochs

DATASETS = ("pbmc68k", "pbmc3k", "kang_ifnb")
#: Method -> class, settings, and length of the training over that of the default.
METHODS = {
    "countsdiff": (CountsDiff, {}, 1),
    "dcm": (DCM, {}, 1),
    "dcm_long": (DCM, {}, 2),
    "dcm_conjugate": (DCM, {"head": "conjugate"}, 1),
    "dcm_paper": (DCM, {"weighting": "paper"}, 1),
}
STEPS = (20, 100)
SCORES = {
    "nats": 1,
    "error": 2,
    "hidden_rmse": 4,
    "gene_mean_rmse": 4,
    "hidden_bias": 4,
    **{f"{name}_{n}": digits for n in STEPS for name, digits in (("mmd2_over_floor", 2), ("gene_correlation", 3))},
    **{f"library_sd_{n}": 3 for n in STEPS},
    "train_cpu": 0,
    "impute_cpu": 2,
    **{f"generate_cpu_{n}": 1 for n in STEPS},
}

Counts = sp.csr_matrix


def fit(method: str, counts: Counts, seed: int, max_epochs: int | None):
    """Return a trained model and the processor seconds of its training."""
    prepare(seed)
    cls, settings, length = METHODS[method]
    adata = ad.AnnData(counts.astype(np.float32))
    cls.setup_anndata(adata)
    model = cls(adata, **settings)
    if length > 1 and max_epochs is None:
        max_epochs = length * default_max_epochs(adata.n_obs, 128, adata.n_vars)
    start = Time.now()
    model.train(max_epochs=max_epochs, **QUIET)
    return model, start.since().cpu


def hidden_scores(model, train: Counts, test: Counts, seed: int) -> dict[str, float]:
    """Return the scores of entries of held-out cells that were hidden at random."""
    mask = np.random.default_rng(seed).random(test.shape) < 0.5
    start = Time.now()
    imputed = model.impute(ad.AnnData(test.astype(np.float32)), mask=mask, layer_added=None).to_numpy()
    seconds = start.since().cpu
    mean = np.broadcast_to(train.mean(axis=0).A1, test.shape)
    return {
        "hidden_rmse": metrics.rmse(imputed, test, mask),
        "hidden_bias": metrics.bias(imputed, test, mask),
        "gene_mean_rmse": metrics.rmse(mean, test, mask),
        "impute_cpu": 1000 * seconds / test.shape[0],
    }


def generation_scores(model, ruler: Ruler, n_cells: int, n_steps: int, seed: int) -> dict[str, float]:
    """Return the scores of generated cells."""
    start = Time.now()
    cells = model.generate(n_steps=n_steps, seed=seed).X
    seconds = start.since().cpu
    scores = ruler.scores(cells)
    return {
        f"mmd2_over_floor_{n_steps}": scores["mmd2_over_floor"],
        f"gene_correlation_{n_steps}": scores["gene_correlation_agreement"],
        f"library_sd_{n_steps}": scores["library_size_sd_ratio"],
        f"generate_cpu_{n_steps}": 1000 * seconds / n_cells,
    }


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, DATASETS).parse_args()
    record = Record(options.results / "dcm.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        train, test = cell_split(data, seed)
        model, seconds = fit(method, train.X, seed, options.max_epochs)
        nats, error = model.get_elbo(ad.AnnData(test.X.astype(np.float32)), n_samples=200)
        scores = {"nats": nats, "error": error, "train_cpu": seconds}
        scores |= hidden_scores(model, train.X, test.X, seed)
        ruler = Ruler(train.X, test.X, seed)
        for n_steps in STEPS:
            scores |= generation_scores(model, ruler, train.n_obs, n_steps, seed)
        return scores

    if not options.table:
        run(record, options, job)
    for score, digits in SCORES.items():
        print(f"\n{score}\n\n{record.table(score, digits)}")


if __name__ == "__main__":
    main()
