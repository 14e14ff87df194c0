"""Model files: data only, refused if they could run code, clear about damage."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
import torch

from sccountsdiff import CountsDiff
from sccountsdiff.model import UntrustedFileError, _files


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def saved(trained, tmp_path):
    """Directory of a saved model."""
    trained.save(tmp_path / "model")
    return tmp_path / "model"


def tampered(folder, **entries):
    content = torch.load(folder / "model.pt", weights_only=False)
    content["attr_dict"] |= entries
    torch.save(content, folder / "model.pt")


def test_files_hold_data_only(saved, trained):
    loaded = CountsDiff.load(saved, adata=False, accelerator="cpu")
    for name, table in trained.history.items():
        pd.testing.assert_frame_equal(loaded.history[name], table, check_names=False)
    np.testing.assert_array_equal(loaded.population_.library_size, trained.population_.library_size)
    assert CountsDiff.load_registry(saved)["model_name"] == "CountsDiff"


@pytest.mark.parametrize("open_file", [lambda d: CountsDiff.load(d, adata=False), CountsDiff.load_registry])
def test_code_in_a_file_is_not_run(saved, tmp_path, open_file):
    tampered(saved, extra_=Bomb(str(tmp_path / "exploded")))
    with pytest.raises(UntrustedFileError, match="mkdir. It could run code.*trusted=True"):
        open_file(saved)
    assert not (tmp_path / "exploded").exists()


def test_trusted_files_load_with_a_warning(saved):
    tampered(saved, extra_=pd.Series([1.0]))
    with pytest.warns(UserWarning, match="could run code"):
        model = CountsDiff.load(saved, adata=False, accelerator="cpu", trusted=True)
    assert model.is_trained


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files_are_named(saved, part):
    content = (saved / "model.pt").read_bytes()
    (saved / "model.pt").write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match=r"model.pt is damaged.*cut short"):
        CountsDiff.load(saved, adata=False)


def test_garbage_is_named(saved):
    (saved / "model.pt").write_bytes(np.random.default_rng(0).bytes(2000))
    with pytest.raises(ValueError, match="model.pt"):
        CountsDiff.load(saved, adata=False)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="Failed to load model file"):
        CountsDiff.load(tmp_path, adata=False)


def test_a_download_that_broke_off_is_not_taken_for_the_file(saved, tmp_path, monkeypatch):
    content = [(saved / "model.pt").read_bytes()[:-100], (saved / "model.pt").read_bytes()]

    def download(url, folder, name):
        path = tmp_path / "downloaded" / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_bytes(content.pop(0))

    monkeypatch.setattr(_files, "download", download)
    given = {"adata": False, "accelerator": "cpu", "backup_url": "https://example.org/model.pt"}
    with pytest.raises(ValueError, match="is damaged.*It was removed: load once more"):
        CountsDiff.load(tmp_path / "downloaded", **given)
    assert CountsDiff.load(tmp_path / "downloaded", **given).is_trained
