"""The walk back of many cells, as generation uses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS
from torch import Tensor

from sccountsdiff.conditioning import LIBRARY_SIZE
from sccountsdiff.model._approach import Asked
from sccountsdiff.model._compat import FIELD_REGISTRIES_KEY, STATE_REGISTRY_KEY
from sccountsdiff.model._expression import ExpressionMixin
from sccountsdiff.model._fields import CountsField
from sccountsdiff.model._order import all_cells
from sccountsdiff.model._population import Population
from sccountsdiff.model._request import CellPlan
from sccountsdiff.model._stages import Given, Making, Stage, Walked
from sccountsdiff.model._start import Start
from sccountsdiff.process import BIRTHS
from sccountsdiff.sampling import CovaryingRates, NoAttrition, RescaledAttrition, Sampler, survival_grid


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
    covariation
        Whether the rates of a step are drawn for all genes together.
    """

    n_steps: int
    births: str
    attrition: float
    covariation: bool

    def __post_init__(self) -> None:
        """Plain values only."""
        if not isinstance(self.n_steps, Integral):
            raise TypeError(f"n_steps must be a whole number of steps, got {self.n_steps!r}.")
        if not isinstance(self.attrition, Real):
            raise TypeError(
                f"attrition must be a number between 0 (none) and 1 (as much as there may be), got {self.attrition!r}."
            )


class WalkMixin(ExpressionMixin):
    """Walks cells back, and remembers the training cells they take after."""

    population_: Population | None
    #: Name of the law of births that suits the process.
    _births: ClassVar[str] = "poisson"

    def _walked(
        self,
        making: Making,
        begin: Start,
        asked: Asked,
        guidance: float | Mapping[str, float],
        options: WalkOptions,
    ) -> Stage:
        """The cells of a plan walked back from their start."""
        guides = {approach: approach.guide(guidance) for approach in asked.approaches}
        if begin.survival == 1:
            return Given(making, begin)
        process = self.module.objective.process
        attrition = RescaledAttrition(options.attrition) if options.attrition else NoAttrition()
        totals = making.plan.library_size.reshape(len(making.plan), -1).sum(1)
        known = totals[np.isfinite(totals)]
        size = float(known.mean()) if len(known) else self._library_mean
        grid = survival_grid(process.schedule(size), options.n_steps, begin.survival)
        births, denoiser = BIRTHS[options.births](), self.module.denoiser
        covaries = options.covariation and denoiser.covariation.known
        covarying = CovaryingRates(denoiser.covariation, denoiser.library) if covaries else None
        walks = [
            (approach, Sampler(process, guide.wrap(denoiser), births, attrition, covarying), grid)
            for approach, guide in guides.items()
        ]
        return Walked(making, begin, asked, walks)

    def _without_counts(self, plan: CellPlan, names: pd.Index) -> AnnData:
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
        return AnnData(obs=obs, var=var, obsm=obsm)

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
            rows = all_cells(self.adata.n_obs) if self.train_indices is None else np.sort(self.train_indices)
            minibatches = self._make_data_loader(adata=self.adata, indices=rows, batch_size=1024)
        library, values = self._read_conditions(minibatches)
        seen = Population.of(all_cells(len(library)) if rows is None else rows, library, values)
        self.population_ = seen if self.population_ is None else self.population_.elsewhere().joined(seen)

    def _read_conditions(
        self, minibatches: Iterable[dict[str, Tensor]]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Library size and condition of cells."""
        library: list[NDArray[Any]] = []
        columns: dict[str, list[NDArray[Any]]] = {source.name: [] for source in self._sources}
        for tensors in minibatches:
            cells = self.module.cells(tensors)
            library.append(cells.condition[LIBRARY_SIZE].cpu().numpy())
            for name, column in columns.items():
                column.append(cells.condition[name].cpu().numpy())
        joined = {name: np.concatenate(column) for name, column in columns.items()}
        return np.concatenate(library).astype(np.float32, copy=False), joined
