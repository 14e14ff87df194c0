"""New cells with integer counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scvi import REGISTRY_KEYS, settings
from scvi.utils import track
from torch import Tensor

from sccountsdiff.conditioning import LIBRARY_SIZE, ClassifierFreeGuidance, CompositionalGuidance, Guidance
from sccountsdiff.data import row_readable
from sccountsdiff.model._compat import FIELD_REGISTRIES_KEY, STATE_REGISTRY_KEY
from sccountsdiff.model._expression import ExpressionMixin
from sccountsdiff.model._fields import CountsField, dense_rows
from sccountsdiff.model._population import Population
from sccountsdiff.model._random import seeded
from sccountsdiff.model._record import UNS_KEY, provenance
from sccountsdiff.model._request import CellPlan, Conditions, plan_cells
from sccountsdiff.model._walk import walk_grid
from sccountsdiff.process import BIRTHS
from sccountsdiff.sampling import NoAttrition, RescaledAttrition, Sampler


class GenerateMixin(ExpressionMixin):
    """Generation."""

    population_: Population | None

    @torch.inference_mode()
    def generate(
        self,
        condition: Conditions = None,
        n_cells: int | Sequence[int] | None = None,
        *,
        library_size: float | Sequence[float] | NDArray[Any] | None = None,
        guidance: float | Mapping[str, float] = 1.0,
        n_steps: int = 20,
        attrition: float = 0.0,
        start: Literal["zeros", "empirical"] = "zeros",
        start_survival: float = 0.05,
        births: str = "poisson",
        batch_size: int | None = None,
        seed: int | None = None,
        silent: bool = True,
    ) -> AnnData:
        """Generate cells.

        Parameters
        ----------
        condition
            Values of condition keys by the names of the ``obs`` columns, for example ``{"cell_type": "B cell"}``; a
            list of such dictionaries, or a DataFrame with one condition a row. Keys left out are drawn, cell by cell,
            from the training cells that have the categories given (if there are none, the model is told nothing).
        n_cells
            Number of cells, for each condition; a sequence for different numbers. ``None`` is as many as there were
            training cells.
        library_size
            UMI total that each cell is conditioned on: one number or one per cell. ``None`` draws it from the training
            cells of the condition.
        guidance
            Guidance scale: 1 follows the model, more exaggerates the condition. A mapping from keys to scales guides by
            each key on its own.
        n_steps
            Steps of the walk from empty to whole cells.
        attrition
            Part of the largest admissible death probability in each step, between 0 and 1.
        start
            ``"zeros"``: a pure sample of the model. ``"empirical"``: thin a training cell of the condition to
            ``start_survival`` of its molecules and walk from there, in 2 to 8 steps; the modes then come from the data.
        start_survival
            Part of the molecules kept by an empirical start.
        births
            How births are drawn: ``"poisson"``, ``"posterior"`` or ``"binomial"`` (the paper's).
        batch_size
            Cells generated at a time; ``None`` is :attr:`scvi.settings.batch_size`.
        seed
            Seed of the draws; ``None`` follows :attr:`scvi.settings.seed`.
        silent
            Whether to hide the progress bar.

        Returns
        -------
        AnnData with integer counts (sparse) in ``.X``, and in the layer that the model was set up with; the condition
        and the requested library size in ``.obs``; what was done in ``.uns["sccountsdiff"]``.

        Raises
        ------
        ValueError
            If a key or a category is unknown, or guidance is asked of a model trained without condition dropout.
        """
        self._check_if_trained(warn=True)
        self.module.eval()
        number = seeded(seed)
        generator = torch.Generator(self.module.device).manual_seed(number)
        population = self._population
        n_cells = len(population) if n_cells is None else n_cells
        plan = plan_cells(condition, n_cells, library_size, self._sources, population, np.random.default_rng(number))
        sampler = self._sampler(guidance, births, attrition)
        known = plan.library_size[np.isfinite(plan.library_size)]
        size = known.mean() if len(known) else self._library_mean
        grid = walk_grid(float(size), n_steps, _start_survival(start, start_survival))
        if start == "empirical":
            _check_templates(plan)

        step = batch_size or settings.batch_size
        blocks = np.split(np.arange(len(plan)), range(step, len(plan), step))
        counts = []
        for cells in track(blocks, description="Generating", disable=silent):
            x_start = self._start(plan, cells, float(grid[0]), generator)
            drawn = sampler.sample(x_start, self._condition(plan, cells), grid, generator=generator)
            counts.append(sparse.csr_matrix(drawn.cpu().numpy().astype(np.int32)))
        note = provenance(
            "generate",
            condition=condition,
            guidance=guidance,
            n_steps=n_steps,
            attrition=attrition,
            start=start,
            start_survival=start_survival if start == "empirical" else None,
            births=births,
            seed=number,
        )
        return self._as_anndata(sparse.vstack(counts, format="csr"), plan, note)

    def _sampler(self, guidance: float | Mapping[str, float], births: str, attrition: float) -> Sampler:
        guide: Guidance
        guide = CompositionalGuidance(guidance) if isinstance(guidance, Mapping) else ClassifierFreeGuidance(guidance)
        denoiser = guide.wrap(self.module.denoiser)
        deaths = RescaledAttrition(attrition) if attrition else NoAttrition()
        return Sampler(self.module.objective.process, denoiser, BIRTHS[births](), deaths)

    def _start(self, plan: CellPlan, cells: NDArray[np.intp], survival: float, generator: torch.Generator) -> Tensor:
        """Start of the walk: zeros, or thinned training cells."""
        device = self.module.device
        if survival == 0:
            return torch.zeros(len(cells), self.summary_stats.n_vars, device=device)
        population, templates = self._population, plan.template[cells]
        if self.adata is None:
            raise ValueError("start='empirical' needs the training data: load the model with adata=.")
        rows = population.rows[templates]
        counts = dense_rows(row_readable(self.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY)), rows)
        if not np.allclose(counts.sum(1), population.library_size[templates], equal_nan=True):
            raise ValueError("start='empirical' needs the training data, but the attached AnnData holds other cells.")
        # A cell of another size than its template is thinned in proportion.
        wanted = plan.library_size[cells] / np.maximum(population.library_size[templates], 1)
        alpha = torch.as_tensor((survival * wanted).clip(0, 1), device=device).float().unsqueeze(-1)
        x_0 = torch.as_tensor(counts.astype(np.float32), device=device)
        return self.module.objective.process.corrupt(x_0, alpha, generator)

    def _condition(self, plan: CellPlan, cells: NDArray[np.intp]) -> dict[str, Tensor]:
        device = self.module.device
        condition = {s.name: torch.as_tensor(plan.values[s.name][cells], device=device) for s in self._sources}
        return condition | {LIBRARY_SIZE: torch.as_tensor(plan.library_size[cells], device=device)}

    def _as_anndata(self, counts: sparse.csr_matrix, plan: CellPlan, note: dict[str, Any]) -> AnnData:
        genes = self.registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY][STATE_REGISTRY_KEY]
        var = pd.DataFrame(index=pd.Index(genes[CountsField.COLUMN_NAMES_KEY]).astype(str))
        obs = pd.DataFrame(index=[f"generated_{i}" for i in range(len(plan))])
        obsm = {}
        for source in self._sources:
            values = plan.values[source.name]
            if source.names is not None:
                obs[source.name] = source.names.column(values)
            elif values.ndim == 1:
                obs[source.name] = values
            else:
                obsm[source.name] = values
        obs["requested_library_size"] = plan.library_size
        layers = {} if self._counts_layer is None else {self._counts_layer: counts.copy()}
        return AnnData(counts, obs=obs, var=var, obsm=obsm, layers=layers, uns={UNS_KEY: {"generated": note}})

    @property
    def _population(self) -> Population:
        """The training cells; read from the data if training did not leave them."""
        if self.population_ is None:
            self._remember_population()
        assert self.population_ is not None
        return self.population_

    def _remember_population(self) -> None:
        """Keep library size and condition of the training cells: generation works without the data later."""
        if self.adata is None:
            raise ValueError("The model knows no training cells: it was saved untrained. Load it with adata=.")
        rows = np.arange(self.adata.n_obs) if self.train_indices is None else np.asarray(self.train_indices)
        loader = self._make_data_loader(adata=self.adata, indices=rows, batch_size=1024)
        library: list[NDArray[Any]] = []
        columns: dict[str, list[NDArray[Any]]] = {source.name: [] for source in self._sources}
        for tensors in loader:
            cells = self.module.cells(tensors)
            library.append(cells.condition[LIBRARY_SIZE].cpu().numpy())
            for name, column in columns.items():
                column.append(cells.condition[name].cpu().numpy())
        joined = {name: np.concatenate(column) for name, column in columns.items()}
        self.population_ = Population.of(rows, np.concatenate(library), joined)


def _start_survival(start: str, survival: float) -> float:
    """Survival at which the walk begins."""
    if start not in ("zeros", "empirical"):
        raise ValueError(f"start must be 'zeros' or 'empirical', got {start!r}.")
    if not 0 < survival < 1:
        raise ValueError(f"start_survival must lie strictly between 0 and 1, got {survival}.")
    return survival if start == "empirical" else 0.0


def _check_templates(plan: CellPlan) -> None:
    lost = np.flatnonzero(plan.template < 0)
    if len(lost):
        codes = {name: values[lost[0]] for name, values in plan.values.items()}
        raise ValueError(
            f"start='empirical' needs training cells of each condition; there are none for the codes {codes}. Use "
            "start='zeros' for combinations that were never measured."
        )
