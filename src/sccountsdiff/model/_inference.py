"""What a trained model says about measured cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from scvi import REGISTRY_KEYS
from torch import Tensor

from sccountsdiff.model._destination import Out, parse_out
from sccountsdiff.model._guards import cell_positions, gene_positions
from sccountsdiff.model._measurements import Bound, Features
from sccountsdiff.model._modalities import Modalities, modalities_of
from sccountsdiff.model._module import Cells, CountDiffusionModule, fresh_measurement
from sccountsdiff.model._names import resolve_category
from sccountsdiff.model._random import generators, seeded
from sccountsdiff.model._record import provenance
from sccountsdiff.model._setup import ConditionSource
from sccountsdiff.model._sparse import sparse_block
from sccountsdiff.model._streaming import Seed, Selection, StreamingMixin, named_cells, seed_to_begin

if TYPE_CHECKING:
    from sparse import GCXS


class BoundEstimate(NamedTuple):
    """A bound in nats per cell, and how precisely it was computed.

    Parameters
    ----------
    nats
        Mean over cells of the upper bound on ``-log p(x | library size, condition)``.
    error
        Monte-Carlo standard error of that mean (for these cells; not the spread between cells).
    """

    nats: float
    error: float


class InferenceMixin(StreamingMixin):
    """Bound, representation and posterior predictive counts."""

    module: CountDiffusionModule
    _sources: tuple[ConditionSource, ...]

    @property
    def _modalities(self) -> Modalities | None:
        """The modalities of the features, if there are several."""
        return modalities_of(self.registry)

    def _data(
        self, adata: AnnData | None, dataloader: Iterable[dict[str, Tensor]] | None = None
    ) -> AbstractContextManager[AnnData | None]:
        """The validated data while in use; nothing if there is a dataloader."""
        return nullcontext() if dataloader is not None else self._using(adata)

    def _minibatches(
        self,
        adata: AnnData | None,
        cells: NDArray[np.integer] | None,
        batch_size: int | None,
        dataloader: Iterable[dict[str, Tensor]] | None = None,
        description: str | None = None,
    ) -> Iterator[Cells]:
        """Minibatches on the device of the model; a description shows a progress bar."""
        if dataloader is None:
            size = self.module.minibatch_size(batch_size, self.summary_stats.n_vars)
            dataloader = self._make_data_loader(adata=adata, indices=cells, batch_size=size)
        return self._loaded(dataloader, description)

    @torch.inference_mode()
    def get_elbo(
        self,
        adata: AnnData | None = None,
        indices: ArrayLike | None = None,
        batch_size: int | None = None,
        n_samples: int = 16,
        return_mean: bool = True,
        dataloader: Iterable[dict[str, Tensor]] | None = None,
        seed: int | None = 0,
        out: Out | None = None,
    ) -> BoundEstimate | NDArray[np.float32] | None:
        """Upper bound on ``-log p(x | library size, condition)`` in nats: lower is better.

        The sign is that of a loss, unlike scVI's ``get_elbo``. The library size is given to the model.

        Parameters
        ----------
        adata
            Data with the genes of the training data; ``None`` is the training data.
        indices
            Cells to use; ``None`` is all.
        batch_size
            Cells in a minibatch; ``None`` is :attr:`scvi.settings.batch_size`, on a GPU what takes 1 GB of its memory.
        n_samples
            Survivals drawn for each cell, an even number; stratified.
        return_mean
            Whether to return the mean over cells with its error, or the bound of each cell.
        dataloader
            Minibatches to use instead of ``adata``.
        seed
            Seed of the draws.
        out
            File ending in ``.zarr`` or ``.h5ad`` to write to instead, see :meth:`impute`: an AnnData with
            ``obs["elbo"]``, the bound of each cell, and ``obs["elbo_error"]``, of which the root of the mean square is
            the Monte-Carlo error of a cell.

        Returns
        -------
        :class:`BoundEstimate`, or the bounds of the cells ``(n_cells,)``; nothing if they are written to ``out``.

        Raises
        ------
        ValueError
            If ``n_samples`` is odd.
        FileExistsError
            If ``out`` holds something else than (part of) the result of the same request.
        """
        if n_samples < 2 or n_samples % 2:
            raise ValueError(f"n_samples must be an even number of at least 2, got {n_samples}.")
        task = Bound(self.module, n_samples)
        selection = Selection(indices, batch_size, dataloader)
        with self._data(adata, dataloader) as data:
            if out is not None:
                out, note = parse_out(out), provenance("get_elbo", n_samples=n_samples)
                named = named_cells(data)
                self._write_answers(self._job(task, named, selection), named, out, note, seed_to_begin(out, seed))
                return None
            bounds, errors = self._answers(task, data, selection, seeded(seed))
        if not return_mean:
            return bounds.ravel().astype(np.float32)
        return BoundEstimate(float(bounds.mean()), float(np.sqrt(np.square(errors).sum()) / len(errors)))

    @torch.inference_mode()
    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: ArrayLike | None = None,
        batch_size: int | None = None,
        use_condition: bool = False,
        dataloader: Iterable[dict[str, Tensor]] | None = None,
        out: Out | None = None,
        give_mean: bool = True,
    ) -> NDArray[np.float32] | None:
        """Features of the cells, for neighbours and clustering.

        They are the last hidden layer of the denoiser at survival 1, from which the expected expression of all genes
        is read off linearly (as logits). They are no latent variable with a prior: distances mean differences in
        expected expression.

        Parameters
        ----------
        adata
            Data with the genes of the training data; ``None`` is the training data.
        indices
            Cells to use; ``None`` is all.
        batch_size
            Cells in a minibatch; ``None`` is :attr:`scvi.settings.batch_size`, on a GPU what takes 1 GB of its memory.
        use_condition
            Whether the network is told the condition of each cell. By default it is withheld, so that labels do not
            leak into the representation. A model trained without condition dropout always gets it.
        dataloader
            Minibatches to use instead of ``adata``.
        out
            File ending in ``.zarr`` or ``.h5ad`` to write to instead, see :meth:`impute`: an AnnData with
            ``obsm["X_sccountsdiff"]``.
        give_mean
            As for scVI; of no effect, for these features are not drawn.

        Returns
        -------
        ``(n_cells, n_hidden)``; nothing if they are written to ``out``.

        Raises
        ------
        FileExistsError
            If ``out`` holds something else than (part of) the result of the same request.
        """
        withhold = not use_condition and self.module.denoiser.condition_dropout > 0
        task = Features(self.module, tuple(source.name for source in self._sources) if withhold else ())
        selection = Selection(indices, batch_size, dataloader)
        with self._data(adata, dataloader) as data:
            if out is not None:
                note = provenance("get_latent_representation", use_condition=use_condition)
                named = named_cells(data)
                self._write_answers(self._job(task, named, selection), named, parse_out(out), note, Seed())
                return None
            (features,) = self._answers(task, data, selection)
            return features

    @torch.inference_mode()
    def posterior_predictive_sample(
        self,
        adata: AnnData | None = None,
        indices: ArrayLike | None = None,
        transform_batch: Any = None,
        n_samples: int = 1,
        gene_list: Sequence[str] | None = None,
        batch_size: int | None = None,
        dataloader: Iterable[dict[str, Tensor]] | None = None,
        silent: bool = True,
        seed: int | None = None,
        **data_loader_kwargs: Any,
    ) -> GCXS:
        """Integer counts of fresh measurements of the same cells.

        Each draw takes a rate from its posterior and Poisson counts given the rate: negative binomial in closed form.

        Parameters
        ----------
        adata
            Data with the genes of the training data; ``None`` is the training data.
        indices
            Cells to use; ``None`` is all.
        transform_batch
            Batch in which the cells are thought to be measured; ``None`` is their own.
        n_samples
            Number of draws.
        gene_list
            Genes to return, in this order; ``None`` is all.
        batch_size
            Cells in a minibatch; ``None`` is :attr:`scvi.settings.batch_size`, on a GPU what takes 1 GB of its memory.
        dataloader
            Minibatches to use instead of ``adata``.
        silent
            Whether to hide the progress bar.
        seed
            Seed of the draws; ``None`` follows :attr:`scvi.settings.seed`.

        Returns
        -------
        Sparse counts ``(n_cells, n_genes)``, or ``(n_cells, n_genes, n_samples)`` if ``n_samples > 1``.
        """
        import sparse

        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
        generator, _ = generators(seed, self.module.device)
        draws: list[list[scipy.sparse.csr_matrix]] = [[] for _ in range(n_samples)]
        with self._data(adata, dataloader) as data:
            rows = None if data is None else cell_positions(data, indices)
            genes = slice(None) if data is None else gene_positions(data, gene_list)
            batch = self._batches(transform_batch)[0]
            for cells in self._minibatches(data, rows, batch_size, dataloader, None if silent else "Drawing"):
                fresh = fresh_measurement(*self.module.translate(cells, [batch]))
                for draw in draws:
                    draw.append(sparse_block(fresh.draw(generator)[:, genes]))
        stacked = [sparse.GCXS.from_scipy_sparse(scipy.sparse.vstack(draw, format="csr")) for draw in draws]
        return stacked[0] if n_samples == 1 else sparse.stack(stacked, axis=-1)

    def _batches(self, transform_batch: Any) -> list[dict[str, int]]:
        """For each batch asked for, the code to put in place of the cells' own; nothing for their own batch."""
        if transform_batch is None:
            return [{}]
        source = self._batch_source()
        several = isinstance(transform_batch, Iterable) and not isinstance(transform_batch, str)
        names = list(transform_batch) if several else [transform_batch]
        return [{} if name is None else {source.name: resolve_category(source, name)} for name in names]

    def _batch_source(self) -> ConditionSource:
        for source in self._sources:
            if source.registry_key == REGISTRY_KEYS.BATCH_KEY:
                return source
        raise ValueError("transform_batch needs a batch: setup_anndata was called without batch_key.")

    def get_likelihood_parameters(self, *args: Any, **kwargs: Any) -> Any:
        """Not offered: the likelihood is an integral over survivals; see :meth:`get_elbo`."""
        raise NotImplementedError("There is no decoder whose parameters could be returned. See get_elbo and impute.")

    def get_latent_library_size(self, *args: Any, **kwargs: Any) -> Any:
        """Not offered: the model conditions on the observed library size."""
        raise NotImplementedError("The library size is observed, not latent: it is the UMI total of the cell.")

    def get_importance_weights(self, *args: Any, **kwargs: Any) -> Any:
        """Not offered: posterior draws are exact, there is nothing to reweight."""
        raise NotImplementedError("Draws come from the posterior in closed form; use weights='uniform'.")


def frame(values: NDArray[Any], adata: AnnData, cells: NDArray[np.integer], genes: Any) -> pd.DataFrame:
    """Cells by genes, named."""
    return pd.DataFrame(values, index=adata.obs_names[cells], columns=adata.var_names[genes])
