"""Cells in the making: walked back from their start, then moved; each stage gives the counts of any chunk of cells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from sccountsdiff.conditioning import LIBRARY_SIZE
from sccountsdiff.data import Chunks, sparse_counts
from sccountsdiff.model._approach import Approach, Asked
from sccountsdiff.model._module import CountDiffusionModule, fresh_measurement
from sccountsdiff.model._random import chunk_generator
from sccountsdiff.model._request import CellPlan
from sccountsdiff.model._sparse import sparse_block
from sccountsdiff.model._start import Start
from sccountsdiff.process import Posterior, Shown
from sccountsdiff.sampling import Sampler, Transport, fit_transport

#: Cells by which a transport is found: those that are moved, repeated if they are fewer, the first of them if they are more.
_FEWEST_FITTED, _MOST_FITTED = 512, 1024
#: Chunks of the stage before that are kept, since transports are found by cells that are moved later.
_KEPT_CHUNKS = 64


@dataclass(frozen=True)
class Making:
    """What all stages share.

    Attributes
    ----------
    module
        The model.
    plan
        What each cell is conditioned on.
    chunks
        The cells in chunks.
    seed
        Seed of all draws.
    """

    module: CountDiffusionModule
    plan: CellPlan
    chunks: Chunks
    seed: int

    def cells(self, chunk: int) -> NDArray[np.intp]:
        """Cells of a chunk."""
        rows = self.chunks.rows(chunk)
        return np.arange(rows.start, rows.stop)

    def generator(self, number: int, purpose: int = 0) -> torch.Generator:
        """Source of randomness for a chunk, or whatever else is numbered."""
        return chunk_generator(self.seed, number, self.module.device, purpose)

    def told(self, cells: NDArray[np.intp]) -> dict[str, Tensor]:
        """Condition of some cells of the plan, as tensors."""
        device = self.module.device
        names = [source.name for source in self.module.sources]
        condition = {name: torch.as_tensor(self.plan.values[name][cells], device=device) for name in names}
        return condition | {LIBRARY_SIZE: torch.as_tensor(self.plan.library_size[cells], device=device)}

    def measured_again(self, counts: sparse.csr_matrix, cells: NDArray[np.intp]) -> tuple[Tensor, Posterior, Tensor]:
        """Counts, posterior of a fresh measurement, and wanted library size of cells that have these counts."""
        x_0 = torch.as_tensor(counts.toarray().astype(np.float32), device=self.module.device)
        seen = Shown(x_0, x_0.new_ones(len(cells), 1))
        process, denoiser = self.module.objective.process, self.module.denoiser
        fresh = fresh_measurement(process.remeasure(denoiser, seen, self.told(cells)))
        library = torch.as_tensor(self.plan.library_size[cells], device=self.module.device)
        library = library.reshape(len(cells), -1).sum(-1)
        return x_0, fresh, torch.where(library.isfinite(), library, x_0.sum(-1))


class Stage(ABC):
    """A state of all cells."""

    #: Whether chunks can be asked for at the same time.
    independent: ClassVar[bool] = True

    @abstractmethod
    def counts(self, chunk: int) -> sparse.csr_matrix:
        """UMI counts of a chunk, ``(n_cells, n_genes)`` integers."""


@final
@dataclass(frozen=True)
class Given(Stage):
    """Cells as they are.

    Attributes
    ----------
    making
        The cells.
    begin
        Their counts.
    """

    making: Making
    begin: Start

    def counts(self, chunk: int) -> sparse.csr_matrix:
        """The counts to start from."""
        return sparse_counts(self.begin.counts(self.making.plan, self.making.cells(chunk)))


@final
@dataclass(frozen=True)
class Walked(Stage):
    """Cells walked back from their start.

    Attributes
    ----------
    making
        The cells.
    begin
        Where they start.
    asked
        How the condition of each is imposed.
    walks
        Sampler and survival grid of each approach.
    """

    making: Making
    begin: Start
    asked: Asked
    walks: Sequence[tuple[Approach, Sampler, Tensor]]

    def counts(self, chunk: int) -> sparse.csr_matrix:
        """Cells of one approach are walked together."""
        making, plan = self.making, self.making.plan
        cells = making.cells(chunk)
        generator = making.generator(chunk)
        order, walked = [], []
        for approach, sampler, grid in self.walks:
            within = self.asked.cells_of(approach, plan.row[cells])
            if len(within):
                x_start = self.begin.draw(plan, cells[within], sampler.process, generator)
                drawn = sampler.sample(x_start, making.told(cells[within]), grid, generator=generator)
                walked.append(sparse_block(drawn))
                order.append(within)
        return sparse.vstack(walked, format="csr")[np.argsort(np.concatenate(order))]


class Target(NamedTuple):
    """Cells to be moved together."""

    #: Their places in the plan, rising.
    cells: NDArray[np.intp]
    #: Mean of log1p(CP10k) that they are to have ``(n_genes,)``; NaN for genes that may go where they like.
    profile: Tensor


@final
@dataclass(frozen=True)
class Moved(Stage):
    """Cells moved to profiles, group by group; the first cells of a group find the transport.

    Attributes
    ----------
    making
        The cells.
    before
        Their state so far.
    targets
        Where they are moved to; cells of no target stay as they are.
    number
        Number of this stage, from 1.
    """

    independent: ClassVar[bool] = False
    making: Making
    before: Stage
    targets: Sequence[Target]
    number: int
    _kept: dict[int, sparse.csr_matrix] = field(default_factory=dict, repr=False)

    def counts(self, chunk: int) -> sparse.csr_matrix:
        """The cells of each target by its transport."""
        counts, rows = self._before(chunk), self.making.chunks.rows(chunk)
        generator = self.making.generator(chunk, 2 * self.number)
        still, order, moved = np.ones(counts.shape[0], dtype=bool), [], []
        for target, transport in zip(self.targets, self._transports, strict=True):
            first, last = np.searchsorted(target.cells, [rows.start, rows.stop])
            if first == last:
                continue
            cells = target.cells[first:last]
            within = cells - rows.start
            drawn = transport.draw(*self.making.measured_again(counts[within], cells), generator)
            moved.append(sparse_block(drawn))
            order.append(within)
            still[within] = False
        order.append(np.flatnonzero(still))
        return sparse.vstack([*moved, counts[still]], format="csr")[np.argsort(np.concatenate(order))]

    @cached_property
    def _transports(self) -> list[Transport]:
        """The transport of each target."""
        return [self._transport(number, target) for number, target in enumerate(self.targets)]

    def _transport(self, number: int, target: Target) -> Transport:
        first = target.cells[:_MOST_FITTED]
        in_chunk = first // self.making.chunks.size
        parts = [
            self._before(chunk)[first[in_chunk == chunk] - self.making.chunks.rows(chunk).start]
            for chunk in np.unique(in_chunk)
        ]
        again = np.resize(np.arange(len(first)), max(len(first), _FEWEST_FITTED))
        x_0, fresh, library = self.making.measured_again(sparse.vstack(parts, format="csr")[again], first[again])
        profile = target.profile.to(self.making.module.device, torch.float32)
        generator = self.making.generator(number, 2 * self.number + 1)
        return fit_transport(x_0, fresh, library, profile, generator=generator)

    def _before(self, chunk: int) -> sparse.csr_matrix:
        counts = self._kept.get(chunk)
        if counts is None:
            for oldest in list(self._kept)[: len(self._kept) + 1 - _KEPT_CHUNKS]:
                self._kept.pop(oldest, None)
            counts = self._kept[chunk] = self.before.counts(chunk)
        return counts
