"""How many cells a second, and what is the time spent on?

pbmc3k, 2,000 genes, its cells repeated to 8,192, both methods on one machine in one run. Seeds are repetitions: methods
take turns, so that other work on the machine meets all of them.

- ``scvi_128``, ``countsdiff_128``, ``scvi_1024``, ``countsdiff_1024``: training cells over the median time of an epoch,
  with the data loader of scvi-tools for both, and ``get_normalized_expression`` in minibatches of that size, with as
  many threads as ``OMP_NUM_THREADS`` says (one without it);
  ``compiled`` trains with ``plan_kwargs={"compile": True}`` (the first epoch, in which that happens, does not count);
  ``all_cores`` has as many threads as the machine has cores, as PyTorch has by default;
- ``generate_4``, ``generate_20``: ``generate`` in 4 steps from thinned training cells, and in 20 from zeros, on all cores;
  ``compiled`` after ``model.compile()``, the first call left out;
- ``profile_*``: share of each operation in the time of all, as torch's profiler counts it, on the wall: of use on an idle
  machine alone;
- ``roofline_*``: for a training step and for a walk back, the matrix products and the memory traffic of all operations a
  second, over what a large product and a large copy reach on the same device. Traffic counts every operand of every
  operation, in cache or not, so that its share may exceed 1 on a CPU. ``roofline_cuda`` is left out without a GPU.

Speeds are given on the wall and of processor time (``cpu``), to be compared where other work runs beside.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import anndata as ad
import numpy as np
import torch
from _data import cell_split
from _record import Record, arguments, markdown, run
from _roofline import roofline
from _training import QUIET, EpochClock, Time, median, prepare
from torch.profiler import ProfilerActivity, profile

ALL_CORES = os.cpu_count() or 1
#: Number of threads (None: as ``OMP_NUM_THREADS`` says) and options of training, by what follows the name of a model.
WAYS: dict[str, tuple[int | None, dict[str, object]]] = {
    "": (None, {}),
    "_compiled": (None, {"plan_kwargs": {"compile": True}}),
    "_all_cores": (ALL_CORES, {}),
}
TRAINED = {
    f"{name}{way}_{size}": (name, way, size) for size in (128, 1024) for way in WAYS for name in ("scvi", "countsdiff")
}
GENERATED = {"generate_4": {"start": "empirical", "n_steps": 4}, "generate_20": {"n_steps": 20}}
COMPILED = {f"{name}_compiled": options for name, options in GENERATED.items()}
PROFILED = ("profile_train", "profile_expression", *(f"profile_{name}" for name in GENERATED))
ROOFLINES = ("roofline_cpu", *(["roofline_cuda"] if torch.cuda.is_available() else []))
METHODS = (*TRAINED, *GENERATED, *COMPILED, *PROFILED, *ROOFLINES)
SPEEDS = ("train", "expression", "generate")
N_CELLS, N_EPOCHS, REPEATS, SMALLEST_SHARE = 8192, 4, 5, 0.02


def cells(seed: int) -> ad.AnnData:
    """Return training cells of pbmc3k, repeated."""
    train, _ = cell_split("pbmc3k", seed)
    return ad.AnnData(train.X[np.arange(N_CELLS) % train.n_obs].astype(np.float32))


def fresh(name: str, seed: int):
    """Return an untrained model that reads its cells by the loader of scvi-tools."""
    import scvi

    from sccountsdiff import CountsDiff

    class WithTheirLoader(CountsDiff):
        _data_splitter_cls = scvi.dataloaders.DataSplitter

    prepare(seed)
    adata, model_class = cells(seed), {"scvi": scvi.model.SCVI, "countsdiff": WithTheirLoader}[name]
    model_class.setup_anndata(adata)
    options = {"gene_likelihood": "nb", "use_observed_lib_size": True} if name == "scvi" else {}
    return model_class(adata, **options)


def train(model, batch_size: int, max_epochs: int | None = None, **options: object) -> None:
    """Train on all cells, without validation."""
    options = {"batch_size": batch_size, "train_size": 1.0, "early_stopping": False} | QUIET | options
    model.train(max_epochs=max_epochs or N_EPOCHS, **options)


def timed(work: Callable[[], object]) -> Time:
    """Return the median time of some work, after one call to warm up."""
    times = []
    for _ in range(REPEATS + 1):
        start = Time.now()
        work()
        times.append(start.since())
    return median(times)


def speeds(name: str, n_cells: int, time: Time) -> dict[str, float]:
    """Return cells a second under the name of what was done."""
    return {f"{name}_cells_per_second": n_cells / time.wall, f"{name}_cells_per_cpu_second": n_cells / time.cpu}


def trained(method: str, seed: int, max_epochs: int | None) -> dict[str, float]:
    """Return speeds of training and of expression."""
    name, way, batch_size = TRAINED[method]
    n_threads, options = WAYS[way]
    model, clock = fresh(name, seed), EpochClock()
    torch.set_num_threads(n_threads or torch.get_num_threads())
    train(model, batch_size, max_epochs, callbacks=[clock], **options)
    expression = timed(lambda: model.get_normalized_expression(return_numpy=True, batch_size=batch_size))
    return speeds("train", N_CELLS, clock.median()) | speeds("expression", N_CELLS, expression)


def generated(method: str, seed: int) -> dict[str, float]:
    """Return the speed of generation on all cores."""
    model = fresh("countsdiff", seed)
    train(model, 128)
    torch.set_num_threads(ALL_CORES)
    if method in COMPILED:
        model.compile()
    options = {"n_cells": N_CELLS // 4, "batch_size": 512, "seed": seed, **(GENERATED | COMPILED)[method]}
    return speeds("generate", N_CELLS // 4, timed(lambda: model.generate(**options)))


def profiled(method: str, seed: int) -> dict[str, float]:
    """Return the share of each operation."""
    model = fresh("countsdiff", seed)
    train(model, 128, 1)
    what = method.removeprefix("profile_")
    work = {
        "train": lambda: train(model, 128, 1),
        "expression": lambda: model.get_normalized_expression(return_numpy=True),
    } | {
        name: lambda o=options: model.generate(n_cells=512, batch_size=512, **o) for name, options in GENERATED.items()
    }
    with profile(activities=[ProfilerActivity.CPU]) as found:
        work[what]()
    times = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in found.key_averages()}
    total = sum(times.values())
    large = {name: time / total for name, time in times.items() if time >= SMALLEST_SHARE * total}
    return dict(sorted(large.items(), key=lambda item: -item[1])) | {"others": 1 - sum(large.values())}


def at_the_roof(method: str, seed: int) -> dict[str, float]:
    """Return fractions of what the device can do."""
    model = fresh("countsdiff", seed)
    train(model, 128, 1)
    return roofline(model, method.removeprefix("roofline_"), batch_size=1024)


def shares(record: Record) -> str:
    """Return Markdown tables of the profiles: operations and their shares."""
    tables = []
    for method in PROFILED:
        found: dict[str, list[float]] = {}
        for row in record.rows():
            if row["method"] == method:
                found.setdefault(row["score"], []).append(float(row["value"]))
        lines = [[name, f"{100 * np.mean(values):.1f} %"] for name, values in found.items()]
        if lines:
            tables.append(f"{method}\n\n{markdown(['operation', 'share'], lines)}")
    return "\n\n".join(tables)


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, ("pbmc3k",)).parse_args()
    record = Record(options.results / "throughput.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        if method in TRAINED:
            return trained(method, seed, options.max_epochs)
        kinds = {"generate": generated, "profile": profiled, "roofline": at_the_roof}
        return kinds[method.split("_")[0]](method, seed)

    if not options.table:
        run(record, options, job)
    for name in SPEEDS:
        for unit in ("second", "cpu_second"):
            print(f"\n{name}_cells_per_{unit}\n\n{record.table(f'{name}_cells_per_{unit}', 0)}")
    print(f"\n{shares(record)}")
    for score in ("train_product", "train_memory", "walk_product", "walk_memory"):
        print(f"\n{score}\n\n{record.table(score, 2)}")


if __name__ == "__main__":
    main()
