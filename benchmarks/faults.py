"""Does anything that was finished get lost when something breaks, and does a rerun complete?

Each fault is injected into a real run on 200 simulated cells: a process of its own is killed, its disk fills up (the
operating system refuses the write), a file is cut short, a download ends early, a Dask worker dies. A fault passes if
nothing that was finished before is lost, the message says what to do, and the same call afterwards ends with exactly the
numbers of a run without fault. ``results/faults.csv`` has one line for each; ``--faults`` chooses some.
"""

from __future__ import annotations

import argparse
import csv
import http.server
import multiprocessing
import os
import resource
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from _record import RESULTS, versions
from _training import QUIET
from lightning.pytorch.callbacks import Callback

from sccountsdiff import CountsDiff
from sccountsdiff.data import ResultStore, open_cells
from sccountsdiff.model import Dask
from sccountsdiff.model._callbacks import SaveLast

FIELDS = ("fault", "outcome", "lost", "said", "seconds", "date", "versions")
DRAWS = {"n_samples": 1, "n_steps": 2, "seed": 3, "batch_size": 50}
N_CELLS, N_GENES, EPOCHS = 200, 40, 6


class Outcome(NamedTuple):
    """What a fault cost, and what the user was told."""

    lost: str
    said: str


def cells() -> ad.AnnData:
    """Simulated counts, the same each time."""
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(rng.gamma(1, 2, (2, N_GENES))[rng.integers(2, size=N_CELLS)]).astype(np.float32))
    obs = pd.DataFrame(index=[f"cell_{i}" for i in range(N_CELLS)])
    return ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"gene_{g}" for g in range(N_GENES)]))


def trained(folder: Path, max_epochs: int = EPOCHS, **kwargs: Any) -> CountsDiff:
    """A model of the cells, trained as a user would who wants to be able to resume."""
    adata = cells()
    CountsDiff.setup_anndata(adata)
    model = CountsDiff(adata, n_hidden=8)
    model.train(max_epochs, checkpoint_dir=folder, **QUIET, **kwargs)
    return model


def in_a_process(work: Callable[[], None]) -> tuple[int, str]:
    """Run something in a process of its own; return its exit code and the error that it ended with, notes included."""
    context = multiprocessing.get_context("fork")
    told, tell = context.Pipe(duplex=False)

    def run() -> None:
        torch.set_num_threads(1)
        nowhere = os.open(os.devnull, os.O_WRONLY)  # or a log file would be too large as well
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        try:
            work()
        except BaseException as error:  # noqa: BLE001 whatever it is, the parent is told
            tell.send(" ".join("".join(traceback.format_exception_only(error)).split()))
            os._exit(1)

    process = context.Process(target=run)
    process.start()
    tell.close()
    process.join()
    try:
        return process.exitcode or 0, told.recv()
    except EOFError:
        return process.exitcode or 0, ""


def fill_the_disk() -> None:
    """Let the operating system refuse writes of more than a kilobyte from now on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))


class InEpoch(Callback):
    """Does something in the fourth epoch."""

    def __init__(self, what: Callable[[], None]) -> None:
        self.what = what

    def on_train_batch_start(self, trainer: Any, plan: Any, batch: Any, batch_idx: int) -> None:
        """In the middle of it."""
        if trainer.current_epoch == 3 and batch_idx == 1:
            self.what()


def kill() -> None:
    """End this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def break_training(folder: Path, what: Callable[[], None]) -> tuple[int, str]:
    """Train until something happens in the fourth of six epochs."""
    SaveLast.SECONDS = 0.0  # epochs are short here
    return in_a_process(lambda: trained(folder, batch_size=64, callbacks=[InEpoch(what)]) and None)


def resume_training(folder: Path, epochs: int) -> None:
    """Run the same lines again; so many epochs must be left to do."""
    model = trained(folder, batch_size=64)
    assert len(model.history["train_loss"]) == epochs, f"{len(model.history['train_loss'])} epochs were trained again"


def killed_in_training(folder: Path) -> Outcome:
    """kill -9 while training."""
    code, _ = break_training(folder, kill)
    assert code == -signal.SIGKILL
    resume_training(folder, 3)
    return Outcome("the epoch it was in", "nothing; the same lines resume")


