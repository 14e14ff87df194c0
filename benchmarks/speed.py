"""How fast is it? Training, time to a given quality, and expression, beside scVI on the same machine in one run.

pbmc3k, 2,000 genes, 80/20 cells, both methods with their defaults and the same batch size (128). Per run:

- ``train_cells_per_second``: training cells over the median time of an epoch, the first one and validation left
  out (steady state);
- ``expression_cells_per_second``: ``get_normalized_expression`` with defaults over all training cells, median of 5;
- ``train_seconds``: set-up and the whole call of ``train``, validation included;
- ``nats``: held-out bound after it (see ``bound.py``), not timed.

Each speed is given in seconds on the wall and in seconds of processor time (``cpu``). With one thread the two agree on
an idle machine; on a busy one only processor time can be compared.

The number behind a name is the number of epochs of that run; learning rates follow the shorter run, as they would for
a user. From these runs the script prints the time to scVI's final held-out quality: the best ``nats`` of scVI's two
default runs, and for each method the fewest seconds of a run at least as good within half a nat. Leave the machine
alone while it runs; rows of different days or machines must not be compared.
"""

from __future__ import annotations

from _data import cell_split
from _record import Record, arguments, markdown, run
from _training import EpochClock, Time, median

DATASETS = ("pbmc3k",)
SCVI = {"scvi_early": ("early", None), "scvi_fixed": ("fixed", None)} | {
    f"scvi_{epochs}": ("fixed", epochs) for epochs in (50, 100, 200)
}
OURS = {"countsdiff": None} | {f"countsdiff_{epochs}": epochs for epochs in (20, 40, 80, 120)}
METHODS = (*SCVI, *OURS)
SCORES = {
    "train_cells_per_second": 0,
    "train_cells_per_cpu_second": 0,
    "expression_cells_per_second": 0,
    "expression_cells_per_cpu_second": 0,
    "epochs": 0,
    "train_seconds": 1,
    "train_cpu_seconds": 1,
    "nats": 1,
}
BATCH_SIZE = 128
TOLERANCE = 0.5


def expression_time(model, repeats: int = 5) -> Time:
    """Return the median time of ``get_normalized_expression`` over all training cells, after one call to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = Time.now()
        model.get_normalized_expression(return_numpy=True)
        times.append(start.since())
    return median(times)


def scvi_scores(method: str, train, test, seed: int, max_epochs: int | None) -> dict[str, float]:
    """Time one run of scVI."""
    from _scvi import fit, negative_log_likelihood

    clock = EpochClock()
    stopping, epochs = SCVI[method]
    options = {"batch_size": BATCH_SIZE, "callbacks": [clock]}
    start = Time.now()
    model, _ = fit(train.X, stopping, seed, max_epochs or epochs, options)
    times = timed(model, clock, start.since())
    nats = negative_log_likelihood(model, test.X).mean()
    return times | {"nats": nats}


def countsdiff_scores(method: str, train, test, seed: int, max_epochs: int | None) -> dict[str, float]:
    """Time one run of CountsDiff."""
    from _countsdiff import bound, fit

    clock = EpochClock()
    options = {"batch_size": BATCH_SIZE, "callbacks": [clock]}
    start = Time.now()
    model, _ = fit(train.X, seed, max_epochs or OURS[method], options)
    return timed(model, clock, start.since()) | {"nats": bound(model, test.X)[0]}


def timed(model, clock: EpochClock, train: Time) -> dict[str, float]:
    """Return the speeds of a trained model."""
    epoch, expression, n_train = clock.median(), expression_time(model), len(model.train_indices)
    return {
        "epochs": len(clock.epochs),
        "train_cells_per_second": n_train / epoch.wall,
        "train_cells_per_cpu_second": n_train / epoch.cpu,
        "expression_cells_per_second": model.adata.n_obs / expression.wall,
        "expression_cells_per_cpu_second": model.adata.n_obs / expression.cpu,
        "train_seconds": train.wall,
        "train_cpu_seconds": train.cpu,
    }


def time_to_quality(record: Record) -> str:
    """Return a Markdown table: time of the shortest run as good as scVI's better default run, per seed."""
    runs: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in record.rows():
        scores = runs.setdefault((row["data"], row["seed"]), {}).setdefault(row["method"], {})
        scores[row["score"]] = float(row["value"])
    lines = []
    for (data, seed), methods in runs.items():
        defaults = [methods[name]["nats"] for name in ("scvi_early", "scvi_fixed") if name in methods]
        if not defaults:
            continue
        good = {name: scores for name, scores in methods.items() if scores["nats"] <= min(defaults) + TOLERANCE}
        shown = []
        for names in (SCVI, OURS):
            enough = [scores for name, scores in good.items() if name in names]
            fastest = min(enough, key=lambda scores: scores["train_cpu_seconds"], default=None)
            shown.append("-" if fastest is None else "{train_seconds:.0f} ({train_cpu_seconds:.0f})".format(**fastest))
        lines.append([data, seed, f"{min(defaults):.1f}", *shown])
    return markdown(["data", "seed", "scVI's nats", "scVI s (cpu s)", "CountsDiff s (cpu s)"], lines)


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
