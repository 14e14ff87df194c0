"""Hidden, missing and noisy entries filled in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from scvi import settings
from torch import Tensor

from sccountsdiff.conditioning import LIBRARY_SIZE
from sccountsdiff.data import row_readable
from sccountsdiff.model._expression import ExpressionMixin
from sccountsdiff.model._fields import dense_rows
from sccountsdiff.model._guards import cell_positions, gene_positions
from sccountsdiff.model._inference import frame
from sccountsdiff.model._module import Cells, fresh_measurement
from sccountsdiff.model._random import generators
from sccountsdiff.model._record import add_layer, check_layer_shape, provenance
from sccountsdiff.model._walk import walk_grid
from sccountsdiff.sampling import Known, Sampler

Replace = Literal["masked", "zeros", "all"]


@dataclass(frozen=True)
class _Request:
    """What to compute for each minibatch."""

    replace: Replace
    quantiles: tuple[float, ...]
    n_samples: int | None
    grid: Tensor
    generator: torch.Generator
    genes: Any


class ImputeMixin(ExpressionMixin):
    """Imputation."""

    @torch.inference_mode()
    def impute(
        self,
        adata: AnnData | None = None,
        indices: ArrayLike | None = None,
        *,
        mask: str | Any | None = None,
        replace: Replace | None = None,
        n_samples: int | None = None,
        quantiles: float | Sequence[float] | None = None,
        gene_list: Sequence[str] | None = None,
        n_steps: int = 20,
        batch_size: int | None = None,
        seed: int | None = None,
        layer_added: str | None = "imputed",
        silent: bool = True,
    ) -> pd.DataFrame | NDArray[Any] | None:
        """Fill in entries: those hidden by a mask, the zeros, or all of them.

        Values are on the scale of the counts. Each entry filled in is the expected count of a fresh measurement of the
        cell given what was seen of it, in one pass. Do not feed imputed values to tests that assume counts.

        Parameters
        ----------
        adata
            Data with the genes of the training data; ``None`` is the training data.
        indices
            Cells to use; ``None`` is all.
        mask
            Entries to hide: name of a boolean layer, or a boolean array or sparse matrix ``(n_cells, n_genes)`` over
            all cells of ``adata``; True = hidden. Values at hidden entries are not used. Entries that the
            ``observed_layer`` of the setup calls not measured are hidden always.
        replace
            Which entries to fill in: ``"masked"`` (the hidden ones; the default with a mask), ``"zeros"`` (these and
            the zeros) or ``"all"`` (the default without a mask). The others keep their counts.
        n_samples
            Return this many draws of integer counts instead of the mean. Hidden entries of a cell are drawn together,
            by a walk that keeps what was seen.
        quantiles
            Return these quantiles of the counts instead of the mean, in closed form.
        gene_list
            Genes to return, in this order; ``None`` is all.
        n_steps
            Steps of the walk that draws hidden entries.
        batch_size
            Cells in a minibatch; ``None`` is :attr:`scvi.settings.batch_size`.
        seed
            Seed of the draws; ``None`` follows :attr:`scvi.settings.seed`.
        layer_added
            Name of the layer to write to; several draws or quantiles go to ``<name>_sample0``, ``<name>_q0.05`` and so
            on. ``None`` returns the result instead.
        silent
            Whether to hide the progress bar.

        Returns
        -------
        Nothing if ``layer_added`` is given. Else a DataFrame of means ``(n_cells, n_genes)``, an integer array of
        draws ``(n_samples, n_cells, n_genes)`` or an array of quantiles ``(n_quantiles, n_cells, n_genes)``.

        Raises
        ------
        ValueError
            If the mask is not boolean or has the wrong shape, if both draws and quantiles are asked for, or if a
            selection of cells or genes is to be written to a layer.
        """
        levels = () if quantiles is None else tuple(np.atleast_1d(np.asarray(quantiles, dtype=float)))
        replace = _checked_replace(replace, mask, n_samples, levels)
        check_layer_shape(layer_added, indices is None and gene_list is None)
        generator, _ = generators(seed, self.module.device)
        grid = walk_grid(self._library_mean, n_steps)
        with self._using(adata) as data:
            hidden = _checked_mask(data, mask)
            cells = cell_positions(data, indices)
            request = _Request(replace, levels, n_samples, grid, generator, gene_positions(data, gene_list))
            blocks = list(self._imputed(data, cells, hidden, request, batch_size, None if silent else "Imputing"))
            values = np.concatenate(blocks, axis=1)
            names = _layer_names(layer_added, levels, n_samples)
            if layer_added is None:
                plain = not levels and n_samples is None
                return frame(values[0], data, cells, request.genes) if plain else values
            note = provenance(
                "impute",
                replace=replace,
                mask=mask if isinstance(mask, str) else None if mask is None else "array",
                n_samples=n_samples,
                quantiles=None if not levels else np.asarray(levels),
                n_steps=n_steps if n_samples else None,
                seed=seed,
            )
            for name, layer in zip(names, values, strict=True):
                add_layer(data, name, layer, note, self._counts_layer)
            return None

    def _imputed(
        self,
        adata: AnnData,
        cells: NDArray[np.integer],
        hidden: Any,
        request: _Request,
        batch_size: int | None,
        description: str | None,
    ) -> Iterator[NDArray[Any]]:
        """Results of each minibatch, ``(n_results, n_cells, n_genes)``."""
        size = batch_size or settings.batch_size
        for start, minibatch in enumerate(self._minibatches(adata, cells, size, description=description)):
            if hidden is not None:
                rows = cells[start * size : (start + 1) * size]
                mask = torch.as_tensor(dense_rows(hidden, rows).astype(bool), device=minibatch.counts.device)
                minibatch = hide(minibatch, mask)
            yield self._impute_cells(minibatch, request)

    def _impute_cells(self, cells: Cells, request: _Request) -> NDArray[Any]:
        posterior = self.module.denoise(cells)
        hidden = torch.zeros_like(cells.counts, dtype=torch.bool) if cells.observed is None else ~cells.observed
        filled = {
            "masked": hidden,
            "zeros": hidden | (cells.counts == 0),
            "all": torch.ones_like(hidden),
        }[request.replace]
        if request.n_samples is not None:
            results = [self._draw(cells, posterior, hidden, request) for _ in range(request.n_samples)]
        elif request.quantiles:
            fresh = fresh_measurement(posterior)
            results = [fresh.quantile(level) for level in request.quantiles]
        else:
            results = [posterior.rate]
        dtype = np.int32 if request.n_samples is not None else np.float32
        kept = [torch.where(filled, result, cells.counts)[:, request.genes] for result in results]
        return torch.stack(kept).cpu().numpy().astype(dtype)

    def _draw(self, cells: Cells, posterior: Any, hidden: Tensor, request: _Request) -> Tensor:
        """Integer counts: hidden entries together by a walk, seen ones as a fresh measurement."""
        fresh = fresh_measurement(posterior).draw(request.generator)
        if not bool(hidden.any()):
            return fresh
        sampler = Sampler(self.module.objective.process, self.module.denoiser)
        known = Known(cells.counts, ~hidden)
        walked = sampler.sample(torch.zeros_like(cells.counts), cells.condition, request.grid, known, request.generator)
        return torch.where(hidden, walked, fresh)


def hide(cells: Cells, mask: Tensor) -> Cells:
    """The cells with more entries hidden: their counts are not used, and the library size is unknown."""
    observed = ~mask if cells.observed is None else cells.observed & ~mask
    library = cells.condition[LIBRARY_SIZE].masked_fill(mask.any(-1), torch.nan)
    return Cells(cells.counts.masked_fill(mask, 0), {**cells.condition, LIBRARY_SIZE: library}, observed)


def _checked_replace(
    replace: Replace | None, mask: Any, n_samples: int | None, quantiles: tuple[float, ...]
) -> Replace:
    if n_samples is not None and quantiles:
        raise ValueError("Ask for n_samples or for quantiles, not for both.")
    if n_samples is not None and n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
    if replace is None:
        return "all" if mask is None else "masked"
    if replace not in ("masked", "zeros", "all"):
        raise ValueError(f"replace must be 'masked', 'zeros' or 'all', got {replace!r}.")
    return replace


def _checked_mask(adata: AnnData, mask: Any) -> Any:
    """The mask in a form whose rows can be read; None if there is none."""
    if mask is None:
        return None
    if isinstance(mask, str):
        if mask not in adata.layers:
            raise KeyError(f"adata has no layer {mask!r} to use as mask.")
        mask = adata.layers[mask]
    if isinstance(mask, pd.DataFrame):
        mask = mask.to_numpy()
    if mask.shape != adata.shape:
        raise ValueError(f"The mask has shape {mask.shape}, adata has {adata.shape}.")
    if mask.dtype != np.bool_:
        raise ValueError(f"The mask must be boolean (True = hidden), got dtype {mask.dtype}. Use mask.astype(bool).")
    return row_readable(mask)


def _layer_names(layer: str | None, quantiles: tuple[float, ...], n_samples: int | None) -> list[str]:
    if quantiles:
        return [f"{layer}_q{level:g}" for level in quantiles]
    if n_samples is not None and n_samples > 1:
        return [f"{layer}_sample{k}" for k in range(n_samples)]
    return [str(layer)]
