"""Images as counts: what is there to learn from, and how samples are judged."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sccountsdiff import metrics
from sccountsdiff.conditioning import CategoricalKey, EmbeddingKey, Key

LABEL = "label"
#: Images of CIFAR-10 and CelebA that are kept apart for the floor.
N_REAL = 10_000


class Judge(ABC):
    """Scores samples of one data set."""

    @abstractmethod
    def scores(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the scores of images ``(n, n_channels, height, width)`` that were asked for by label."""


@dataclass(frozen=True)
class Pictures:
    """A data set of images.

    Parameters
    ----------
    train, train_labels
        Images to learn from, integers ``(n, n_channels, height, width)``, and their labels.
    real, real_labels
        Images that neither network nor judge was fitted to: they take the place of samples for the floor, and their
        labels are what samples are asked for.
    key
        The condition.
    max_count
        Largest value of a pixel.
    judge
        Scores samples.
    widths, n_blocks, batch_size, n_steps, n_walk
        Size of the network, and of its training and walks.
    """

    train: Tensor
    train_labels: Tensor
    real: Tensor
    real_labels: Tensor
    key: Key
    max_count: int
    judge: Judge
    widths: Sequence[int]
    n_blocks: int
    batch_size: int
    n_steps: int
    n_walk: int


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Frechet distance between Gaussians fitted to features ``(n, n_features)``."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The trace of the root needs the eigenvalues alone; a root of a singular matrix would be inexact.
    cross = np.sqrt(np.linalg.eigvals(first @ second).real.clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second) - 2 * cross)


