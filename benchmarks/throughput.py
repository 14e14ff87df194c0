"""How many cells a second, and what is the time spent on?

pbmc3k, 2,000 genes, its cells repeated to 8,192, both methods on one machine in one run. Seeds are repetitions: methods
take turns, so that other work on the machine meets all of them.

- ``scvi_128``, ``countsdiff_128``, ``scvi_1024``, ``countsdiff_1024``: training cells over the median time of an epoch,
  with the data loader of scvi-tools for both, and ``get_normalized_expression`` in minibatches of that size, with as
  many threads as ``OMP_NUM_THREADS`` says (one without it);
  ``compiled`` trains with ``plan_kwargs={"compile": True}`` and, of CountsDiff, asks for expression after
  ``model.compile()`` (what happens only once does not count);
  ``all_cores`` has as many threads as the machine has cores, as PyTorch has by default (a CPU only);
- ``generate_4``, ``generate_20``: ``generate`` in 4 steps from thinned training cells, and in 20 from zeros, on all cores;
  ``compiled`` after ``model.compile()``, the first call left out;
- ``profile_*``: share of each operation in the time of all, as torch's profiler counts it, on the wall: of use on an idle
  machine alone;
- ``roofline_*``: for a training step and for a walk back, the matrix products and the memory traffic of all operations a
  second, over what a large product and a large copy reach on the same device. Traffic counts every operand of every
  operation, in cache or not, so that its share may exceed 1 on a CPU.

Speeds are given on the wall and of processor time (``cpu``), to be compared where other work runs beside.

``--device cuda`` asks the same of a GPU, with 16,384 cells, and fills ``throughput_cuda.csv``. There ``compiled`` also captures
CUDA graphs (``mode="reduce-overhead"``), ``sparse`` makes counts dense on the GPU (``load_sparse_tensor=True``), cells are
generated in minibatches of the default size, and profiles are of the kernels of the GPU, as shares of all time: ``waiting`` is
the part in which it had nothing to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import torch
from _data import cell_split
from _record import Record, arguments, markdown, run
from _roofline import roofline
from _training import QUIET, EpochClock, Time, median, prepare
from torch.profiler import ProfilerActivity, profile

ALL_CORES = os.cpu_count() or 1
SIZES, SPEEDS = (128, 1024), ("train", "expression", "generate")
GENERATED = {"generate_4": {"start": "empirical", "n_steps": 4}, "generate_20": {"n_steps": 20}}
N_EPOCHS, REPEATS, SMALLEST_SHARE = 4, 5, 0.02


@dataclass(frozen=True)
class Machine:
    """What a device is asked to do.

    Parameters
    ----------
    device
        Its name in torch.
    n_cells
        Cells to train with.
    batch_size
        Cells to generate at a time; None is the default.
    roof
        Cells of the minibatch of which the roofline is drawn.
    ways
        Number of threads (None: as ``OMP_NUM_THREADS`` says) and options of training, by what follows the name of a model.
    compiler
        Options of :func:`torch.compile`.
    """

    device: str
    n_cells: int
    batch_size: int | None
    roof: int
    ways: dict[str, tuple[int | None, dict[str, Any]]]
    compiler: dict[str, Any]

    @property
    def trained(self) -> dict[str, tuple[str, str, int]]:
        """Model, way and minibatch of each training, by the name of the method."""
        return {
            f"{name}{way}_{size}": (name, way, size)
            for size in SIZES
            for way in self.ways
            for name in ("scvi", "countsdiff")
        }

    @property
    def methods(self) -> list[str]:
        """Names of all that it is asked."""
        compiled = [f"{name}_compiled" for name in GENERATED]
        profiles = [f"profile_{name}" for name in ("train", "expression", *GENERATED)]
        return [*self.trained, *GENERATED, *compiled, *profiles, f"roofline_{self.device}"]

    def train(self, model, batch_size: int, max_epochs: int | None = None, **options: Any) -> None:
        """Train on all cells, without validation."""
        where = {"accelerator": "gpu" if self.device == "cuda" else "cpu"}
        given = {"batch_size": batch_size, "train_size": 1.0, "early_stopping": False} | QUIET | where | options
        model.train(max_epochs=max_epochs or N_EPOCHS, **given)

    def fresh(self, name: str, seed: int):
        """Return an untrained model that reads its cells by the loader of scvi-tools."""
        import scvi

        from sccountsdiff import CountsDiff

        class WithTheirLoader(CountsDiff):
            _data_splitter_cls = scvi.dataloaders.DataSplitter

        prepare(seed)
        model_class = {"scvi": scvi.model.SCVI, "countsdiff": WithTheirLoader}[name]
        adata = cells(seed, self.n_cells)
        model_class.setup_anndata(adata)
        options = {"gene_likelihood": "nb", "use_observed_lib_size": True} if name == "scvi" else {}
        return model_class(adata, **options)


GRAPHS = {"mode": "reduce-overhead"}
MACHINES = {
    "cpu": Machine(
        "cpu",
        8192,
        512,
        1024,
        {"": (None, {}), "_compiled": (None, {"plan_kwargs": {"compile": True}}), "_all_cores": (ALL_CORES, {})},
        {},
    ),
    "cuda": Machine(
        "cuda",
        16_384,
        None,
        4096,
        {
            "": (None, {}),
            "_compiled": (None, {"plan_kwargs": {"compile": True, "compile_kwargs": GRAPHS}}),
            "_sparse": (None, {"load_sparse_tensor": True}),
        },
        GRAPHS,
    ),
}


def cells(seed: int, n_cells: int) -> ad.AnnData:
    """Return training cells of pbmc3k, repeated."""
    train, _ = cell_split("pbmc3k", seed)
    return ad.AnnData(train.X[np.arange(n_cells) % train.n_obs].astype(np.float32))


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


def trained(machine: Machine, method: str, seed: int, max_epochs: int | None) -> dict[str, float]:
    """Return speeds of training and of expression."""
    name, way, batch_size = machine.trained[method]
    n_threads, options = machine.ways[way]
    model, clock = machine.fresh(name, seed), EpochClock()
    torch.set_num_threads(n_threads or torch.get_num_threads())
    machine.train(model, batch_size, max_epochs, callbacks=[clock], **options)
    if way == "_compiled" and name == "countsdiff":
        model.compile(**machine.compiler)
    expression = timed(lambda: model.get_normalized_expression(return_numpy=True, batch_size=batch_size))
    n_cells = machine.n_cells
    return speeds("train", n_cells, clock.median()) | speeds("expression", n_cells, expression)


def generated(machine: Machine, method: str, seed: int) -> dict[str, float]:
    """Return the speed of generation on all cores."""
    model = machine.fresh("countsdiff", seed)
    machine.train(model, SIZES[-1])
    torch.set_num_threads(ALL_CORES)
    if method.endswith("_compiled"):
        model.compile(**machine.compiler)
    n_cells = machine.n_cells // 4 if machine.batch_size else 8 * model.module.minibatch_size(None, model.adata.n_vars)
    options = GENERATED[method.removesuffix("_compiled")]
    made = timed(lambda: model.generate(n_cells=n_cells, batch_size=machine.batch_size, seed=seed, **options))
    return speeds("generate", n_cells, made)


def profiled(machine: Machine, method: str, seed: int) -> dict[str, float]:
    """Return the share of each operation of a CPU, or of each kernel of a GPU."""
    model = machine.fresh("countsdiff", seed)
    machine.train(model, 128, 1)
    work = {
        "train": lambda: machine.train(model, 128, 1),
        "expression": lambda: model.get_normalized_expression(return_numpy=True),
    } | {
        name: lambda o=o: model.generate(n_cells=machine.batch_size or 8192, batch_size=machine.batch_size, **o)
        for name, o in GENERATED.items()
    }
    return profile_of(work[method.removeprefix("profile_")], machine.device)


def profile_of(work: Callable[[], object], device: str) -> dict[str, float]:
    """Return the share of each operation of a CPU in the time of all, or of each kernel of a GPU in that on the wall."""
    work()
    with profile(activities=[getattr(ProfilerActivity, device.upper())]) as found:
        start = Time.now()
        work()
        wall = 1e6 * start.since().wall  # without what the profiler does at its end
    if device == "cuda":
        times = {event.key: event.self_device_time_total for event in found.key_averages()}
        times, total = {**times, "waiting": wall - sum(times.values())}, wall
    else:
        times = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in found.key_averages()}
        total = sum(times.values())
    large = {name: time / total for name, time in times.items() if time >= SMALLEST_SHARE * total}
    return dict(sorted(large.items(), key=lambda item: -item[1])) | {"others": 1 - sum(large.values())}


def at_the_roof(machine: Machine, seed: int) -> dict[str, float]:
    """Return fractions of what the device can do."""
    model = machine.fresh("countsdiff", seed)
    machine.train(model, 128, 1)
    return roofline(model, machine.device, machine.roof)


def shares(record: Record) -> str:
    """Return Markdown tables of the profiles: operations and their shares."""
    tables = []
    for method in dict.fromkeys(row["method"] for row in record.rows() if row["method"].startswith("profile_")):
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
    methods = list(dict.fromkeys(name for machine in MACHINES.values() for name in machine.methods))
    parser = arguments(__doc__, methods, ("pbmc3k",))
    parser.set_defaults(methods=None)
    parser.add_argument("--device", choices=list(MACHINES), default="cpu")
    options = parser.parse_args()
    machine = MACHINES[options.device]
    options.methods = options.methods or machine.methods
    record = Record(options.results / f"throughput{'' if machine.device == 'cpu' else '_cuda'}.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        if method in machine.trained:
            return trained(machine, method, seed, options.max_epochs)
        kinds = {"generate": generated, "profile": profiled}
        kind, _, _ = method.partition("_")
        return kinds[kind](machine, method, seed) if kind in kinds else at_the_roof(machine, seed)

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
