"""How genes vary together beyond what a finished network expects of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from scvi.utils import track
from torch import Tensor

from sccountsdiff.model._module import Cells, CountDiffusionModule
from sccountsdiff.nets import Covariation

_SEED = 20261129
#: Which cells give the directions, and which the covariances.
FOR_DIRECTIONS, FOR_COVARIANCES = 0, 1
#: Directions that are looked for beside those that are kept, and passes over the cells for it.
_SPARE, _PASSES = 8, 3
#: Genes rarer than this (UMI counts a cell) are weighed like this.
RAREST = 1e-3
#: Residuals are cut here, in standard deviations of Poisson counts: one cell decides no direction.
LARGEST = 8.0


@final
class FitCovariation(Callback):
    r"""Find in which directions the rates of genes vary together when the network has said what it expects, and how far.

    Directions are principal components of the residuals of the counts of whole cells, of which the network is told the
    condition and the library size alone, each gene in units of its Poisson standard deviation. In these directions
    covariances are measured at each level of survival, on the other half of the cells: along components of their own
    noise, cells vary more than others do. Missing molecules are split in two halves at random. Given the rates their
    Poisson noise is independent, so that the cross-covariance of the halves of the residual is that of the rates alone.
    What is left of sampling noise in it is a random symmetric matrix, which raises an eigenvalue :math:`\theta` to
    :math:`\theta + \sigma^2 / \theta` and hides those below :math:`\sigma`; this is undone.

    References
    ----------
    Benaych-Georges and Nadakuditi 2011 (eigenvalues of perturbed low-rank matrices).
    """

    #: Cells that each pass goes through at most; it uses half of them.
    N_CELLS = 8192

    @torch.no_grad()
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find them; a model that keeps what another has learned keeps this as well."""
        module: CountDiffusionModule = pl_module.module
        if module.denoiser.offsets.everyone.n_kept:
            return
        was_training = module.training
        module.eval()
        looker = _Looker(trainer, module, self.N_CELLS * trainer.num_training_batches / (pl_module.n_obs_training or 1))
        scale = looker.scale()
        directions = looker.directions(scale, module.denoiser.covariation.directions.shape[1])
        silent = trainer.progress_bar_callback is None or not trainer.is_global_zero
        levels = track(Covariation.levels(), description="Fitting covariation", disable=silent)
        covariances = torch.stack([looker.covariance(level, scale, directions) for level in levels])
        module.denoiser.covariation.put(directions / scale.unsqueeze(-1), covariances)
        module.train(was_training)


