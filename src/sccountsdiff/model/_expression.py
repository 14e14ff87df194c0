"""Expected expression, in scVI's terms."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from scvi import REGISTRY_KEYS, settings
from torch import Tensor

from sccountsdiff.model._compat import FIELD_REGISTRIES_KEY, STATE_REGISTRY_KEY
from sccountsdiff.model._fields import CountsField
from sccountsdiff.model._guards import cell_positions, gene_positions
from sccountsdiff.model._inference import InferenceMixin, frame
from sccountsdiff.model._module import Cells
from sccountsdiff.model._random import generators
from sccountsdiff.model._record import UNS_KEY, add_layer, check_layer_shape, provenance
from sccountsdiff.nets import Library


class ExpressionMixin(InferenceMixin):
    """Normalised expression."""

    @torch.inference_mode()
    def get_normalized_expression(
        self,
        adata: AnnData | None = None,
        indices: ArrayLike | None = None,
        transform_batch: Any = None,
        gene_list: Sequence[str] | None = None,
        library_size: float | Literal["latent", "observed"] = 1,
        n_samples: int = 1,
        n_samples_overall: int | None = None,
        weights: Literal["uniform"] | None = None,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool | None = None,
        silent: bool = True,
        dataloader: Iterable[dict[str, Tensor]] | None = None,
        layer_added: str | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> np.ndarray | pd.DataFrame | None:
        """Expected expression of each gene given all that was measured of the cell.

        The posterior mean of the rate (limit of survival 1), as a share of the cell's total. The cell's own batch is
        part of its condition: pass ``transform_batch`` to compare cells as if measured in the same batch.

        Parameters
        ----------
        adata
            Data with the genes of the training data; ``None`` is the training data.
        indices
            Cells to use: positions (negative ones count from the end) or a boolean mask; ``None`` is all.
        transform_batch
            Batch in which the cells are thought to be measured, or several to average over; ``None`` is their own.
        gene_list
            Genes to return, in this order; ``None`` is all.
        library_size
            Total that the expression of a cell adds up to, over all genes (of each modality). ``"latent"`` or ``"observed"`` keeps the
            scale of the counts: expected UMIs of a fresh measurement as deep as the cell's own.
        n_samples
            Number of draws from the closed-form posterior of the rates. 1 is the posterior mean, without a draw.
        n_samples_overall
            Draw this many cells with replacement, and one posterior draw for each: what differential expression needs.
        weights
            ``"uniform"`` or ``None``: cells are drawn with equal weights.
        batch_size
            Cells in a minibatch; ``None`` is :attr:`scvi.settings.batch_size`.
        return_mean
            Whether to return the mean over draws or the draws.
        return_numpy
            Whether to return an array instead of a DataFrame; draws always come as an array.
        silent
            Whether to hide the progress bar.
        dataloader
            Minibatches to use instead of ``adata``; the result is an array.
        layer_added
            Name of a layer to write the result to, instead of returning it.
        seed
            Seed of the draws; ``None`` follows :attr:`scvi.settings.seed`.
        **kwargs
            Ignored options of scVI's method.

        Returns
        -------
        DataFrame ``(n_cells, n_genes)``; array ``(n_samples, n_cells, n_genes)`` if ``return_mean=False`` and
        ``n_samples > 1``; array ``(n_samples_overall, n_genes)`` if that is given; nothing if ``layer_added`` is.

        Raises
        ------
        KeyError
            If a gene of ``gene_list`` is not in the data.
        ValueError
            If a batch is unknown, or a selection of cells or genes is to be written to a layer.
        """
        if weights not in (None, "uniform"):
            self.get_importance_weights()
        whole = indices is None and gene_list is None and n_samples_overall is None and dataloader is None
        check_layer_shape(layer_added, whole and (return_mean or n_samples == 1))
        generator, rng = generators(seed, self.module.device)
        with self._data(adata, dataloader) as data:
            genes = slice(None) if data is None else gene_positions(data, gene_list)
            cells = None if data is None else cell_positions(data, indices)
            if n_samples_overall is not None and cells is not None:
                cells = rng.choice(cells, n_samples_overall)
            draw = None if n_samples == 1 and n_samples_overall is None else generator
            blocks = [
                self._expression(minibatch, transform_batch, genes, library_size, n_samples, draw, return_mean)
                for minibatch in self._minibatches(
                    data, cells, batch_size, dataloader, None if silent else "Expression"
                )
            ]
            values = np.concatenate(blocks, axis=-2)
            if layer_added is not None and data is not None:
                note = provenance(
                    "get_normalized_expression",
                    library_size=library_size,
                    n_samples=n_samples,
                    transform_batch=transform_batch,
                    seed=seed,
                )
                add_layer(data, layer_added, values, note, self._counts_layer)
                return None
            as_array = n_samples_overall is not None or values.ndim == 3 or data is None
            if as_array and return_numpy is False and data is not None:
                warnings.warn(
                    "Several draws do not fit into a DataFrame; returning an array.",
                    UserWarning,
                    stacklevel=settings.warnings_stacklevel,
                )
            if as_array or return_numpy or data is None or cells is None:
                return values
            return frame(values, data, cells, genes)

    def differential_expression(self, adata: AnnData | None = None, *args: Any, **kwargs: Any) -> pd.DataFrame:
        """Differential expression between groups of cells, from posterior draws of the normalised expression.

        The arguments and result of :meth:`scvi.model.base.RNASeqMixin.differential_expression`, in its ``"vanilla"``
        and ``"change"`` modes. Its probabilities are the model's own, not error rates: it calls few null genes
        (``is_de_fdr_0.05`` about 0.5 %) and fewer true ones than a test of the counts. Where an error rate has to hold,
        believe ``test_markers``.
        """
        with self._using(adata) as data:
            warn_of_model_counts(data, self._counts_layer)
            # scvi-tools computes this column once and never again, also if the counts were changed.
            if "_scvi_raw_norm_scaling" in data.obs:
                del data.obs["_scvi_raw_norm_scaling"]
            return super().differential_expression(data, *args, **kwargs)

    def _expression(
        self,
        cells: Cells,
        transform_batch: Any,
        genes: Any,
        library_size: float | str,
        n_samples: int,
        generator: torch.Generator | None,
        return_mean: bool,
    ) -> NDArray[np.float32]:
        """Expression of a minibatch, averaged over batches and (if wanted) draws: ``([n_samples,] n_cells, n_genes)``.

        ``generator=None`` takes the posterior mean instead of draws.
        """
        posteriors = [self.module.denoise(self._in_batch(cells, code)) for code in self._batch_codes(transform_batch)]
        n_draws = n_samples if generator is not None else 1
        draws: list[Tensor] = []
        for _ in range(n_draws):
            rates = [p.rate if generator is None else p.draw_rate(generator) for p in posteriors]
            scaled = [_scaled(rate.float(), library_size, cells.library)[:, genes] for rate in rates]
            expression = scaled[0] if len(scaled) == 1 else torch.stack(scaled).mean(0)
            if return_mean and draws:
                draws[0] += expression  # a running sum: memory does not grow with the number of draws
            else:
                draws.append(expression)
        if return_mean or n_draws == 1:
            return (draws[0] / n_draws).cpu().numpy()
        return torch.stack(draws).cpu().numpy()

    @property
    def _library_mean(self) -> float:
        """Mean library size of the training cells, in UMI counts."""
        state = self.registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY][STATE_REGISTRY_KEY]
        return float(state[CountsField.LIBRARY_MEAN_KEY])

    @property
    def _counts_layer(self) -> str | None:
        """Layer of the raw counts; None for ``.X``."""
        return self.registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY]["data_registry"]["attr_key"]


def _scaled(rate: Tensor, library_size: float | str, library: Library) -> Tensor:
    """Rates that add up to the library size asked for, in each modality."""
    if library_size in ("latent", "observed"):
        return rate
    if isinstance(library_size, str):
        raise ValueError(f"library_size must be a number, 'latent' or 'observed', got {library_size!r}.")
    return rate * library.spread(library_size / library.total(rate))


def warn_of_model_counts(data: AnnData, layer: str | None) -> None:
    """Warn if the counts of the data were written by a model of this package."""
    if layer is not None and layer in data.uns.get(UNS_KEY, {}):
        warnings.warn(
            f"The counts in layer {layer!r} were drawn by a model, and a test takes them for measurements: differences "
            "that the model made up will look certain. Test the raw counts.",
            UserWarning,
            stacklevel=settings.warnings_stacklevel,
        )