def terminated_in_training(folder: Path) -> Outcome:
    """SIGTERM, as a scheduler sends it, while training."""
    code, error = break_training(folder, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert (code, error) == (1, "SystemExit: 143"), (code, error)
    resume_training(folder, 3)
    return Outcome("the epoch it was in", "the process ends with code 143; the same lines resume")


def disk_full_in_training(folder: Path) -> Outcome:
    """Disk full while a checkpoint is written."""
    code, error = break_training(folder, fill_the_disk)
    assert code == 1
    assert "run the same lines again" in error
    resume_training(folder, 3)
    return Outcome("the epoch it was in", error)


def break_writing(model: CountsDiff, out: Path, what: Callable[[], None], chunk: int = 2) -> tuple[int, str]:
    """Impute to a file until something happens after so many chunks."""
    write = ResultStore.write

    def breaking(self: ResultStore, number: int, *piece: Any) -> None:
        if number == chunk:
            what()
        write(self, number, *piece)

    def work() -> None:
        ResultStore.write = breaking
        model.impute(out=out, **DRAWS)

    return in_a_process(work)


def check_written(model: CountsDiff, out: Path, kept: int, **kwargs: Any) -> None:
    """So many chunks are there; the same call completes them to the numbers of an undisturbed run."""
    partial_folder = out.with_name(f"{out.name}.partial")
    found = len(list(partial_folder.glob("*.npz")))
    assert found == kept, f"{found} chunks were kept"
    model.impute(out=out, **DRAWS, **kwargs)
    layer = open_cells(out).layers["imputed"].to_memory()
    assert (layer != model.impute(layer_added=None, **DRAWS)[0]).nnz == 0, "the numbers differ"


def killed_in_writing(folder: Path, model: CountsDiff) -> Outcome:
    """kill -9 while imputing to a file."""
    code, _ = break_writing(model, folder / "x.zarr", kill)
    assert code == -signal.SIGKILL
    check_written(model, folder / "x.zarr", 2)
    return Outcome("the minibatch it was in", "nothing; the same call resumes")


def killed_in_merging(folder: Path, model: CountsDiff) -> Outcome:
    """kill -9 while the finished file is put together."""
    read = ResultStore._append

    def work() -> None:
        ResultStore._append = lambda *_: kill()
        model.impute(out=folder / "x.h5ad", **DRAWS)

    code, _ = in_a_process(work)
    assert ResultStore._append is read
    assert code == -signal.SIGKILL
    assert not (folder / "x.h5ad").exists()
    check_written(model, folder / "x.h5ad", 4)
    return Outcome("nothing", "nothing; the same call puts it together")


def disk_full_in_writing(folder: Path, model: CountsDiff) -> Outcome:
    """Disk full while imputing to a file."""
    code, error = break_writing(model, folder / "x.zarr", fill_the_disk)
    assert code == 1
    assert "run the same call" in error
    check_written(model, folder / "x.zarr", 2)
    return Outcome("the minibatch it was in", error)


def chunk_damaged(folder: Path, model: CountsDiff) -> Outcome:
    """A finished minibatch is cut short on disk."""
    break_writing(model, folder / "x.zarr", kill, 3)
    chunk = folder / "x.zarr.partial" / "00000001.npz"
    chunk.write_bytes(chunk.read_bytes()[:-50])
    check_written(model, folder / "x.zarr", 3)
    return Outcome("that minibatch", "nothing; its checksum fails, and it is made again")


def counts_damaged(folder: Path, model: CountsDiff) -> Outcome:
    """The store of the counts is cut short while it is read."""
    model.adata.write_zarr(folder / "cells.zarr")
    on_disk = open_cells(folder / "cells.zarr")
    broken = next(file for file in sorted((folder / "cells.zarr" / "X" / "data").rglob("*")) if file.name[0].isdigit())
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    try:
        model.impute(on_disk, out=folder / "x.zarr", **DRAWS)
    except Exception as error:  # noqa: BLE001 each storage has errors of its own
        said = f"{error} {' '.join(error.__notes__)}"
    assert "could not be read" in said
    broken.write_bytes(whole)
    check_written(model, folder / "x.zarr", 0, adata=open_cells(folder / "cells.zarr"))
    return Outcome("nothing", said)


def model_damaged(folder: Path, model: CountsDiff) -> Outcome:
    """A model file is cut short."""
    model.save(folder / "model")
    file = folder / "model" / "model.pt"
    file.write_bytes(file.read_bytes()[:-200])
    try:
        CountsDiff.load(folder / "model", adata=False)
    except ValueError as error:
        return Outcome("that file", str(error).replace(str(folder), "..."))
    raise AssertionError("it was loaded")


class Half(http.server.BaseHTTPRequestHandler):
    """A server that hangs up in the middle, the first time."""

    content = b""
    asked = 0

    def do_GET(self) -> None:
        """Promise all and send half."""
        Half.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content[: len(self.content) // 2] if Half.asked == 1 else self.content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def download_interrupted(folder: Path, model: CountsDiff) -> Outcome:
    """A model is downloaded, and the connection breaks."""
    model.save(folder / "model")
    Half.content, Half.asked = (folder / "model" / "model.pt").read_bytes(), 0
    server = http.server.HTTPServer(("localhost", 0), Half)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    load = partial(
        CountsDiff.load,
        folder / "downloaded",
        adata=False,
        backup_url=f"http://localhost:{server.server_port}/model.pt",
        accelerator="cpu",
    )
    try:
        load()
    except ValueError as error:
        said = str(error).replace(str(folder), "...")
    assert torch.equal(*(next(m.module.parameters()).cpu() for m in (load(), model)))
    server.shutdown()
    return Outcome("nothing", said)


class Malicious:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def model_untrusted(folder: Path, model: CountsDiff) -> Outcome:
    """A model file that would run code."""
    (folder / "model").mkdir()
    torch.save({"model_state_dict": Malicious(folder / "trace")}, folder / "model" / "model.pt")
    try:
        CountsDiff.load(folder / "model", adata=False)
    except ValueError as error:
        assert not (folder / "trace").exists(), "the code was run"
        return Outcome("nothing", str(error).replace(str(folder), "..."))
    raise AssertionError("it was loaded")


def dies_once(trace: str, write: Any) -> Any:
    """A way to write that kills the worker at the third chunk, but only one worker."""

    def dying(self: ResultStore, number: int, *piece: Any) -> None:
        if number == 2:
            try:
                os.mkdir(trace)
            except FileExistsError:
                pass
            else:
                kill()
        write(self, number, *piece)

    return dying


def prepare_worker(trace: str) -> None:
    """Make a worker mortal."""
    torch.set_num_threads(1)
    ResultStore.write = dies_once(trace, ResultStore.write)


def worker_killed(folder: Path, model: CountsDiff) -> Outcome:
    """A Dask worker is killed."""
    from distributed import Client, LocalCluster

    workers = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "local_directory": str(folder)}
    with LocalCluster(**workers) as cluster, Client(cluster) as client:
        client.run(prepare_worker, str(folder / "trace"))
        model.impute(out=Dask(folder / "x.zarr", client), **DRAWS)
    assert (folder / "trace").exists(), "no worker died"
    layer = open_cells(folder / "x.zarr").layers["imputed"].to_memory()
    assert (layer != model.impute(layer_added=None, **DRAWS)[0]).nnz == 0, "the numbers differ"
    return Outcome("the minibatch it was in", "nothing; another worker takes over")


TRAINING = (killed_in_training, terminated_in_training, disk_full_in_training)
OTHERS = (
    killed_in_writing,
    killed_in_merging,
    disk_full_in_writing,
    chunk_damaged,
    counts_damaged,
    model_damaged,
    download_interrupted,
    model_untrusted,
    worker_killed,
)
FAULTS = {fault.__name__: fault for fault in (*TRAINING, *OTHERS)}


def inject(name: str, model: CountsDiff | None) -> dict[str, str]:
    """Inject a fault in a folder of its own; return its line of the table."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            given = (Path(folder),) if model is None else (Path(folder), model)
            outcome, passed = FAULTS[name](*given), "pass"
        except Exception as error:  # noqa: BLE001 a fault that was not survived is a result
            traceback.print_exc()
            outcome, passed = Outcome("", f"{type(error).__name__}: {error}"), "fail"
        said = outcome.said.replace(folder, "...")
    title = (FAULTS[name].__doc__ or name).rstrip(".")
    seconds = f"{time.perf_counter() - start:.1f}"
    values = (title, passed, outcome.lost, said, seconds, datetime.now(UTC).strftime("%Y-%m-%d"), versions())
    return dict(zip(FIELDS, values, strict=True))


def main() -> None:
    """Inject all faults and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="+", default=list(FAULTS), choices=list(FAULTS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV file")
    options = parser.parse_args()
    path = options.results / "faults.csv"
    rows = {}
    if path.exists():
        with path.open(newline="") as file:
            rows = {row["fault"]: row for row in csv.DictReader(file)}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = trained(Path(folder), 2)
    for name in options.faults:
        row = inject(name, None if FAULTS[name] in TRAINING else model)
        rows[row["fault"]] = row
        print(
            f"{row['outcome']}: {row['fault']} ({row['seconds']} s). Lost: {row['lost']}. Said: {row['said']}",
            flush=True,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows.values())


if __name__ == "__main__":
    main()