class DigitsJudge(Judge):
    """Judges digits by classifiers of real ones.

    ``accuracy`` is that of a support vector machine: does it see the digit that was asked for? ``frechet`` is taken
    between the hidden features of a perceptron. ``nearest`` is the distance to the nearest training image over that of
    held-out images: far below 1 is copying.
    """

    def __init__(self, train: Tensor, labels: Tensor, held_out: Tensor) -> None:
        from sklearn.neural_network import MLPClassifier
        from sklearn.svm import SVC

        self.train = train.flatten(1).numpy()
        self.held_out = held_out.flatten(1).numpy()
        self.classifier = SVC(gamma=0.001).fit(self.train, labels)
        self.perceptron = MLPClassifier((32,), alpha=0.1, max_iter=1000, random_state=0).fit(self.train, labels)

    def _features(self, pixels: np.ndarray) -> np.ndarray:
        return np.maximum(pixels @ self.perceptron.coefs_[0] + self.perceptron.intercepts_[0], 0)

    def scores(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Return accuracy, Frechet distance to held-out digits and nearness to training digits."""
        pixels = images.flatten(1).numpy()
        return {
            "accuracy": float(self.classifier.score(pixels, labels)),
            "frechet": frechet_distance(self._features(pixels), self._features(self.held_out)),
            "nearest": metrics.nearest_neighbor_ratio(self.train, self.held_out, pixels),
            "mean_ratio": float(images.mean() / self.held_out.mean()),
        }


class InceptionJudge(Judge):
    """FID in Inception features, through torchmetrics."""

    def __init__(self, held_out: Tensor, max_count: int) -> None:
        fid = _needed("torchmetrics.image.fid", "torchmetrics[image]")
        self.fid = fid.FrechetInceptionDistance(feature=2048, reset_real_features=False)
        self.max_count = max_count
        for block in held_out.split(256):
            self.fid.update(block.to(torch.uint8), real=True)

    def scores(self, images: Tensor, labels: Tensor) -> dict[str, float]:
        """Return the FID against held-out images."""
        self.fid.reset()
        for block in images.clamp(0, self.max_count).split(256):
            self.fid.update(block.to(torch.uint8), real=False)
        return {"fid": float(self.fid.compute())}


def digits(seed: int) -> Pictures:
    """Return the handwritten digits of scikit-learn: 1,797 images of 8 x 8 pixels, counts 0 to 16."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(seed).permutation(len(bunch.target))
    images = torch.as_tensor(bunch.images[order], dtype=torch.float32).unsqueeze(1)
    labels = torch.as_tensor(bunch.target[order])
    held_out, real = slice(1000, 1500), slice(1500, 1797)
    return Pictures(
        images[:1000],
        labels[:1000],
        images[real],
        labels[real],
        CategoricalKey(LABEL, 10),
        max_count=16,
        judge=DigitsJudge(images[:1000], labels[:1000], images[held_out]),
        widths=(16, 32),
        n_blocks=1,
        batch_size=64,
        n_steps=5000,
        n_walk=50,
    )


def cifar10(seed: int) -> Pictures:
    """Return CIFAR-10 (32 x 32, three colours, 0 to 255) from ``SCCOUNTSDIFF_IMAGES``, with mirrored images."""
    datasets = _needed("torchvision.datasets", "torchvision")
    train, test = (_read(lambda part=part: datasets.CIFAR10(_folder(), train=part)) for part in (True, False))
    images, held_out = (torch.as_tensor(part.data).permute(0, 3, 1, 2) for part in (train, test))
    labels = torch.as_tensor(train.targets)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    fitted, real = order[:-N_REAL], order[-N_REAL:]
    return Pictures(
        torch.cat([images[fitted], images[fitted].flip(-1)]),
        labels[fitted].repeat(2),
        images[real].float(),
        labels[real],
        CategoricalKey(LABEL, 10),
        max_count=255,
        judge=InceptionJudge(held_out, 255),
        widths=(128, 256, 256, 256),
        n_blocks=2,
        batch_size=256,
        n_steps=100_000,
        n_walk=1000,
    )


def celeba(seed: int) -> Pictures:
    """Return CelebA (cropped to 64 x 64, three colours, 0 to 255, 40 attributes) from ``SCCOUNTSDIFF_IMAGES``."""
    datasets = _needed("torchvision.datasets", "torchvision")
    transforms = _needed("torchvision.transforms", "torchvision")
    small = transforms.Compose([transforms.CenterCrop(140), transforms.Resize(64), transforms.PILToTensor()])
    parts = {}
    for part in ("train", "valid", "test"):
        source = _read(lambda part=part: datasets.CelebA(_folder(), split=part, target_type="attr", transform=small))
        parts[part] = torch.stack([image for image, _ in source]), source.attr.float()
    chosen = torch.randperm(len(parts["test"][0]), generator=torch.Generator().manual_seed(seed))[:N_REAL]
    return Pictures(
        *parts["train"],
        parts["test"][0][chosen].float(),
        parts["test"][1][chosen],
        EmbeddingKey(LABEL, 40),
        max_count=255,
        judge=InceptionJudge(parts["valid"][0], 255),
        widths=(128, 256, 256, 256),
        n_blocks=2,
        batch_size=64,
        n_steps=1_300_000,
        n_walk=1000,
    )


PICTURES: dict[str, Callable[[int], Pictures]] = {"digits": digits, "cifar10": cifar10, "celeba": celeba}


def _folder() -> Path:
    """Return the folder of images that were fetched before."""
    if "SCCOUNTSDIFF_IMAGES" not in os.environ:
        raise SystemExit(
            "Set SCCOUNTSDIFF_IMAGES to the folder that holds CIFAR-10 or CelebA as torchvision lays them out."
        )
    return Path(os.environ["SCCOUNTSDIFF_IMAGES"])


def _needed(module: str, package: str) -> Any:
    """Return a module of a package that only these data sets need."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SystemExit(f"This data set needs {module}: pip install '{package}' ({error}).") from error


def _read(open_dataset: Callable[[], Any]) -> Any:
    """Return a data set that torchvision finds in the folder; nothing is downloaded."""
    try:
        return open_dataset()
    except RuntimeError as error:
        raise SystemExit(f"torchvision found no images in {_folder()}: {error}") from error
