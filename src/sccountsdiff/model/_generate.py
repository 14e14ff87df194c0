"""New cells with integer counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS

from sccountsdiff.data import Chunks, MemorySink, digest, row_readable
from sccountsdiff.model._approach import Asked
from sccountsdiff.model._destination import Out, parse_out
from sccountsdiff.model._fields import check_genes
from sccountsdiff.model._forecasts import ForecastMixin
from sccountsdiff.model._generation import Generation
from sccountsdiff.model._loader import CountsDataset
from sccountsdiff.model._modalities import per_modality
from sccountsdiff.model._profiles import wanted_profile
from sccountsdiff.model._random import seeded
from sccountsdiff.model._record import UNS_KEY, add_layer, check_layer_name, provenance
from sccountsdiff.model._request import (
    CellPlan,
    Conditions,
    Request,
    Totals,
    cells_of_each,
    check_templates,
    condition_rows,
    plan_cells,
    plan_like,
    resolve,
)
from sccountsdiff.model._stages import Making, Moved, Target
from sccountsdiff.model._start import CellStart, EmptyStart, Start, TrainingStart
from sccountsdiff.model._streaming import Seed, seed_to_begin
from sccountsdiff.model._walker import WalkOptions

#: UMI totals: one, one per cell, or those of the cells of an AnnData.
LibrarySize = float | Sequence[float] | NDArray[Any] | Mapping[str, Any] | AnnData | None


class GenerateMixin(ForecastMixin):
    """Generation."""

    @torch.inference_mode()
    def generate(
        self,
        condition: Conditions = None,
        n_cells: int | Sequence[int] | None = None,
        *,
        library_size: LibrarySize = None,
        guidance: float | Mapping[str, float] = 1.0,
        method: Literal["auto", "joint", "contrast", "forecast"] = "auto",
        n_steps: int = 20,
        attrition: float = 0.0,
        start: Literal["zeros", "empirical"] = "zeros",
        start_survival: float = 0.05,
        profile: pd.Series | None = None,
        from_adata: AnnData | None = None,
        strength: float = 1.0,
        births: str | None = None,
        covariation: bool = True,
        batch_size: int | None = None,
        seed: int | None = None,
        layer_added: str | None = None,
        out: Out | None = None,
        silent: bool = True,
    ) -> AnnData | None:
        """Generate cells.

        Parameters
        ----------
        condition
            Values of condition keys by the names of the ``obs`` columns, for example ``{"cell_type": "B cell"}``; a
            list of such dictionaries, or a DataFrame with one condition a row. Perturbations given together are joined
            (``"A+B"``), also if they were never seen together. Keys left out are drawn, cell by cell, from the training
            cells that have the categories given (if there are none, the model is told nothing).
        n_cells
            Number of cells, for each condition; a sequence for different numbers. ``None`` is as many as there were
            training cells for one condition, and one cell for each of several.
        library_size
            UMI total that each cell is conditioned on: one number, one per cell, or an AnnData whose cells' totals are
            drawn; a mapping from modalities to numbers if there are several. ``None`` draws it from the training cells
            of the condition.
        guidance
            Guidance scale: 1 follows the model, more exaggerates the condition. A mapping from keys to scales guides by
            each key on its own. Under ``method="contrast"`` the scale of the effect.
        method
            How the condition is imposed. ``"joint"``: the model is told all of it. ``"contrast"``: log rates of the
            control of the same context, plus the effect of the perturbation by itself, at every step. ``"forecast"``:
            cells of the control of the same context, moved gene by gene to the profile that is forecast from all
            measured conditions. ``"auto"``: forecast for combinations without training cells and for perturbations of
            ``from_adata``, if the model knows a control and the training data are attached; else joint.
        n_steps
            Steps of the walk from empty to whole cells.
        attrition
            Part of the largest admissible death probability in each step, between 0 and 1.
        start
            ``"zeros"``: a pure sample of the model. ``"empirical"``: thin a training cell of the condition to
            ``start_survival`` of its molecules and walk from there, in 2 to 8 steps; the modes then come from the data.
        start_survival
            Part of the molecules kept by an empirical start.
        profile
            Mean of log1p(CP10k) by gene name that the cells are to have: they are moved to it, like to a forecast. Genes
            that it does not name are left to the model.
        from_adata
            Cells to show under another condition, set up like the training data: the same cells, with the keys that
            ``condition`` names replaced. One condition for all of them, or one for each.
        strength
            With ``from_adata``, the part of each cell's molecules that is drawn anew: 1 keeps its library size and the
            keys not named, 0 keeps all molecules (for forecasts, which then move them).
        births
            How births are drawn: ``"poisson"``, ``"posterior"`` or ``"binomial"`` (the paper's). ``None`` is
            ``"poisson"`` for molecules, ``"posterior"`` for entries that return whole.
        covariation
            Whether the rates of a step are drawn for all genes together, from how they vary together where the network
            is unsure; otherwise each gene has its expectation, as in the paper. Changes nothing for entries that return
            whole.
        batch_size
            Cells generated at a time; ``None`` is :attr:`scvi.settings.batch_size`, on a GPU what takes 1 GB of its memory.
        seed
            Seed of the draws; ``None`` follows :attr:`scvi.settings.seed`. The draws of each ``batch_size`` cells
            follow from it and their number alone.
        layer_added
            With ``from_adata``, the layer of it to write the counts to; nothing is returned then.
        out
            File ending in ``.zarr`` or ``.h5ad`` to write the cells to instead, in constant memory, see :meth:`impute`.
        silent
            Whether to hide the progress bar.

        Returns
        -------
        AnnData with integer counts (sparse) in ``.X``, and in the layer that the model was set up with; the condition
        and the requested library size in ``.obs``; what was done in ``.uns["sccountsdiff"]``. ``None`` with
        ``layer_added`` or ``out``.

        Raises
        ------
        ValueError
            If a key or a category is unknown, guidance is asked of a model trained without condition dropout, or a
            forecast has no control to start from.
        FileExistsError
            If ``out`` holds something else than (part of) the result of the same request.
        """
        self._check_if_trained(warn=True)
        self.module.eval()
        _check_given(from_adata, n_cells, start, strength, layer_added, out)
        if layer_added is not None:
            check_layer_name(from_adata, layer_added, self._counts_layer)
        destination = None if out is None else parse_out(out)
        begun = Seed(seed, seeded(seed)) if destination is None else seed_to_begin(destination, seed)
        rng = np.random.default_rng(begun.used)
        births = self._births if births is None else births
        options = WalkOptions(n_steps, births, attrition, covariation)
        rows = [resolve(row, self._sources) for row in condition_rows(condition)]
        asked = Asked(rows, [self._approach(method, row, from_adata is not None) for row in rows])
        survival = _start_survival(start, start_survival, from_adata, strength)
        sizes = self._totals(library_size)
        if from_adata is None:
            plan, begin = self._plan_new(asked, n_cells, sizes, survival, rng)
            names = pd.Index([f"generated_{i}" for i in range(len(plan))])
        else:
            plan, begin = self._plan_same(asked, from_adata, sizes, survival, rng)
            names = from_adata.obs_names
        size = self.module.minibatch_size(batch_size, self.summary_stats.n_vars)
        making = Making(self.module, plan, Chunks(len(plan), size), begun.used)
        stage = self._walked(making, begin, asked, guidance, options)
        targets, wanted, trust = self._forecast(plan, asked, from_adata is not None, begun.used)
        stage = Moved(making, stage, targets, 1) if targets else stage
        if profile is not None:
            everything = Target(np.arange(len(plan)), wanted_profile(profile, self._gene_names))
            stage = Moved(replace(making, plan=wanted), stage, [everything], 2)
        note = provenance(
            "generate",
            condition=condition,
            profile=profile,
            library_size=library_size,
            approach=asked.names,
            forecast_held_out_pearson=trust,
            guidance=guidance,
            n_steps=n_steps,
            attrition=attrition,
            start=start if from_adata is None else "from_adata",
            start_survival=survival or None,
            births=births,
            covariation=covariation,
            seed=begun.used,
        )
        job = Generation(making, begin, stage, _described(note, profile), self._counts_layer, silent)
        if destination is not None:
            frame = self._without_counts(wanted, names)
            self._write_out(job, destination, frame, {"generated": note}, begun)
            return None
        sink = MemorySink(job.chunks)
        job.fill(sink, begun.used)
        (counts,) = sink.matrices()
        if layer_added is not None:
            add_layer(from_adata, layer_added, counts, note, self._counts_layer)
            return None
        made = self._without_counts(wanted, names)
        made.X = counts
        if self._counts_layer is not None:
            made.layers[self._counts_layer] = counts.copy()
        made.uns[UNS_KEY] = {"generated": note}
        return made

    def _plan_new(
        self, asked: Asked, n_cells: int | Sequence[int] | None, sizes: Any, survival: float, rng: np.random.Generator
    ) -> tuple[CellPlan, Start]:
        """New cells, and where they start."""
        population = self._population
        requests = [
            Request(approach.template(row), approach.told(row), whole=survival > 0)
            for row, approach in zip(asked.rows, asked.approaches, strict=True)
        ]
        each = cells_of_each(n_cells, len(requests), len(population))
        plan = plan_cells(requests, each, self._sources, population, rng).sized(sizes, rng)
        if survival == 0:
            return plan, EmptyStart(self.summary_stats.n_vars)
        if self.adata is None:
            raise ValueError("start='empirical' needs the training data: load the model with adata=.")
        check_templates(plan, population, self._sources)
        matrix = row_readable(self.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY))
        return plan, TrainingStart(matrix, population, survival)

    def _plan_same(
        self, asked: Asked, adata: AnnData, sizes: Any, survival: float, rng: np.random.Generator
    ) -> tuple[CellPlan, Start]:
        """The cells of an AnnData under other conditions, and where they start."""
        with self._using(adata) as data:
            minibatches = self._make_data_loader(adata=data, batch_size=1024)
            library, values = self._read_conditions(minibatches)
            cells = CountsDataset(self.get_anndata_manager(data, required=True), np.arange(data.n_obs))
        return plan_like(values, library, asked.replaced_keys()).sized(sizes, rng), CellStart(cells, survival)

    def _totals(self, library_size: LibrarySize) -> Any:
        """Numbers as they are, side by side if modalities have their own; the totals of the cells of an AnnData."""
        if not isinstance(library_size, AnnData):
            return library_size if self._modalities is None else per_modality(library_size, self._modalities)
        check_genes(self._gene_names, library_size.var_names)
        layers = library_size.layers
        counts = layers[self._counts_layer] if self._counts_layer in layers else library_size.X
        if self._modalities is None:
            totals = np.asarray(counts.sum(1), dtype=np.float32).ravel()
            return Totals(totals[totals > 0])
        parts = [counts[:, self._modalities.of_features == name].sum(1) for name in self._modalities.names]
        totals = np.concatenate([np.asarray(part, dtype=np.float32).reshape(-1, 1) for part in parts], 1)
        return Totals(totals[(totals > 0).all(1)])


def _described(note: Mapping[str, Any], profile: pd.Series | None) -> dict[str, Any]:
    """What was asked for, in the terms of JSON; what else follows from model and seed."""
    computed = ("version", "seed", "forecast_held_out_pearson", "profile", "library_size")
    described = {name: str(value) for name, value in note.items() if name not in computed}
    return described if profile is None else {**described, "profile": digest([profile.index, profile])}


def _check_given(
    from_adata: AnnData | None, n_cells: Any, start: str, strength: float, layer_added: str | None, out: Any
) -> None:
    """What does not go together."""
    if from_adata is None and strength != 1:
        raise ValueError(
            f"strength={strength} says how much of the cells of from_adata is drawn anew, which were not given. For new "
            "cells near training cells set start='empirical' and start_survival."
        )
    if out is not None and layer_added is not None:
        raise ValueError("layer_added and out both say where the cells go: leave one of them out.")
    if from_adata is None and layer_added is not None:
        raise ValueError("layer_added writes to the cells of from_adata, which was not given. New cells are returned.")
    if from_adata is not None and (n_cells is not None or start != "zeros"):
        raise ValueError(
            "from_adata says how many cells there are and where they start: leave out n_cells and start, and set "
            "strength."
        )


def _start_survival(start: str, survival: float, from_adata: AnnData | None, strength: float) -> float:
    """Survival at which the walk begins."""
    if start not in ("zeros", "empirical"):
        raise ValueError(f"start must be 'zeros' or 'empirical', got {start!r}.")
    if not 0 < survival < 1:
        raise ValueError(f"start_survival must lie strictly between 0 and 1, got {survival}.")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie between 0 (keep all molecules) and 1 (draw all anew), got {strength}.")
    if from_adata is not None:
        return 1 - strength
    return survival if start == "empirical" else 0.0
