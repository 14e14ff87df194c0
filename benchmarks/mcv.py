"""Who recovers expression best from what was seen? Molecular cross-validation beside the peers.

90 % of the molecules of each cell are shown, the other 10 % predicted (Batson et al. 2019), over the 2,000 most
dispersed genes of the shown molecules so that every method ends in time. All scores are proper for the mean:
Poisson deviance, squared error of counts, and squared error of log1p(CP10k) against the posterior mean of that
transform; ``total_ratio`` shows who inflates. Predictions are expected counts at the shown depth times the ratio of
hidden to shown molecules of the whole set, the same for every method; ``method_seconds`` is fit and prediction.
"""

from __future__ import annotations

import time

import numpy as np
import scipy.sparse as sp
from _data import DATASETS, FURTHER, molecule_split
from _peers import PEERS
from _record import Record, arguments, run

from sccountsdiff import metrics

SCORES = ("poisson_deviance", "mse_counts", "mse_log1p_cp10k", "total_ratio")
OURS: dict[str, dict[str, object]] = {"countsdiff": {}, "countsdiff_conjugate": {"head": "conjugate"}}
METHODS = (*PEERS, *OURS)


def countsdiff(counts: sp.csr_matrix, seed: int, max_epochs: int | None = None, **settings: object) -> np.ndarray:
    """Return expected counts of CountsDiff at the depth of the input; default settings but for those given."""
    from _countsdiff import expected_counts, fit

    return expected_counts(fit(counts, seed, max_epochs, **settings)[0])


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, (*DATASETS, *FURTHER)).parse_args()
    record = Record(options.results / "mcv.csv")
    trained = {} if options.max_epochs is None else {"max_epochs": options.max_epochs}

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        seen, hidden = molecule_split(data, seed)
        start = time.perf_counter()
        if method in OURS:
            expected = countsdiff(seen, seed, **trained, **OURS[method])
        elif method.startswith("scvi"):
            expected = PEERS[method](seen, seed, **trained)
        else:
            expected = PEERS[method](seen, seed)
        seconds = time.perf_counter() - start
        expected = expected * (hidden.sum() / seen.sum())
        scores = {name: metrics.METRICS[name].function(expected, hidden) for name in SCORES}
        return scores | {"method_seconds": seconds}

    if not options.table:
        run(record, options, job)
    for score in SCORES:
        print(f"\n{score}\n\n{record.table(score)}")
    for score in SCORES[:3]:
        print(f"\n{score} beside the best peer\n\n{record.against_best(score, 'countsdiff')}")


if __name__ == "__main__":
    main()
