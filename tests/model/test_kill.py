"""A training that is killed without warning goes on where it was."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from sccountsdiff import CountsDiff
from sccountsdiff.model._callbacks import SaveLast

SCRIPT = """
import os, signal, sys
import anndata as ad, torch
from lightning.pytorch.callbacks import Callback
from sccountsdiff import CountsDiff
from sccountsdiff.model._callbacks import SaveLast

torch.set_num_threads(1)
SaveLast.SECONDS = 0.0

class Kill(Callback):
    def on_train_batch_start(self, trainer, plan, batch, batch_idx):
        if trainer.current_epoch == 3 and batch_idx == 1:
            os.kill(os.getpid(), signal.SIGKILL)

adata = ad.read_h5ad(sys.argv[1] + "/cells.h5ad")
CountsDiff.setup_anndata(adata, layer="counts")
CountsDiff(adata, n_hidden=8).train(
    6, accelerator="cpu", enable_progress_bar=False, checkpoint_dir=sys.argv[1], callbacks=[Kill()]
)
"""


@pytest.mark.slow
def test_kill_9_loses_one_epoch_at_most(make_adata, quick_train, tmp_path):
    make_adata().write_h5ad(tmp_path / "cells.h5ad")
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path], capture_output=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    split = next(
        state
        for name, state in torch.load(tmp_path / "last.ckpt", weights_only=False).items()
        if name == "CountsDataSplitter"
    )
    (tmp_path / "last.partial").write_bytes(b"a kill while writing leaves this behind")

    data = make_adata()
    CountsDiff.setup_anndata(data, layer="counts")
    model = quick_train(CountsDiff(data, n_hidden=8), 6, checkpoint_dir=tmp_path)
    assert len(model.history["train_loss"]) == 3, "epochs 3, 4 and 5"
    assert model.trainer.datamodule.state_dict() == split, "the same cells are held out"


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    def full(path):
        path.write_bytes(b"half a checkpoint")
        raise OSError("No space left on device")

    (tmp_path / "last.ckpt").write_bytes(b"the one before")
    with pytest.raises(OSError, match="No space left") as caught:
        SaveLast(tmp_path).save(SimpleNamespace(save_checkpoint=full, is_global_zero=True))
    assert "run the same lines again" in caught.value.__notes__[0]
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
