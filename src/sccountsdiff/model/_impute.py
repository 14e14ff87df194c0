"""Hidden, missing and noisy entries filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from sccountsdiff.data import MemorySink, smaller_form
from sccountsdiff.model._answer import Answer, parse_answer
from sccountsdiff.model._cell_job import CellJob
from sccountsdiff.model._depth import parse_depth
from sccountsdiff.model._destination import Out, parse_out
from sccountsdiff.model._expression import ExpressionMixin
from sccountsdiff.model._guards import gene_positions
from sccountsdiff.model._imputation import Imputation, check_depth
from sccountsdiff.model._inference import frame
from sccountsdiff.model._method import Engine, Method, parse_method
from sccountsdiff.model._override import parse_override
from sccountsdiff.model._question import Question, Replace, parse_mask, parse_replace
from sccountsdiff.model._random import seeded
from sccountsdiff.model._record import add_columns, add_layer, check_layer_name, check_layer_shape, provenance
from sccountsdiff.model._streaming import Seed, Selection, seed_to_begin


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
        target_depth: str | float | ArrayLike | None = None,
        condition: Mapping[str, Any] | None = None,
        n_samples: int | None = None,
        quantiles: float | Sequence[float] | None = None,
        return_mean: bool | None = None,
        return_variance: bool = False,
        gene_list: Sequence[str] | None = None,
        method: str | Method = "direct",
        n_steps: int | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
        layer_added: str | None = "imputed",
        out: Out | None = None,
        silent: bool = True,
    ) -> pd.DataFrame | NDArray[Any] | Any | None:
        """Fill in entries (those hidden by a mask, the zeros, or all), or recover cells at a larger depth.

        Values are on the scale of the counts. An entry that is filled in is the expected count of a fresh measurement
        of the cell given what was seen of it, in one pass. Do not feed imputed values to tests that assume counts.

        Parameters
        ----------
        adata
            Data with the genes of the training data; ``None`` is the training data.
        indices
            Cells to use; ``None`` is all. A selection is returned or written to ``out``, never to a layer.
        mask
            Entries to hide: name of a boolean layer, or a boolean array or sparse matrix ``(n_cells, n_genes)`` over
            all cells of ``adata``; True = hidden. Values at hidden entries are not used. Entries that were not measured
            according to the setup are hidden always.
        replace
            Which entries to fill in: ``"masked"`` (the hidden ones; the default with a mask), ``"zeros"`` (these and
            the zeros) or ``"all"`` (the default without a mask). The others keep their counts.
        target_depth
            Depth to recover the cells to: UMIs, one number or one for each cell of ``adata``, or a fold of each cell's
            own depth such as ``"4x"``. Every entry keeps its molecules and gains those it lacks. The result is one
            draw of integer counts, unless draws, quantiles or ``return_mean=True`` are asked for.
        condition
            Values of condition keys to use in place of the cells' own, by the names of the ``obs`` columns: one value,
            or one for each cell of ``adata``.
        n_samples
            Return this many draws of integer counts instead of the mean. Missing molecules of a cell are drawn
            together, by a walk that keeps what was seen.
        quantiles
            Return these quantiles of the counts instead of the mean, entry by entry in closed form.
        return_mean
            Whether to return expected counts: in closed form, or if ``n_samples`` is given the mean over draws.
            ``None`` follows from the other arguments.
        return_variance
            Whether to return the variance of the counts of each entry beside the expected counts, in closed form: that
            of a fresh measurement, sampling noise included; 0 where the count is kept. It goes to
            ``<name>_variance``.
        gene_list
            Genes to return, in this order; ``None`` is all. The result goes to ``adata.obsm`` instead of a layer, as a
            DataFrame.
        method
            ``"direct"``, where the network knows which entries were seen; ``"repaint"``, the paper's imputation with
            the paper's settings, for comparison (draws only); or a :class:`~sccountsdiff.model.Direct` or
            :class:`~sccountsdiff.model.RePaint` with other settings.
        n_steps
            Steps of the walk that draws; ``None`` is the default of the method. 1 draws entries independently.
        batch_size
            Cells in a minibatch; ``None`` is :attr:`scvi.settings.batch_size`, on a GPU what takes 1 GB of its memory.
        seed
            Seed of the draws; ``None`` follows :attr:`scvi.settings.seed`.
        layer_added
            Name of the layer to write to; several draws or quantiles go to ``<name>_sample0``, ``<name>_q0.05`` and so
            on. Draws are sparse where that is smaller. ``None`` returns the result instead.
        out
            File ending in ``.zarr`` or ``.h5ad`` to write the layers to instead, in constant memory: an AnnData with
            the names of the cells and genes. After an interruption the same call goes on where it was. Or a
            :class:`~sccountsdiff.model.Shard`, :class:`~sccountsdiff.model.Merge` or
            :class:`~sccountsdiff.model.Dask`, to work in several processes.
        silent
            Whether to hide the progress bar.

        Returns
        -------
        Nothing if the result is written. Else a DataFrame of means ``(n_cells, n_genes)``; an array of mean and variance
        ``(2, n_cells, n_genes)`` or of quantiles ``(n_quantiles, n_cells, n_genes)``; a list of ``n_samples`` draws, each
        a ``csr_matrix`` of integer counts ``(n_cells, n_genes)``; or one such matrix, the draw of ``target_depth``.

        Raises
        ------
        KeyError
            If there is no layer or gene of that name.
        ValueError
            If the mask is not boolean or has the wrong shape, a cell has more UMIs than its ``target_depth``, a
            condition is unknown, arguments contradict each other, or a selection of cells is to be written to a layer.
        FileExistsError
            If ``out`` holds something else than (part of) the result of the same request.

        References
        ----------
        CountsDiff (arXiv 2604.03779) for ``"repaint"``; a survival for every entry is this package's own.
        """
        how = parse_method(method, n_steps)
        replace = parse_replace(replace, mask, target_depth)
        if return_mean is None:
            return_mean = n_samples is None and target_depth is None and how.closed_form
        answer = parse_answer(how, n_samples, quantiles, return_mean, return_variance)
        with self._using(adata) as data:
            self._check_destination(data, layer_added, answer, indices, gene_list, out)
            question = Question(
                replace,
                parse_mask(data, mask),
                parse_depth(target_depth, data.n_obs),
                parse_override(condition, self._sources, data.n_obs),
            )
            how.check(question)
            genes = gene_positions(data, gene_list)
            engine = Engine(self.module.denoiser, self.module.objective.process, self._library_mean)
            task = Imputation(question, how, answer, engine, genes, str(layer_added))
            job = self._job(task, data, Selection(indices, batch_size, silent=silent))
            check_depth(job, question, data.obs_names)
            note = provenance(
                "impute",
                holds=answer.holds,
                replace=None if question.depth else replace,
                mask=mask if isinstance(mask, str) else None if mask is None else "array",
                target_depth=target_depth,
                condition=None if condition is None else ", ".join(condition),
                n_samples=n_samples,
                quantiles=None if quantiles is None else np.atleast_1d(quantiles),
                imputation=how,
            )
            seed = None if answer.closed_form else seed  # it would make no difference
            if out is None:
                return self._write_layers(job, data, layer_added, note, seed)
            out = parse_out(out)
            begun = Seed() if answer.closed_form else seed_to_begin(out, seed)
            self._write_answers(job, data, out, note, begun, genes)
            return None

    def _write_layers(
        self, job: CellJob, data: AnnData, layer_added: str | None, note: dict[str, Any], seed: int | None
    ) -> Any:
        """Keep the results in memory, as layers or columns of the data, or return them."""
        task, cells = job.task, job.reader.cells.rows
        assert isinstance(task, Imputation)
        # A closed form needs no seed, so that none is drawn from the global generator.
        seed = None if task.form.closed_form else seeded(seed)
        sink = MemorySink(job.chunks)
        job.fill(sink, seed or 0)

        def named(result: Any) -> pd.DataFrame:
            return frame(result.toarray() if sparse.issparse(result) else result, data, cells, task.genes)

        if layer_added is None:
            combined = task.form.combined(sink.matrices())
            return named(combined) if isinstance(combined, np.ndarray) and combined.ndim == 2 else combined
        for name, result in zip(task.form.names(layer_added), sink.matrices(), strict=True):
            if isinstance(task.genes, slice):
                add_layer(data, name, smaller_form(result), {**note, "seed": seed}, self._counts_layer)
            else:
                add_columns(data, name, named(result), {**note, "seed": seed})
        return None

    def _check_destination(
        self, data: AnnData, layer_added: str | None, answer: Answer, indices: Any, gene_list: Any, out: Any
    ) -> None:
        """Refuse what cannot be written, before anything is computed."""
        if out is not None:
            if layer_added is None:
                raise ValueError("out= writes layers: give them a name with layer_added=.")
            return
        check_layer_shape(layer_added, indices is None)
        for name in [] if layer_added is None else answer.names(layer_added):
            if gene_list is None:
                check_layer_name(data, name, self._counts_layer)
            elif name in (source.name for source in self._sources if source.shape):
                raise ValueError(f"adata.obsm[{name!r}] is a condition of the model and is never written.")
