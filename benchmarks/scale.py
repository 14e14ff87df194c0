"""Does memory stay constant, and time per cell too, as the number of cells grows?

Cells are simulated block by block into a sparse zarr store: 2,000 genes, 20 cell types of negative-binomial counts at
about 2,500 UMIs a cell, in samples of 5,000 cells that follow each other, as on a disk. For each number of cells four
processes run one after the other, nothing held in memory but what the package holds:

- ``open``: the cells opened, counts left on the disk: what the libraries take, and AnnData for names and categories;
- ``setup_train``: ``setup_anndata`` (every count is checked) and one epoch of training from the store, with the minibatch,
  the blocks and the buffer that the docs recommend for large data;
- ``impute``: expected counts of all cells, written to a zarr store (``out=``);
- ``generate``: a tenth as many cells, from zeros in 20 steps, 10,000 at a time.

``--device cuda`` trains, imputes and generates on a GPU, as many cells as there are and those to a store as well (``out=``), and
fills ``scale_cuda.csv``; ``gpu_peak_mb`` is the largest memory that tensors took there.

Scores: ``peak_mb``, the largest resident memory of the process (``VmHWM``); ``cells_per_second`` on the wall;
``cells_per_cpu_second`` of processor time, to be compared where other work runs beside. Names and categories of the
cells are held in memory by AnnData, and grow with their number. The folder of ``--scratch`` needs about 20 KB a
cell while imputed counts are put together; the cells themselves are deleted with ``--delete``.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
import zarr
from _record import Record, arguments, run
from _training import QUIET, Time, prepare
from joblib import Parallel, delayed

SIZES = {"20k": 20_000, "50k": 50_000, "100k": 100_000, "1m": 1_000_000}
METHODS = ("open", "setup_train", "impute", "generate")
SCORES = {"peak_mb": 0, "cells_per_second": 0, "cells_per_cpu_second": 0, "gpu_peak_mb": 0}
N_GENES, N_TYPES, SAMPLE, DEPTH, BLOCK = 2000, 20, 5000, 2500, 5000
BATCH_SIZE, ORDER = 1024, {"block_size": 128, "buffer_size": 65_536}
#: Minibatch of imputation (None is the default), and what Lightning calls the device.
BATCH_SIZES = {"cpu": BATCH_SIZE, "cuda": None}
ACCELERATORS = {"cpu": "cpu", "cuda": "gpu"}


def block(profile: np.ndarray, types: np.ndarray, seed: np.random.SeedSequence) -> sp.csr_matrix:
    """Return counts of cells of these types."""
    rng = np.random.default_rng(seed)
    depth = DEPTH * rng.lognormal(-0.08, 0.4, (len(types), 1))
    rate = profile[types] * depth * rng.gamma(2.0, 0.5, (len(types), N_GENES))
    return sp.csr_matrix(rng.poisson(rate).astype(np.float32))


def simulate(path: Path, n_cells: int, seed: int = 0) -> None:
    """Write cells to a zarr store, a few blocks at a time; a store that is complete is left alone."""
    if path.exists():
        return
    rng = np.random.default_rng(seed)
    profile = np.exp(rng.normal(0, 1.2, N_GENES) + rng.normal(0, 0.7, (N_TYPES, N_GENES)))
    profile /= profile.sum(1, keepdims=True)
    partial = path.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    root = zarr.open_group(partial, mode="w")
    types = rng.integers(N_TYPES, size=n_cells)
    blocks = np.split(types, range(BLOCK, n_cells, BLOCK))
    seeds = np.random.SeedSequence(seed).spawn(len(blocks))
    n_workers = min(os.cpu_count() or 1, 16)
    drawn = Parallel(n_workers, return_as="generator", pre_dispatch=2 * n_workers)(
        delayed(block)(profile, of_block, of_seed) for of_block, of_seed in zip(blocks, seeds, strict=True)
    )
    for number, counts in enumerate(drawn):
        if number == 0:
            ad.io.write_elem(root, "X", counts)
        else:
            ad.io.sparse_dataset(root["X"]).append(counts)
    obs = {"cell_type": types.astype(str), "sample": (np.arange(n_cells) // SAMPLE).astype(str)}
    ad.io.write_elem(root, "obs", pd.DataFrame(obs, index=np.arange(n_cells).astype(str), dtype="category"))
    ad.io.write_elem(root, "var", pd.DataFrame(index=[f"gene_{g}" for g in range(N_GENES)]))
    partial.rename(path)


def on_disk(path: Path) -> ad.AnnData:
    """Return the cells, their counts left on the disk."""
    root = zarr.open_group(path, mode="r")
    obs, var = (ad.io.read_elem(root[name]) for name in ("obs", "var"))
    return ad.AnnData(ad.io.sparse_dataset(root["X"]), obs=obs, var=var)


def opened(cells: Path, scratch: Path, device: str) -> int:
    """Open the cells and the package; return the number of cells."""
    import sccountsdiff  # noqa: F401

    return on_disk(cells).n_obs


def setup_train(cells: Path, scratch: Path, device: str) -> int:
    """Train one epoch and save the model; return the number of cells."""
    from sccountsdiff import CountsDiff
    from sccountsdiff.model import BlockShuffled

    adata = on_disk(cells)
    CountsDiff.setup_anndata(adata, labels_key="cell_type")
    model = CountsDiff(adata)
    order = BlockShuffled(**ORDER)
    options = QUIET | {"accelerator": ACCELERATORS[device], "load_sparse_tensor": device == "cuda"}
    model.train(1, batch_size=BATCH_SIZE, datasplitter_kwargs={"order": order}, **options)
    model.save(scratch / "model", overwrite=True)
    return adata.n_obs


def loaded(scratch: Path, device: str):
    """Return the trained model without its data."""
    from sccountsdiff import CountsDiff

    return CountsDiff.load(scratch / "model", adata=False, accelerator=ACCELERATORS[device])


def impute(cells: Path, scratch: Path, device: str) -> int:
    """Impute all cells to a store; return their number."""
    adata = on_disk(cells)
    loaded(scratch, device).impute(adata, batch_size=BATCH_SIZES[device], out=scratch / "imputed.zarr", seed=0)
    shutil.rmtree(scratch / "imputed.zarr")
    return adata.n_obs


def generate(cells: Path, scratch: Path, device: str) -> int:
    """Generate a tenth as many cells, piece by piece, or on a GPU as many, to a store; return their number."""
    n_cells, model = on_disk(cells).n_obs, loaded(scratch, device)
    if device == "cuda":
        model.generate(n_cells=n_cells, seed=0, out=scratch / "generated.zarr")
        shutil.rmtree(scratch / "generated.zarr")
        return n_cells
    for piece, start in enumerate(range(0, n_cells // 10, 10_000)):
        model.generate(n_cells=min(10_000, n_cells // 10 - start), seed=piece)
    return n_cells // 10


STAGES = {"open": opened, "setup_train": setup_train, "impute": impute, "generate": generate}


def peak_mb() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def stage(name: str, cells: Path, scratch: Path, device: str) -> dict[str, float]:
    """Run one stage in this process; return its scores."""
    prepare(0)
    start = Time.now()
    n_cells = STAGES[name](cells, scratch, device)
    time = start.since()
    if name == "open":
        return {"peak_mb": peak_mb()}
    on_gpu = {"gpu_peak_mb": torch.cuda.max_memory_allocated() / 2**20} if device == "cuda" else {}
    return {
        "peak_mb": peak_mb(),
        "cells_per_second": n_cells / time.wall,
        "cells_per_cpu_second": n_cells / time.cpu,
        **on_gpu,
    }


def main() -> None:
    """Fill the record and print the tables."""
    parser = arguments(__doc__, METHODS, SIZES)
    parser.set_defaults(seeds=[0], data=["20k", "100k"])
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "sccountsdiff_scale")
    parser.add_argument("--device", choices=list(ACCELERATORS), default="cpu")
    parser.add_argument("--delete", action="store_true", help="delete cells and model once all stages are recorded")
    parser.add_argument("--stage", nargs=3, metavar=("NAME", "CELLS", "FOLDER"), help="run one stage in this process")
    options = parser.parse_args()
    if options.stage:
        name, cells, folder = options.stage
        print(json.dumps(stage(name, Path(cells), Path(folder), options.device)))
        return
    record = Record(options.results / f"scale{'' if options.device == 'cpu' else '_cuda'}.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        folder = options.scratch / data
        folder.mkdir(parents=True, exist_ok=True)
        simulate(folder / "cells.zarr", SIZES[data])
        if method not in ("open", "setup_train") and not (folder / "model").exists():
            raise SystemExit("The model of these cells is gone: delete the rows of setup_train from its record first.")
        command = [
            sys.executable,
            __file__,
            "--device",
            options.device,
            "--stage",
            method,
            folder / "cells.zarr",
            folder,
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout.splitlines()[-1])

    if not options.table:
        run(record, options, job)
    for data in options.data if options.delete else ():
        shutil.rmtree(options.scratch / data, ignore_errors=True)
    for score, digits in SCORES.items():
        if record.values(score):
            print(f"\n{score}\n\n{record.table(score, digits)}")


if __name__ == "__main__":
    main()
