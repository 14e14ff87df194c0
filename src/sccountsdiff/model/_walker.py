"""The walk back of many cells, as generation uses it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scvi import REGISTRY_KEYS, settings
from scvi.utils import track
from torch import Tensor

from sccountsdiff.conditioning import LIBRARY_SIZE, Guidance
from sccountsdiff.model._compat import FIELD_REGISTRIES_KEY, STATE_REGISTRY_KEY
from sccountsdiff.model._expression import ExpressionMixin
from sccountsdiff.model._fields import CountsField
from sccountsdiff.model._population import Population
from sccountsdiff.model._request import CellPlan
from sccountsdiff.model._start import Start
from sccountsdiff.process import BIRTHS
from sccountsdiff.sampling import NoAttrition, RescaledAttrition, Sampler, survival_grid


@dataclass(frozen=True)
class WalkOptions:
    """Plain values that say how cells are walked back.

    Attributes
    ----------
    n_steps
        Steps from the start to whole cells.
    births
        Name of the law of births.
    attrition
        Part of the largest admissible death probability in each step.
    batch_size
        Cells walked at a time; None is that of scvi-tools.
    silent
        Whether to hide the progress bar.
    """

    n_steps: int
    births: str
    attrition: float
    batch_size: int | None
    silent: bool

    def blocks(self, cells: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        """The cells in blocks of the batch size."""
        step = self.batch_size or settings.batch_size
        return np.split(cells, range(step, len(cells), step))


class WalkMixin(ExpressionMixin):
    """Walks cells back, and remembers the training cells they take after."""

    population_: Population | None

    def _walk(
        self,
        plan: CellPlan,
        cells: NDArray[np.intp],
        start: Start,
        guide: Guidance,
        options: WalkOptions,
        generator: torch.Generator,
    ) -> sparse.csr_matrix:
        """Counts of some cells of the plan, walked back from their start, ``(n_cells, n_genes)``."""
        process = self.module.objective.process
        attrition = RescaledAttrition(options.attrition) if options.attrition else NoAttrition()
        sampler = Sampler(process, guide.wrap(self.module.denoiser), BIRTHS[options.births](), attrition)
        totals = plan.library_size.reshape(len(plan), -1).sum(1)
        known = totals[np.isfinite(totals)]
        size = float(known.mean()) if len(known) else self._library_mean
        grid = survival_grid(process.schedule(size), options.n_steps, start.survival)
        walked = []
        for block in track(options.blocks(cells), description="Generating", disable=options.silent):
            x_start = start.draw(plan, block, process, generator)
            drawn = sampler.sample(x_start, self._told(plan, block), grid, generator=generator)
            walked.append(sparse.csr_matrix(drawn.cpu().numpy().astype(np.int32)))
        return sparse.vstack(walked, format="csr")

    def _told(self, plan: CellPlan, cells: NDArray[np.intp]) -> dict[str, Tensor]:
        """Condition of some cells of the plan, as tensors."""
        device = self.module.device
        condition = {s.name: torch.as_tensor(plan.values[s.name][cells], device=device) for s in self._sources}
        return condition | {LIBRARY_SIZE: torch.as_tensor(plan.library_size[cells], device=device)}

    def _as_anndata(self, counts: sparse.csr_matrix, plan: CellPlan, names: pd.Index) -> AnnData:
        """The cells with their condition in ``obs`` and ``obsm``."""
        var = pd.DataFrame(index=self._gene_names)
        if self._modalities is not None:
            var[self._modalities.key] = self._modalities.of_features
        obs = pd.DataFrame(index=names)
        obsm = {}
        for source in self._sources:
            values = plan.values[source.name]
            if source.names is not None:
                obs[source.name] = source.names.column(values)
            elif values.ndim == 1:
                obs[source.name] = values
            else:
                obsm[source.name] = values
        if self._modalities is None:
            obs["requested_library_size"] = plan.library_size
        else:
            for name, sizes in zip(self._modalities.names, plan.library_size.T, strict=True):
                obs[f"requested_library_size_{name}"] = sizes
        layers = {} if self._counts_layer is None else {self._counts_layer: counts.copy()}
        return AnnData(counts, obs=obs, var=var, obsm=obsm, layers=layers)

    @property
    def _gene_names(self) -> pd.Index:
        """Genes of the model."""
        genes = self.registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY][STATE_REGISTRY_KEY]
        return pd.Index(genes[CountsField.COLUMN_NAMES_KEY]).astype(str)

    @property
    def _population(self) -> Population:
        """The training cells; read from the data if training did not leave them."""
        if self.population_ is None:
            self._remember_population()
        assert self.population_ is not None
        return self.population_

    def _remember_population(self, minibatches: Iterable[dict[str, Tensor]] | None = None) -> None:
        """Keep library size and condition of the training cells: generation works without the data later."""
        rows = None
        if minibatches is None:
            if self.adata is None:
                raise ValueError("The model knows no training cells: it was saved untrained. Load it with adata=.")
            # In the order of the file, which a disk reads many times faster than a random one.
            rows = np.arange(self.adata.n_obs) if self.train_indices is None else np.sort(self.train_indices)
            minibatches = self._make_data_loader(adata=self.adata, indices=rows, batch_size=1024)
        library, values, _ = self._read_cells(minibatches, with_counts=False)
        self.population_ = Population.of(np.arange(len(library)) if rows is None else rows, library, values)

    def _read_cells(
        self, minibatches: Iterable[dict[str, Tensor]], with_counts: bool
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]], sparse.csr_matrix | None]:
        """Library size, condition and, if wanted, counts of cells."""
        library: list[NDArray[Any]] = []
        columns: dict[str, list[NDArray[Any]]] = {source.name: [] for source in self._sources}
        counts = []
        for tensors in minibatches:
            cells = self.module.cells(tensors)
            library.append(cells.condition[LIBRARY_SIZE].cpu().numpy())
            for name, column in columns.items():
                column.append(cells.condition[name].cpu().numpy())
            if with_counts:
                counts.append(sparse.csr_matrix(cells.counts.cpu().numpy()))
        joined = {name: np.concatenate(column) for name, column in columns.items()}
        stacked = sparse.vstack(counts, format="csr") if with_counts else None
        return np.concatenate(library).astype(np.float32), joined, stacked
