"""Cells of conditions that were never measured: forecast their profile, and move cells to it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS, settings
from torch import Tensor

from sccountsdiff.conditioning import CombinationKey, Forecast
from sccountsdiff.data import Chunks
from sccountsdiff.model._approach import Approach, Asked, Joint, Row, control_level, has_control, make_approach
from sccountsdiff.model._module import Cells
from sccountsdiff.model._profiles import MeasuredProfiles, effective_members, measure_profiles
from sccountsdiff.model._request import CellPlan, Request, plan_cells
from sccountsdiff.model._setup import PERTURBATION_KEY, ConditionSource
from sccountsdiff.model._stages import Making, Target
from sccountsdiff.model._start import EmptyStart
from sccountsdiff.model._walker import WalkMixin, WalkOptions
from sccountsdiff.sampling import log1p_cp10k

#: Cells and steps behind the profile that the network makes of a condition by itself.
_WALKED_CELLS, _WALKED_STEPS = 512, 20


class Group(NamedTuple):
    """Cells to be moved together.

    Attributes
    ----------
    names
        Categorical keys that make up the context.
    context
        Their codes.
    wanted
        Code of the perturbation asked for.
    cells
        The cells, by their place in the plan.
    """

    names: tuple[str, ...]
    context: tuple[int, ...]
    wanted: int
    cells: NDArray[np.intp]


def _weight(trust: float) -> float:
    """Weight of a forecast that correlates so well with what is left out; 1 where nothing could be left out (NaN)."""
    trust = min(max(trust, 0.0), 1.0) if trust == trust else 1.0
    return trust**2 / (trust**2 + (1 - trust) ** 2)


class ForecastMixin(WalkMixin):
    """Forecasts, and cells moved to them."""

    @property
    def _perturbation(self) -> ConditionSource | None:
        """The perturbation key, if there is one."""
        return next((source for source in self._sources if source.registry_key == PERTURBATION_KEY), None)

    def _approach(self, method: str, row: Row, same_cells: bool) -> Approach:
        """How a condition is imposed; ``"auto"`` forecasts where that can be done and the model has nothing better.

        Raises
        ------
        ValueError
            If the method needs a perturbation that the condition does not name.
        """
        source = self._perturbation
        approach = make_approach(method, source)
        if method != "auto":
            if not isinstance(approach, Joint):
                self._check_perturbed(method, row)
            if approach.moves and self._modalities is not None:
                raise ValueError(
                    f"method={method!r} moves the genes of one modality, and this model has several. Use 'joint' or "
                    "'contrast'."
                )
            return approach
        if source is None or not has_control(source) or source.name not in row:
            return approach
        if self._modalities is not None:  # a forecast is of one profile, in CP10k
            return approach
        forecast = make_approach("forecast", source)
        categorical = [s.name for s in self._sources if s.names is not None]
        measured = self._population.matching(row, categorical)
        if self.adata is None:
            if same_cells or not len(measured):
                warnings.warn(
                    "Cells are generated with method='joint', which does poorly on conditions that were never measured. A "
                    "forecast needs the training data: load the model with adata=.",
                    UserWarning,
                    stacklevel=settings.warnings_stacklevel,
                )
            return approach
        if same_cells:
            return forecast
        control = self._population.matching(forecast.template(row), categorical)
        return forecast if len(self._population.at_hand(control)) and not len(measured) else approach

    def _check_perturbed(self, method: str, row: Row) -> None:
        assert self._perturbation is not None
        if self._perturbation.name not in row:
            raise ValueError(
                f"method={method!r} needs the perturbation: name {self._perturbation.name!r} in the condition."
            )

    def _forecast(
        self, plan: CellPlan, asked: Asked, same_cells: bool, seed: int
    ) -> tuple[list[Target], CellPlan, float | None]:
        """Forecast profiles of the cells whose approach says so.

        A forecast that correlates by rho with perturbations that are left out has the weight rho^2 beside (1 - rho)^2 of
        what the network makes of the condition by itself.

        Returns
        -------
        Where the cells are moved to, the plan under the conditions that were asked for, and how well forecasts predict
        perturbations that are left out (None if nothing is forecast).
        """
        groups = self._groups(plan, asked, same_cells)
        source = self._perturbation
        if not groups or source is None:
            return [], plan, None
        targets, trust = [], []
        codes = plan.values[source.name].copy()
        for names in dict.fromkeys(group.names for group in groups):
            measured = self._measured_profiles(names, source)
            forecast = Forecast(measured.profiles)
            trust.append(forecast.held_out_pearson)
            for group in (group for group in groups if group.names == names):
                profile = self._forecast_profile(forecast, measured, group, source)
                weight = _weight(trust[-1])
                if weight < 1:
                    profile = torch.lerp(self._walked_profile(group, source, seed), profile, weight)
                targets.append(Target(group.cells, profile))
                codes[group.cells] = group.wanted
        return targets, replace(plan, values={**plan.values, source.name: codes}), float(np.mean(trust))

    def _walked_profile(self, group: Group, source: ConditionSource, seed: int) -> Tensor:
        """Mean of log1p(CP10k) of cells that are walked back under the condition of a group, ``(n_genes,)``."""
        row = {**dict(zip(group.names, group.context, strict=True)), source.name: group.wanted}
        control = {**row, source.name: control_level(source)}
        rng = np.random.default_rng([seed, group.wanted, *(code + 1 for code in group.context)])
        request, size = Request(control, row, whole=False), np.array([_WALKED_CELLS])
        plan = plan_cells([request], size, self._sources, self._population, rng)
        making = Making(self.module, plan, Chunks(len(plan), len(plan)), int(rng.integers(2**31)))
        options = WalkOptions(_WALKED_STEPS, self._births, 0.0, covariation=True)
        stage = self._walked(making, EmptyStart(self.summary_stats.n_vars), Asked([row], [Joint()]), 1.0, options)
        return log1p_cp10k(torch.as_tensor(stage.counts(0).toarray())).double().mean(0)

    def _groups(self, plan: CellPlan, asked: Asked, same_cells: bool) -> list[Group]:
        """Cells to move, by context and perturbation. Cells that are given belong to the context of their label."""
        found: dict[tuple[Any, ...], list[int]] = {}
        contexts = [self._context_names(row, same_cells) for row in asked.rows]
        for cell, row in enumerate(plan.row):
            if not asked.approaches[row].moves or self._perturbation is None:
                continue
            context = tuple(int(plan.values[name][cell]) for name in contexts[row])
            found.setdefault((contexts[row], context, int(asked.rows[row][self._perturbation.name])), []).append(cell)
        return [Group(*key, np.array(cells)) for key, cells in found.items()]

    def _context_names(self, row: Row, same_cells: bool) -> tuple[str, ...]:
        """Categorical keys that make up the context: those named, and the label of cells that are given."""
        return tuple(
            source.name
            for source in self._sources
            if source.names is not None
            and source is not self._perturbation
            and (source.name in row or (same_cells and source.registry_key == REGISTRY_KEYS.LABELS_KEY))
        )

    def _measured_profiles(self, context_names: Sequence[str], source: ConditionSource) -> MeasuredProfiles:
        """Profiles of the conditions in the training and validation cells."""
        if self.adata is None:
            raise ValueError("A forecast needs the training data: load the model with adata=.")
        used = [part for part in (self.train_indices, self.validation_indices) if part is not None]
        rows = np.concatenate(used) if used else np.arange(self.adata.n_obs)
        assert isinstance(source.key, CombinationKey)
        return measure_profiles(
            self._cells_of(self.adata, np.sort(rows)), context_names, source.key, control_level(source)
        )

    def _cells_of(self, adata: AnnData, rows: NDArray[np.integer]) -> Iterator[Cells]:
        for tensors in self._make_data_loader(adata=adata, indices=rows, batch_size=1024):
            yield self.module.cells(tensors)

    def _forecast_profile(
        self, forecast: Forecast, measured: MeasuredProfiles, group: Group, source: ConditionSource
    ) -> Tensor:
        """Mean of log1p(CP10k) that is forecast for a group, ``(n_genes,)``."""
        number = measured.contexts.get(group.context)
        if number is None or int(measured.profiles.control_of(torch.tensor([number]))) < 0:
            known = {s.name: s.names for s in self._sources}
            named = {
                name: str(known[name].column(np.array([code]))[0])
                for name, code in zip(group.names, group.context, strict=True)
            }
            raise ValueError(
                f"A forecast starts from the control of the same context, and the training data hold no control cells "
                f"of {named}. Use method='joint', or name fewer keys in the condition."
            )
        assert isinstance(source.key, CombinationKey)
        members = effective_members(source.key, torch.tensor([group.wanted]), control_level(source))
        return forecast.predict(number, members[0])