@dataclass(frozen=True)
class _Looker:
    """Looks at the residuals of training cells, on all processes together."""

    trainer: pl.Trainer
    module: CountDiffusionModule
    n_batches: float

    def scale(self) -> Tensor:
        """Poisson standard deviation of each gene, ``(n_genes,)``."""
        directions = self.module.denoiser.covariation.directions
        sums = directions.new_zeros(2, len(directions))
        for found in self._molecules(0.0, FOR_DIRECTIONS):
            sums += torch.stack([found.expected.sum(0), found.seen.expand_as(found.expected).sum(0)])
        total, number = self._reduce(sums)
        return (total / number.clamp_min(1)).clamp_min(RAREST).sqrt()

    def directions(self, scale: Tensor, n: int) -> Tensor:
        """Principal components of the residuals of whole cells, orthonormal ``(n_genes, n_directions)``."""
        generator = torch.Generator().manual_seed(_SEED)
        basis = torch.randn(len(scale), min(n + _SPARE, len(scale)), generator=generator).to(scale)
        for _ in range(_PASSES):
            basis = torch.linalg.qr(basis).Q
            turned, sums, n_cells = torch.zeros_like(basis), torch.zeros_like(scale), scale.new_zeros(())
            for found in self._molecules(0.0, FOR_DIRECTIONS):
                scaled = ((found.missing - found.expected) / scale).clamp(-LARGEST, LARGEST)
                turned += scaled.T @ (scaled @ basis)
                sums += scaled.sum(0)
                n_cells += len(scaled)
            turned, sums, n_cells = (self._reduce(value) for value in (turned, sums, n_cells))
            turned -= torch.outer(sums, sums @ basis) / n_cells.clamp_min(1)
            _, axes = torch.linalg.eigh(basis.T @ turned)
            basis = turned @ axes.flip(-1)
        return torch.linalg.qr(basis).Q[:, :n]

    def covariance(self, level: float, scale: Tensor, directions: Tensor) -> Tensor:
        """Covariance of what the rates lack along each direction at one survival."""
        n = directions.shape[1]
        crossed, sums = scale.new_zeros(n, n), scale.new_zeros(2, n)
        noise, n_cells = scale.new_zeros(()), scale.new_zeros(())
        part = (1 - level) / 2
        unit = scale * math.sqrt(part)
        process, generator = self.module.objective.process, torch.Generator(self.module.device).manual_seed(_SEED)
        for found in self._molecules(level, FOR_COVARIANCES):
            first = process.corrupt(found.missing, found.missing.new_tensor(0.5), generator)
            one, other = (
                ((half - found.expected / 2) / unit).clamp(-LARGEST, LARGEST) @ directions / math.sqrt(part)
                for half in (first, found.missing - first)
            )
            crossed += one.T @ other
            sums += torch.stack([one.sum(0), other.sum(0)])
            noise += (one.square().sum() + other.square().sum()) / (2 * n)
            n_cells += len(one)
        crossed, sums, noise, n_cells = (self._reduce(value) for value in (crossed, sums, noise, n_cells))
        n_cells = n_cells.clamp_min(1)
        crossed -= torch.outer(sums[0], sums[1]) / n_cells
        return without_noise((crossed + crossed.T) / (2 * n_cells), noise / n_cells * (n_cells * 2).rsqrt())

    def _molecules(self, level: float, parity: int) -> Iterator[_Molecules]:
        """Molecules of the cells of one half, minibatch by minibatch."""
        module, process = self.module, self.module.objective.process
        generator = torch.Generator(module.device).manual_seed(_SEED + 1)
        for minibatch in islice(self.trainer.train_dataloader, math.ceil(self.n_batches)):
            cells = half(module.cells(self.trainer.strategy.batch_to_device(minibatch)), parity)
            if not len(cells.counts):
                continue
            alpha = level * cells.survival
            x_t = process.corrupt(cells.counts, alpha, generator)
            rate = module.denoiser(*process.shown(x_t, alpha), module.told(cells)).rate
            seen = cells.survival
            yield _Molecules((cells.counts - x_t) * seen, (1 - level) * rate * seen, seen)

    def _reduce(self, value: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(value, reduce_op="sum")


class _Molecules(NamedTuple):
    """Missing molecules, what is expected of them, and which entries were measured: ``(n_cells, n_genes)``."""

    missing: Tensor
    expected: Tensor
    seen: Tensor


def half(cells: Cells, parity: int) -> Cells:
    """Cells in which the total of every other gene is even, or odd: the same in every pass, and as good as by chance."""
    chosen = cells.counts[:, ::2].sum(1) % 2 == parity
    condition = {name: value[chosen] for name, value in cells.condition.items()}
    observed = None if cells.observed is None else cells.observed[chosen]
    return cells._replace(counts=cells.counts[chosen], condition=condition, observed=observed)


def without_noise(covariance: Tensor, noise: Tensor) -> Tensor:
    """A covariance without what sampling noise adds to it.

    Parameters
    ----------
    covariance
        Symmetric estimate, ``(n, n)``.
    noise
        Standard deviation of the noise of its entries.

    Returns
    -------
    Positive semi-definite, ``(n, n)``.
    """
    values, axes = torch.linalg.eigh(covariance)
    edge = 2 * noise * math.sqrt(len(covariance))
    clean = (values + (values.square() - edge.square()).clamp_min(0).sqrt()) / 2
    return (axes * torch.where(values > edge, clean, 0.0)) @ axes.T
