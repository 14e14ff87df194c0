"""Expected expression, in scVI's terms."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import ArrayLike
from scvi import REGISTRY_KEYS, settings
from torch import Tensor

from sccountsdiff.model._compat import FIELD_REGISTRIES_KEY, STATE_REGISTRY_KEY
from sccountsdiff.model._contrasts import check_groups
from sccountsdiff.model._destination import Out, parse_out
from sccountsdiff.model._fields import CountsField
from sccountsdiff.model._guards import cell_positions, gene_positions
from sccountsdiff.model._inference import InferenceMixin, frame
from sccountsdiff.model._measurements import Expression, check_library_size
from sccountsdiff.model._random import seeded
from sccountsdiff.model._record import UNS_KEY, add_layer, check_layer_shape, provenance
from sccountsdiff.model._streaming import Seed, Selection, named_cells, seed_to_begin


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
        out: Out | None = None,
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
            Batch in which the cells are thought to be measured, or several to average over; ``None`` is their own. What
            a cell has of a gene is multiplied by the ratio of what the network expects in the two batches of a cell of
            which it sees one molecule in twenty: shown more, it would tell the batch by the counts.
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
            Cells in a minibatch; ``None`` is :attr:`scvi.settings.batch_size`, on a GPU what takes 1 GB of its memory.
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
        out
            File ending in ``.zarr`` or ``.h5ad`` to write to instead, in constant memory, see :meth:`impute`; the layer
            is called ``layer_added`` or ``"expression"``.
        **kwargs
            Ignored options of scVI's method.

        Returns
        -------
        DataFrame ``(n_cells, n_genes)``; array ``(n_samples, n_cells, n_genes)`` if ``return_mean=False`` and
        ``n_samples > 1``; array ``(n_samples_overall, n_genes)`` if that is given; nothing if ``layer_added`` or ``out``
        is.

        Raises
        ------
        KeyError
            If a gene of ``gene_list`` is not in the data.
        ValueError
            If a batch is unknown, a library size is not positive, or a selection of cells or genes is to be written to
            a layer.
        FileExistsError
            If ``out`` holds something else than (part of) the result of the same request.
        """
        check_library_size(library_size)
        if weights not in (None, "uniform"):
            self.get_importance_weights()
        drawn = n_samples > 1 or n_samples_overall is not None
        whole = indices is None and gene_list is None and n_samples_overall is None and dataloader is None
        check_layer_shape(None if out is not None else layer_added, whole and (return_mean or n_samples == 1))
        with self._data(adata, dataloader) as data:
            genes = slice(None) if data is None else gene_positions(data, gene_list)
            task = Expression(
                self.module,
                self._batches(transform_batch),
                genes,
                library_size,
                n_samples if drawn else None,
                return_mean,
                layer_added or "expression",
            )
            note = provenance(
                "get_normalized_expression",
                library_size=library_size,
                n_samples=n_samples,
                transform_batch=transform_batch,
            )
            selection = Selection(indices, batch_size, dataloader, silent)
            if out is not None:
                if n_samples_overall is not None:
                    raise ValueError("out= takes each cell once: leave out n_samples_overall, or draw with n_samples.")
                out, named = parse_out(out), named_cells(data)
                begun = seed_to_begin(out, seed) if drawn else Seed()
                self._write_answers(self._job(task, named, selection), named, out, note, begun, genes)
                return None
            number = seeded(seed) if drawn else 0
            cells = None if data is None else cell_positions(data, indices)
            if n_samples_overall is not None and cells is not None:
                cells = np.random.default_rng(number).choice(cells, n_samples_overall)
            draws = self._answers(task, data, selection._replace(indices=cells), number)
            values = draws[0] if len(draws) == 1 else np.stack(draws)
            if layer_added is not None and data is not None:
                add_layer(data, layer_added, values, {**note, "seed": number} if drawn else note, self._counts_layer)
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

    def differential_expression(
        self,
        adata: AnnData | None = None,
        groupby: str | None = None,
        group1: Any = None,
        group2: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> pd.DataFrame:
        """Differential expression between groups of cells, from posterior draws of the normalised expression.

        The arguments and result of :meth:`scvi.model.base.RNASeqMixin.differential_expression`, in its ``"vanilla"``
        and ``"change"`` modes. Its probabilities are the model's own, not error rates: it calls few null genes, and fewer
        true ones than a test of the counts. Where an error rate has to hold, believe ``test_markers``.
        """
        with self._using(adata) as data:
            warn_of_model_counts(data, self._counts_layer)
            # scvi-tools computes this column once and never again, also if the counts were changed.
            if "_scvi_raw_norm_scaling" in data.obs:
                del data.obs["_scvi_raw_norm_scaling"]
            if groupby is not None:
                several = isinstance(group1, Iterable) and not isinstance(group1, str)
                check_groups(data, groupby, [*(group1 if several else [group1]), group2])
            return super().differential_expression(data, groupby, group1, group2, *args, **kwargs)

    @property
    def _library_mean(self) -> float:
        """Mean library size of the training cells, in UMI counts."""
        state = self.registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY][STATE_REGISTRY_KEY]
        return float(state[CountsField.LIBRARY_MEAN_KEY])

    @property
    def _counts_layer(self) -> str | None:
        """Layer of the raw counts; None for ``.X``."""
        return self.registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY]["data_registry"]["attr_key"]


def warn_of_model_counts(data: AnnData, layer: str | None) -> None:
    """Warn if the counts of the data were written by a model of this package."""
    if layer is not None and layer in data.uns.get(UNS_KEY, {}):
        warnings.warn(
            f"The counts in layer {layer!r} were drawn by a model. Tests and models take them for measurements, and "
            "differences that it made up will look certain. Use the raw counts.",
            UserWarning,
            stacklevel=settings.warnings_stacklevel,
        )
