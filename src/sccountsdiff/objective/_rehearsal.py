"""Rehearsal: cells that measured everything play those that lack a block of genes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, final

import torch
from torch import Tensor

from sccountsdiff.conditioning import Condition
from sccountsdiff.objective._pattern import MIN_DEAD, Survival, stratified


class Scene(NamedTuple):
    """What a minibatch of training cells is shown as.

    Parameters
    ----------
    survival
        Survivals of the entries.
    condition
        Condition of each cell.
    """

    survival: Survival
    condition: Condition


class Rehearsal(ABC):
    """Change of survivals and conditions of some training cells, before they are thinned."""

    @abstractmethod
    def play(self, scene: Scene, observed: Tensor | None, n_genes: int, generator: torch.Generator | None) -> Scene:
        """Let some cells play others.

        Parameters
        ----------
        scene
            Survivals and conditions drawn for a minibatch.
        observed
            Boolean ``(n_cells, n_genes)``, False where a gene was not measured; None if all were.
        n_genes
            Number of genes.
        generator
            Source of randomness, on the device of the survivals.
        """


@final
@dataclass(frozen=True)
class NoRehearsal(Rehearsal):
    """Every cell plays itself."""

    def play(self, scene: Scene, observed: Tensor | None, n_genes: int, generator: torch.Generator | None) -> Scene:
        """The scene itself."""
        return scene


@final
@dataclass(frozen=True)
class Rehearsals(Rehearsal):
    """Several rehearsals, one after the other.

    Parameters
    ----------
    parts
        The rehearsals.
    """

    parts: Sequence[Rehearsal]

    def play(self, scene: Scene, observed: Tensor | None, n_genes: int, generator: torch.Generator | None) -> Scene:
        """Play each in turn; a cell that plays twice plays the last."""
        for part in self.parts:
            scene = part.play(scene, observed, n_genes, generator)
        return scene


@final
@dataclass(frozen=True)
class BlockRehearsal(Rehearsal):
    """Some cells have a whole block of genes hidden, as it is missing in other cells: a panel, or a modality.

    The loss says nothing of genes that a batch never measured. Without rehearsal a network is free to predict anything
    there, and what it has learned from entries hidden at random carries over in part only. The block of a playing cell
    is hidden, partly for half of them (what a sampler meets on its way); its other entries are seen in full.

    Parameters
    ----------
    blocks
        Boolean ``(n_blocks, n_genes)``, True for genes that are missing together.
    labels
        Key of the condition -> its value in cells that lack a block ``(n_blocks,)``, which a playing cell takes.
    fraction
        Part of the cells that play.
    """

    blocks: Tensor
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    fraction: float = 0.2

    def play(self, scene: Scene, observed: Tensor | None, n_genes: int, generator: torch.Generator | None) -> Scene:
        """Hide a random block in a random part of the cells."""
        alpha = scene.survival.alpha
        n_cells, device = len(alpha), alpha.device
        number = torch.randint(len(self.blocks), (n_cells,), generator=generator, device=device)
        block = self.blocks.to(device)[number]
        plays = torch.rand(n_cells, generator=generator, device=device) < self.fraction
        if observed is not None:
            plays &= (observed & block).any(-1)  # a cell that lacks the block has nothing to learn from
        level = (2 * stratified(n_cells, generator, device) - 1).clamp(0, 1 - MIN_DEAD)
        column = plays.unsqueeze(-1)
        survival = Survival(
            torch.where(column, torch.where(block, level, 1.0), alpha.expand(-1, n_genes)),
            torch.where(column, 1.0, scene.survival.importance),
        )
        condition = dict(scene.condition)
        for name, values in self.labels.items():
            condition[name] = torch.where(plays, values.to(device)[number], condition[name])
        return Scene(survival, condition)
