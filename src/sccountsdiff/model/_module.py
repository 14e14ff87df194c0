"""The network as scvi-tools wants to hold it: a denoiser, its process and its training objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import torch
from scvi import REGISTRY_KEYS, settings
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor

from sccountsdiff.conditioning import LIBRARY_SIZE, MEASURED
from sccountsdiff.model._measured import OBSERVED_KEY
from sccountsdiff.model._setup import ConditionSource
from sccountsdiff.model._side_by_side import at_a_time
from sccountsdiff.nets import Denoiser, Library, OneLibrary
from sccountsdiff.objective import Objective, bound
from sccountsdiff.process import Posterior, Shown

#: Numbers that a pass of a minibatch keeps on a GPU, by default 1 GB: with few, launching operations takes the time.
_GPU_NUMBERS = 2**28


class Cells(NamedTuple):
    """A minibatch in the terms of the core."""

    #: UMI counts ``(n_cells, n_genes)``, 0 where not observed.
    counts: Tensor
    #: Condition of each cell, the library size included.
    condition: dict[str, Tensor]
    #: Boolean ``(n_cells, n_genes)``, or None if every entry was measured.
    observed: Tensor | None
    #: What the library sizes count.
    library: Library = OneLibrary(1.0)

    @property
    def survival(self) -> Tensor:
        """1 where an entry was measured, 0 elsewhere: ``(n_cells, 1)`` or ``(n_cells, n_genes)``."""
        if self.observed is None:
            return self.counts.new_ones(len(self.counts), 1)
        return self.observed.to(self.counts.dtype)

    def tensors(self) -> list[Tensor]:
        """All that is known of the cells."""
        return [self.counts, self.survival, *self.condition.values()]

    def told(self, codes: Mapping[str, int]) -> Cells:
        """The cells as if they belonged to other categories."""
        replaced = {name: torch.full_like(self.condition[name], code) for name, code in codes.items()}
        return self._replace(condition={**self.condition, **replaced})

    def hide(self, mask: Tensor) -> Cells:
        """The cells with more entries hidden: their counts are not used, and library sizes that count them unknown."""
        touched = self.library.sizes(mask.to(self.counts.dtype)) > 0
        library = self.condition[LIBRARY_SIZE].masked_fill(touched, torch.nan)
        return self._replace(
            counts=self.counts.masked_fill(mask, 0),
            condition={**self.condition, LIBRARY_SIZE: library},
            observed=~mask if self.observed is None else self.observed & ~mask,
        )


class CountDiffusionModule(BaseModuleClass):
    """Denoiser, process and objective of one model.

    Parameters
    ----------
    denoiser
        The network.
    objective
        Process, survival pattern and weighting of training.
    sources
        Where the condition keys come from.
    """

    def __init__(self, denoiser: Denoiser, objective: Objective, sources: Sequence[ConditionSource]) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.objective = objective
        self.sources = tuple(sources)
        #: Whether the network was compiled.
        self.compiled = False

    def compile_network(self, **options: Any) -> None:
        """Compile the network; options are those of :func:`torch.compile`."""
        self.denoiser.compile(**options)
        self.compiled = True

    def at_a_time(self, n_minibatches: int, n_entries: int) -> int:
        """Minibatches that go through the network at the same time: one, unless a CPU has cores to share out."""
        # Torch's compiler is not made for several threads.
        return at_a_time(n_minibatches, n_entries) if self.device.type == "cpu" and not self.compiled else 1

    def minibatch_size(self, wanted: int | None, n_genes: int) -> int:
        """Cells in a minibatch when nothing is learned: as many as a user wants, or as suit the device.

        Parameters
        ----------
        wanted
            What the user said; None is :attr:`scvi.settings.batch_size` on a CPU, on a GPU what takes 1 GB of its memory
            if that is more: 4,194 cells of 2,000 genes for the default network.
        n_genes
            Genes of a cell.
        """
        least: int = settings.batch_size
        on_gpu = _GPU_NUMBERS // (self.denoiser.numbers_per_entry * n_genes)
        return wanted or (least if self.device.type == "cpu" else max(least, on_gpu))

    def cells(self, tensors: dict[str, Tensor]) -> Cells:
        """Translate a minibatch of scvi-tools, onto the device of the network."""
        device = next(self.parameters()).device  # the property of scvi-tools walks through all parameters
        counts = tensors[REGISTRY_KEYS.X_KEY].to(device)
        counts = counts.to_dense() if counts.layout != torch.strided else counts
        condition = {
            s.name: tensors[s.registry_key].to(device, s.dtype).reshape(len(counts), *s.shape) for s in self.sources
        }
        condition[LIBRARY_SIZE] = self._totals(counts)
        cells = Cells(counts, condition, None, self.denoiser.library)
        observed = tensors.get(OBSERVED_KEY)
        return cells if observed is None else cells.hide(~observed.to(device))

    def _totals(self, counts: Tensor) -> Tensor:
        """Library sizes of cells, as a condition gives them."""
        library = self.denoiser.library.sizes(counts)
        # An empty cell says nothing of how deep it would be: the network then falls back on the average cell.
        return library.masked_fill(library == 0, torch.nan)

    def told(self, cells: Cells) -> dict[str, Tensor]:
        """Condition with the library sizes over what was measured, where not all was.

        Without them, a network learns to account for the depth of a batch by the genes that it lacks: they carry no
        loss, but take part in the shares of expression.
        """
        if cells.observed is None:
            return cells.condition
        return {**cells.condition, LIBRARY_SIZE: self._totals(cells.counts), MEASURED: cells.observed}

    def cell_loss(self, tensors: dict[str, Tensor], objective: Objective | None = None) -> Tensor:
        """Training loss of each cell under an objective, its own by default, ``(n_cells,)``."""
        cells, objective = self.cells(tensors), objective or self.objective
        return objective.loss(self.denoiser, cells.counts, self.told(cells), cells.observed)

    def penalty(self) -> Tensor | float:
        """Negative log prior of the weights that have one, in nats up to a constant."""
        return self.denoiser.offsets.penalty()

    def bound(self, cells: Cells, n_samples: int, generator: torch.Generator) -> Tensor:
        """Upper bounds on the negative log likelihood of each cell in nats, ``(n_samples, n_cells)``."""
        shown = (cells.counts, self.told(cells), cells.observed)
        return bound(self.denoiser, self.objective.process, *shown, n_samples=n_samples, generator=generator)

    def denoise(self, cells: Cells) -> Posterior:
        """Posterior of the rates given all that was measured."""
        seen = Shown(cells.counts, cells.survival)
        return self.objective.process.remeasure(self.denoiser, seen, cells.condition)

    def translate(self, cells: Cells, categories: Sequence[Mapping[str, int]]) -> list[Posterior]:
        """Posterior of the rates, had the cells belonged to other categories; one for each, none being their own.

        Of a gene that was seen often, the posterior says what the cell has, whatever the category. In another one it
        would show that, times the ratio of what the network expects of the cell in the two, at a glimpse of it.
        """
        posterior = self.denoise(cells)
        if not any(categories):
            return [posterior] * len(categories)
        own = self._expected(cells).clamp_min(1e-12)
        return [
            posterior.raised(self._expected(cells.told(codes)) / own) if codes else posterior for codes in categories
        ]

    def _expected(self, cells: Cells) -> Tensor:
        """Expected counts at a glimpse, ``(n_cells, n_genes)``."""
        seen = self.objective.process.glimpse(cells.counts, cells.survival)
        return self.denoiser.expected(*seen, cells.condition)

    def embed(self, cells: Cells) -> Tensor:
        """Features of the cells given all that was measured, ``(n_cells, width)``."""
        return self.denoiser.embed(cells.counts, cells.survival, cells.condition)

    def on_load(self, model: Any, **kwargs: Any) -> None:
        """Prepare for the weights of a file."""
        model._grow()

    # What scvi-tools expects of a module: corrupting and denoising are one step here, done in the loss.

    def _get_inference_input(self, tensors: dict[str, Tensor], **kwargs: Any) -> dict[str, Any]:
        return {}

    def _get_generative_input(self, tensors: dict[str, Tensor], inference_outputs: Any, **kwargs: Any) -> dict:
        return {"tensors": tensors}

    def inference(self, **kwargs: Any) -> dict[str, Any]:
        """Nothing to infer: the counts are their own latent state."""
        return {}

    def generative(self, tensors: dict[str, Tensor]) -> dict[str, Posterior]:
        """Posterior of the rates given all that was measured."""
        return {"posterior": self.denoise(self.cells(tensors))}

    def loss(self, tensors: dict[str, Tensor], inference_outputs: Any = None, generative_outputs: Any = None) -> Any:
        """Training loss, in nats per cell."""
        per_cell = self.cell_loss(tensors)
        return LossOutput(loss=per_cell.mean(), reconstruction_loss=per_cell)

    def sample(self, tensors: dict[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Integer counts of a fresh measurement of the same cells, ``(n_cells, n_genes)``."""
        return fresh_measurement(self.denoise(self.cells(tensors))).draw(generator)


def fresh_measurement(posterior: Posterior) -> Posterior:
    """Posterior over all molecules of a fresh full measurement, rather than over those missing from this one."""
    fresh = copy(posterior)
    fresh.alpha = torch.zeros_like(posterior.rate[..., :1])
    return fresh
