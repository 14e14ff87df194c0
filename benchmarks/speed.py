"""How fast is it? Training, time to a given quality, and expression, beside scVI on the same machine in one run.

pbmc3k, 2,000 genes, 80/20 cells, both methods with their defaults and the same batch size (128). Per run:

- ``train_cells_per_second``: training cells over the median wall time of an epoch, the first one and validation left
  out (steady state, no compilation or set-up);
- ``train_seconds``: wall time of the whole call of ``train``, validation included;
- ``nats``: held-out bound after it (see ``bound.py``), timed apart;
- ``expression_cells_per_second``: ``get_normalized_expression`` with defaults over all cells as an array, median of 5.

The number behind a name is the number of epochs of that run; learning rates follow the shorter run, as they would for
a user. From these runs the script prints the time to scVI's final held-out quality: the best ``nats`` of scVI's two
default runs, and for each method the fewest seconds of a run at least as good within half a nat. Leave the machine
alone while it runs; rows of different days or machines must not be compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from _data import cell_split
from _record import Record, arguments, run
from _training import EpochClock

DATASETS = ("pbmc3k",)
SCVI = {"scvi_early": ("early", None), "scvi_fixed": ("fixed", None)} | {
    f"scvi_{epochs}": ("fixed", epochs) for epochs in (50, 100, 200)
}
OURS = {"countsdiff": None} | {f"countsdiff_{epochs}": epochs for epochs in (20, 40, 80, 120)}
METHODS = (*SCVI, *OURS)
SCORES = {"train_cells_per_second": 0, "expression_cells_per_second": 0, "train_seconds": 1, "nats": 1}
BATCH_SIZE = 128
TOLERANCE = 0.5


def rate(work: Callable[[], object], n_cells: int, repeats: int = 5) -> float:
    """Return cells per second of the median of some repeats, after one that does not count."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return n_cells / float(np.median(seconds[1:]))


def scvi_scores(method: str, train, test, seed: int, max_epochs: int | None) -> dict[str, float]:
    """Time one run of scVI."""
    from _scvi import fit, negative_log_likelihood

    clock = EpochClock()
    stopping, epochs = SCVI[method]
    options = {"batch_size": BATCH_SIZE, "callbacks": [clock]}
    model, seconds = fit(train.X, stopping, seed, max_epochs or epochs, options)
    nats = negative_log_likelihood(model, test.X).mean()
    return timed(model, clock, seconds) | {"nats": nats}


def countsdiff_scores(method: str, train, test, seed: int, max_epochs: int | None) -> dict[str, float]:
    """Time one run of CountsDiff."""
    from _countsdiff import bound, fit

    clock = EpochClock()
    options = {"batch_size": BATCH_SIZE, "callbacks": [clock]}
    model, seconds = fit(train.X, seed, max_epochs or OURS[method], options)
    return timed(model, clock, seconds) | {"nats": bound(model, test.X)[0]}


def timed(model, clock: EpochClock, seconds: float) -> dict[str, float]:
    """Return the speeds of a trained model."""
    return {
        "train_seconds": seconds,
        "epochs": len(clock.seconds),
        "train_cells_per_second": len(model.train_indices) / clock.median(),
        "expression_cells_per_second": rate(
            lambda: model.get_normalized_expression(return_numpy=True), model.adata.n_obs
        ),
    }


def time_to_quality(record: Record) -> str:
    """Return a Markdown table: seconds of the shortest run as good as scVI's better default run, per seed."""
    runs: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in record.rows():
        scores = runs.setdefault((row["data"], row["seed"]), {}).setdefault(row["method"], {})
        scores[row["score"]] = float(row["value"])
    lines = ["| data | seed | scVI's nats | scVI seconds | CountsDiff seconds |", "| --- | --- | --- | --- | --- |"]
    for (data, seed), methods in runs.items():
        defaults = [methods[name]["nats"] for name in ("scvi_early", "scvi_fixed") if name in methods]
        if not defaults:
            continue
        target = min(defaults) + TOLERANCE
        fastest = [
            min((m["train_seconds"] for k, m in methods.items() if k in names and m["nats"] <= target), default=np.nan)
            for names in (SCVI, OURS)
        ]
        lines.append(f"| {data} | {seed} | {min(defaults):.1f} | {fastest[0]:.0f} | {fastest[1]:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Fill the record and print the tables."""
    parser = arguments(__doc__, METHODS, DATASETS)
    parser.set_defaults(seeds=[0])
    options = parser.parse_args()
    record = Record(options.results / "speed.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        train, test = cell_split(data, seed)
        scores = scvi_scores if method in SCVI else countsdiff_scores
        return scores(method, train, test, seed, options.max_epochs)

    if not options.table:
        run(record, options, job)
    for score, digits in SCORES.items():
        print(f"\n{score}\n\n{record.table(score, digits)}")
    print(f"\ntime to scVI's held-out quality\n\n{time_to_quality(record)}")


if __name__ == "__main__":
    main()
