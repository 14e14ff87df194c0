"""Training in two processes on CPUs: each cell once an epoch, the same model, history and decisions everywhere."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="needs processes that talk over gloo"
)

SCRIPT = """
import os, pickle, sys, warnings
import anndata as ad, numpy as np, torch
from lightning.pytorch.callbacks import Callback
from sccountsdiff import CountsDiff
from sccountsdiff.model._callbacks import SaveLast

torch.set_num_threads(1)
folder, options = sys.argv[1], eval(sys.argv[2])
SaveLast.SECONDS = 0.0

class Cells(Callback):
    seen = []
    def on_train_batch_start(self, trainer, plan, batch, batch_idx):
        self.seen.append((trainer.current_epoch, batch["covariate_number"].numpy().tolist()))

adata = ad.read_h5ad(folder + "/cells.h5ad")
CountsDiff.setup_anndata(adata, layer="counts", continuous_covariate_keys=["number"])
model = CountsDiff(adata, n_hidden=8)
model.train(
    4, accelerator="cpu", devices=2, batch_size=64, enable_progress_bar=False, callbacks=[Cells()],
    checkpoint_dir=folder + "/checkpoints", early_stopping_patience=1, check_val_every_n_epoch=1, **options,
)
weights = {name: value.numpy() for name, value in model.module.state_dict().items()}
report = {
    "seen": Cells.seen, "weights": weights, "history": model.history, "train": model.train_indices,
    "held_out": model.validation_indices, "rows": model.population_.rows, "n_bounds": len(model.trainer.callbacks),
}
with open(f"{folder}/{os.environ.get('LOCAL_RANK', 0)}.pickle", "wb") as file:
    pickle.dump(report, file)
"""


@pytest.mark.parametrize(
    "options",
    [
        pytest.param("{'trainer_config': {'strategy': 'ddp'}}", id="config", marks=pytest.mark.slow),
        pytest.param("{'strategy': 'ddp'}", id="keyword", marks=pytest.mark.slow),
        pytest.param("{}", id="devices", marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_one_model(make_adata, tmp_path, options):
    adata = make_adata()
    adata.obs["number"] = np.arange(adata.n_obs, dtype=float)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "train.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / "train.py", tmp_path, options], cwd=tmp_path, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    first, second = (pickle.loads((tmp_path / f"{rank}.pickle").read_bytes()) for rank in (0, 1))

    for epoch in range(4):
        seen = [cell for report in (first, second) for e, cells in report["seen"] if e == epoch for cell in cells]
        np.testing.assert_array_equal(np.sort(seen), np.sort(first["train"]))
    np.testing.assert_array_equal(first["held_out"], second["held_out"])
    for name, value in first["weights"].items():
        np.testing.assert_array_equal(value, second["weights"][name], err_msg=name)
    for report in (first, second):
        assert list(report["history"]["elbo_validation"].index) == [0, 1, 2, 3]
        assert len(report["rows"]) == len(report["train"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["0.pickle", "1.pickle", "cells.h5ad", "checkpoints", "train.py"]
    ), "nothing is left in the working directory"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]
