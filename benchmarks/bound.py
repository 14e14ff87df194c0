r"""How well does the model explain cells it has never seen? Held-out bound in nats per cell, beside scVI.

For 80/20 splits of cells over 2,000 variable genes (chosen on training cells), prints for each held-out cell's
mean: ``CountsDiff.get_elbo`` (an upper bound on ``-log p(x | library size)``, Monte-Carlo estimate) and scVI's
importance-weighted ``-log p(x | library size)`` with 200 samples (Burda et al. 2016), the tighter of the two kinds.
Of scVI's two settings (see ``_scvi.py``) the better one counts.

Both are conditional on the observed library size, but not in the same way. scVI's negative binomials may miss the
total; CountsDiff knows the exact total :math:`L` of the cell, and that knowledge alone is worth about
:math:`\frac12 \log(2 \pi L)` nats, the height of a Poisson mass at its mean. ``total_nats`` is the mean of that number
over the held-out cells, printed beside the gain: subtract it to see what is left.
"""

from __future__ import annotations

import numpy as np
from _data import FURTHER, cell_split
from _record import Record, arguments, run

DATASETS = ("pbmc68k", "pbmc3k", "pancreas_endocrinogenesis", *FURTHER)
SCVI = {"scvi_early": "early", "scvi_fixed": "fixed"}
OURS: dict[str, dict[str, object]] = {"countsdiff": {}, "countsdiff_conjugate": {"head": "conjugate"}}
METHODS = (*SCVI, *OURS)
N_SAMPLES = 200


def total_nats(counts) -> float:
    """Return the mean of ``log(2 pi L) / 2`` over cells: what knowing the exact total is worth."""
    return float(np.mean(np.log(2 * np.pi * counts.sum(axis=1).A1) / 2))


def scvi_scores(method: str, train, test, seed: int, max_epochs: int | None) -> dict[str, float]:
    """Return scVI's importance-weighted negative log-likelihood of held-out and of training cells."""
    from _scvi import fit, negative_log_likelihood

    model, seconds = fit(train.X, SCVI[method], seed, max_epochs)
    nats = negative_log_likelihood(model, test.X, N_SAMPLES)
    return {"nats": nats.mean(), "total_nats": total_nats(test.X), "train_seconds": seconds, "n_test": test.n_obs}


def countsdiff_scores(method: str, train, test, seed: int, max_epochs: int | None) -> dict[str, float]:
    """Return CountsDiff's bound on held-out cells; default settings but for the head."""
    from _countsdiff import bound, fit

    model, seconds = fit(train.X, seed, max_epochs, **OURS[method])
    nats, error = bound(model, test.X, N_SAMPLES)
    return {
        "nats": nats,
        "error": error,
        "total_nats": total_nats(test.X),
        "train_seconds": seconds,
        "n_test": test.n_obs,
    }


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, DATASETS).parse_args()
    record = Record(options.results / "bound.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        train, test = cell_split(data, seed)
        if method in SCVI:
            return scvi_scores(method, train, test, seed, options.max_epochs)
        return countsdiff_scores(method, train, test, seed, options.max_epochs)

    if not options.table:
        run(record, options, job)
    for score, digits in (("nats", 1), ("total_nats", 2)):
        print(f"\n{score}\n\n{record.table(score, digits)}")
    print(f"\ngain in nats; subtract total_nats above\n\n{record.against_best('nats', 'countsdiff', 1)}")


if __name__ == "__main__":
    main()
