"""Collections of annbatch as training data: scvi-tools reads them, the registry is of this package."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any, final

import numpy as np
import pandas as pd
from anndata import AnnData
from lightning.pytorch import LightningDataModule
from scvi import REGISTRY_KEYS
from torch import Tensor

from sccountsdiff.data import GeneSums, InvalidCountsError, check_counts
from sccountsdiff.model._compat import FIELD_REGISTRIES_KEY, HAS_ANNBATCH, STATE_REGISTRY_KEY
from sccountsdiff.model._fields import CountsField


def _annbatch_fits() -> bool:
    """Whether annbatch is there, in a version whose loader takes what scvi-tools passes on: 0.3 dropped a part of it."""
    if find_spec("annbatch") is None:
        return False
    from annbatch import Loader

    return "to_torch" in inspect.signature(Loader).parameters


@final
class CountsCollection(LightningDataModule):
    """Minibatches of an annbatch collection, for ``train(datamodule=)``.

    Parameters
    ----------
    inner
        :class:`scvi.dataloaders.AnnbatchDataModule` of the collection.

    Attributes
    ----------
    registry
        Registry to build the model from.
    """

    registry: dict[str, Any]

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.inner.n_obs

    @property
    def n_train(self) -> int:
        """Number of training cells."""
        return self.inner.n_train

    @property
    def n_val(self) -> int:
        """Number of held-out cells."""
        return self.inner.n_val

    def set_split(self, train_size: float = 0.95, **kwargs: Any) -> None:
        """Hold out the first cells of the collection, which must have been shuffled when it was written.

        Parameters
        ----------
        train_size
            Part of the cells to train on.
        **kwargs
            Passed on to ``AnnbatchDataModule.set_split``.
        """
        self.inner.set_split(train_size=train_size, **kwargs)

    def train_dataloader(self) -> Iterable[dict[str, Tensor]]:
        """Minibatches of training cells."""
        return _Translated(self.inner, self.inner.train_dataloader())

    def val_dataloader(self) -> Iterable[dict[str, Tensor]]:
        """Minibatches of held-out cells."""
        return _Translated(self.inner, self.inner.val_dataloader()) if self.n_val else []


class AnnbatchMixin:
    """Setup on annbatch collections."""

    @classmethod
    def setup_annbatch(
        cls,
        paths: list[str] | None = None,
        *,
        collection_path: str | None = None,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        **kwargs: Any,
    ) -> CountsCollection:
        """Set up training on files that annbatch streams: Python 3.12, scvi-tools 1.5 and annbatch 0.2.

        Every count is checked, in one pass over the collection.

        Parameters
        ----------
        paths
            Files (``.h5ad``) to write into a collection; ``None`` opens the one at ``collection_path``.
        collection_path
            Where the collection is.
        layer
            Layer of the raw counts; ``None`` is ``.raw.X`` if there is one, else ``.X``.
        batch_key, labels_key
            Columns of ``obs`` to condition on.
        **kwargs
            More arguments of :meth:`scvi.model.base.BaseModelClass.setup_annbatch`, such as ``shuffle``, ``rebuild``,
            ``chunk_size`` or ``adatas``.

        Returns
        -------
        A data module. ``CountsDiff(registry=collection.registry)`` is the model to train on it.

        Raises
        ------
        ImportError
            If scvi-tools is too old or annbatch is not installed.
        InvalidCountsError
            If a value is no UMI count.

        Examples
        --------
        >>> collection = CountsDiff.setup_annbatch(["a.h5ad", "b.h5ad"], batch_key="sample", shuffle=True)
        >>> collection.set_split()
        >>> model = CountsDiff(registry=collection.registry)
        >>> model.train(datamodule=collection)
        """
        if not HAS_ANNBATCH or not _annbatch_fits():
            raise ImportError(
                "setup_annbatch needs Python 3.12 or newer, scvi-tools 1.5 and annbatch 0.2: pip install "
                "'sccountsdiff[annbatch]'. Without them train from disk: setup_anndata(data.open_cells(path))."
            )
        keys = {"layer": layer, "batch_key": batch_key, "labels_key": labels_key}
        given = {
            "collection_path": collection_path,
            "paths": paths,
            "preload_to_gpu": False,
            "rebuild": paths is not None,
        }
        inner = super().setup_annbatch(**given, **keys, **kwargs)  # type: ignore[misc]
        collection = CountsCollection(inner)
        collection.registry = _registry(cls, inner, keys)
        return collection


class _Translated:
    """Minibatches in the terms of scvi-tools."""

    def __init__(self, inner: Any, minibatches: Any) -> None:
        self.inner, self.minibatches = inner, minibatches

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for minibatch in self.minibatches:
            yield self.inner.on_before_batch_transfer(minibatch, 0)

    def __len__(self) -> int:
        return len(self.minibatches)


def _registry(model: Any, inner: Any, keys: dict[str, str | None]) -> dict[str, Any]:
    """Registry of a model of the collection: that of a few cells with all categories, and the totals of all cells."""
    encoders = {keys["batch_key"]: inner.batch_encoder, keys["labels_key"]: inner.label_encoder}
    columns = {key: encoder.classes_ for key, encoder in encoders.items() if key is not None}
    n_cells = max([1, *map(len, columns.values())])
    obs = pd.DataFrame({key: np.resize(names, n_cells) for key, names in columns.items()}, index=_names(n_cells))
    ones, var = np.ones((n_cells, inner.n_vars), dtype=np.float32), pd.DataFrame(index=_gene_names(inner))
    layers = {} if keys["layer"] is None else {keys["layer"]: ones}
    few = AnnData(ones, obs=obs, var=var, layers=layers)
    model.setup_anndata(few, **keys)
    registry = copy.deepcopy(model(few).registry)
    totals = CountsField.totals(_gene_sums(inner))
    registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY][STATE_REGISTRY_KEY] |= totals
    return registry


def _gene_names(inner: Any) -> list[str]:
    genes = inner.registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY][STATE_REGISTRY_KEY]
    return list(genes[CountsField.COLUMN_NAMES_KEY])


def _names(number: int) -> list[str]:
    return [str(k) for k in range(number)]


def _gene_sums(inner: Any) -> GeneSums:
    """Mean and dispersion of each gene over all cells, each of which is checked."""
    sums = GeneSums(inner.n_vars)
    for tensors in inner:
        counts = tensors[REGISTRY_KEYS.X_KEY].numpy()
        found = check_counts(counts.ravel())
        if found is not None:
            raise InvalidCountsError(
                f"The collection holds a value that is no UMI count: {found[0]}, gene "
                f"{_gene_names(inner)[found[1] % inner.n_vars]!r}. Name the layer of the raw counts with layer=."
            )
        sums.add(counts, counts.sum(1, dtype=np.float64))
    return sums
