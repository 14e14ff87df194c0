"""The loaders of CIFAR-10 and CelebA, on a few made-up images in the files that torchvision reads."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

torchvision = pytest.importorskip("torchvision")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def pictures(monkeypatch, tmp_path):
    """The module of the loaders, with a judge that needs no Inception weights; images lie in ``tmp_path``."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("SCCOUNTSDIFF_IMAGES", str(tmp_path))
    import _pictures

    monkeypatch.setattr(_pictures, "InceptionJudge", lambda held_out, max_count: held_out)
    monkeypatch.setattr(_pictures, "N_REAL", 3)
    return _pictures


@pytest.fixture
def any_checksum(monkeypatch):
    """Let torchvision read files that are not those of the data sets."""
    for source in ("cifar", "celeba"):
        monkeypatch.setattr(sys.modules[f"torchvision.datasets.{source}"], "check_integrity", lambda *_: True)


@pytest.mark.usefixtures("any_checksum")
def test_cifar10_keeps_its_colours_and_mirrors_images_with_their_labels(pictures, tmp_path):
    folder, rng = tmp_path / "cifar-10-batches-py", np.random.default_rng(0)
    folder.mkdir()
    batches = {}
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        # As in the data: all red pixels of an image, then the green, then the blue ones. Red is the label.
        batches[name] = {"data": rng.integers(0, 256, (2, 3072), dtype=np.uint8), "labels": [3, 7]}
        batches[name]["data"][:, :1024] = np.array(batches[name]["labels"])[:, None]
        (folder / name).write_bytes(pickle.dumps(batches[name]))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))

    found = pictures.cifar10(seed=0)

    assert found.train.shape == (14, 3, 32, 32)
    assert torch.equal(found.train[:, 0, 0, 0], found.train_labels.to(torch.uint8))
    assert torch.equal(found.train[7:], found.train[:7].flip(-1))
    assert torch.equal(found.real[:, 0, 0, 0], found.real_labels.float())
    green = batches["test_batch"]["data"][:, 1024:2048].reshape(2, 32, 32)
    assert np.array_equal(found.judge[:, 1], green)


@pytest.mark.usefixtures("any_checksum")
def test_celeba_crops_to_64_pixels_and_reads_attributes_as_zero_and_one(pictures, tmp_path):
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{k:06d}.jpg" for k in range(9)]
    signs = np.random.default_rng(0).choice([-1, 1], (9, 40))
    for k, name in enumerate(names):
        image.new("RGB", (178, 218), (20 * k, 0, 255)).save(folder / "img_align_celeba" / name, quality=100)

    def write(file: str, rows, head: str = "") -> None:
        lines = [" ".join(map(str, [name, *row])) for name, row in zip(names, rows, strict=True)]
        (folder / file).write_text(head + "\n".join(lines) + "\n")

    write("list_eval_partition.txt", [[k // 3] for k in range(9)])
    write("identity_CelebA.txt", [[1]] * 9)
    write("list_bbox_celeba.txt", [[0] * 4] * 9, "9\nimage_id x_1 y_1 width height\n")
    write("list_landmarks_align_celeba.txt", [[0] * 10] * 9, "9\n" + " ".join(["mark"] * 10) + "\n")
    write("list_attr_celeba.txt", signs, "9\n" + " ".join(f"attribute_{k}" for k in range(40)) + "\n")

    found = pictures.celeba(seed=0)

    assert found.train.shape == found.judge.shape == found.real.shape == (3, 3, 64, 64)
    assert torch.equal(found.train_labels, torch.as_tensor(signs[:3] > 0).float())
    red = found.real[:, 0].mean((1, 2))
    assert sorted(red.tolist()) == pytest.approx([120, 140, 160], abs=4)
    assert torch.equal(found.real_labels, torch.as_tensor(signs[6:] > 0).float()[red.div(20).round().long() - 6])


@pytest.mark.parametrize("name", ["cifar10", "celeba"])
def test_missing_images_are_said_to_be_missing(pictures, name, monkeypatch):
    with pytest.raises(SystemExit, match="torchvision found no images in"):
        pictures.PICTURES[name](0)
    monkeypatch.delenv("SCCOUNTSDIFF_IMAGES")
    with pytest.raises(SystemExit, match="Set SCCOUNTSDIFF_IMAGES"):
        pictures.PICTURES[name](0)
