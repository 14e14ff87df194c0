"""Do two processes train the same model as one, and does each epoch see every cell once?

80/20 cells, one training in one process and one in two (Lightning's DDP on CPUs, over gloo), all else as by default.

- ``nats``: held-out bound of the trained model (see ``bound.py``);
- ``epochs``: number of epochs;
- ``missed``, ``repeated``: training cells that an epoch did not see, or saw more than once; the most of any epoch.
  Cells are known by a random projection of their counts, taken from the minibatches that reach the network.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
from _countsdiff import bound
from _data import cell_split
from _record import Record, arguments, run
from _training import QUIET, prepare
from lightning.pytorch.callbacks import Callback

METHODS = {"one_process": 1, "two_processes": 2}
SCORES = {"nats": 1, "epochs": 0, "missed": 0, "repeated": 0}


def marks(counts: np.ndarray) -> np.ndarray:
    """Return a number for each cell that tells it from the others, ``(n_cells,)``."""
    direction = np.random.default_rng(0).random(counts.shape[1])
    return np.round(np.asarray(counts, dtype=np.float64) @ direction, 6)


class Seen(Callback):
    """Writes down the cells that this process has seen in each epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epochs: list[list[float]] = []

    def on_train_epoch_start(self, trainer, module) -> None:
        """Begin a list."""
        self.epochs.append([])

    def on_train_batch_start(self, trainer, module, batch, batch_idx: int) -> None:
        """Note the cells of a minibatch."""
        self.epochs[-1] += marks(batch["X"].numpy()).tolist()

    def on_train_end(self, trainer, module) -> None:
        """Leave the list, and wait until all processes have."""
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(self.epochs))
        trainer.strategy.barrier()


def stage(data: str, seed: int, n_processes: int, folder: Path, max_epochs: int | None) -> None:
    """Train in so many processes, of which this is one; the first writes down the bound."""
    from sccountsdiff import CountsDiff

    prepare(seed)
    train, test = cell_split(data, seed)
    adata = ad.AnnData(train.X.astype(np.float32))
    CountsDiff.setup_anndata(adata)
    model = CountsDiff(adata)
    several = {"devices": n_processes, "strategy": "ddp"} if n_processes > 1 else {}
    model.train(max_epochs, callbacks=[Seen(folder)], **(QUIET | several))
    if model.trainer.is_global_zero:
        known = marks(train.X[model.train_indices].toarray()).tolist()
        (folder / "result.json").write_text(json.dumps({"nats": bound(model, test.X)[0], "cells": known}))


def scores(folder: Path) -> dict[str, float]:
    """Return the scores of a training that left its files in a folder."""
    result = json.loads((folder / "result.json").read_text())
    by_process = [json.loads(path.read_text()) for path in sorted(folder.glob("[0-9]*.json"))]
    cells, expected = np.unique(result["cells"], return_counts=True)
    missed, repeated = [], []
    for epoch in zip(*by_process, strict=True):
        times = dict(zip(*np.unique(np.concatenate(epoch), return_counts=True), strict=True))
        excess = np.array([times.pop(cell, 0) for cell in cells]) - expected
        assert not times, "a cell was seen that is not in the training set"
        missed.append(-excess[excess < 0].sum())
        repeated.append(excess[excess > 0].sum())
    return {"nats": result["nats"], "epochs": len(missed), "missed": max(missed), "repeated": max(repeated)}


def main() -> None:
    """Fill the record and print the tables."""
    parser = arguments(__doc__, METHODS, ("pbmc68k", "pbmc3k"))
    parser.set_defaults(data=["pbmc68k"])
    parser.add_argument("--stage", nargs=2, metavar=("N", "FOLDER"), help="take part in one training")
    options = parser.parse_args()
    if options.stage:
        n_processes, folder = int(options.stage[0]), Path(options.stage[1])
        stage(options.data[0], options.seeds[0], n_processes, folder, options.max_epochs)
        return
    record = Record(options.results / "ddp.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--data", data, "--seeds", seed, "--stage", METHODS[method], folder]
            command += [] if options.max_epochs is None else ["--max-epochs", options.max_epochs]
            subprocess.run([str(word) for word in command], check=True)
            return scores(Path(folder))

    if not options.table:
        run(record, options, job)
    for score, digits in SCORES.items():
        print(f"\n{score}\n\n{record.table(score, digits)}")


if __name__ == "__main__":
    main()
