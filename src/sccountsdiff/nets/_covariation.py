"""What the rates of genes have in common that a denoiser does not tell."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor, nn

#: Rates vary together along so many directions at most.
_N_DIRECTIONS = 20
#: Survivals are told apart on the scale of log(alpha + this): about the first molecules of a cell.
_LEAST = 1e-3
#: Survivals at which covariances are known, from 0 on, and the largest of them; beyond it next to nothing is missing.
_N_LEVELS, _LAST = 8, 0.85
#: No rate varies by more than this, as a standard deviation of its logarithm.
_WIDEST = 1.0
#: Memory of factors at first, and of models from before it was fitted. Chosen by hand, see docs/theory.md.
_MEMORY = 0.25


@final
class Covariation(nn.Module):
    r"""Covariance of the log rates of genes that is left when the expectations of a denoiser are known.

    A denoiser states what it believes of each gene. Where little of a cell was seen its programmes are still open, and
    the genes of a programme are wrong together: rates are :math:`r_g \exp(\sum_k D_{gk} f_k)`, up to a factor that keeps
    their mean, with :math:`f \sim \mathrm{N}(0, \Sigma_\alpha)`. The directions D are the same at all survivals, the
    covariance falls to 0 as survival rises to 1. All are 0 at first. No gradient reaches them: moments of the residuals
    of a finished network give them. How long a walk remembers its factors belongs to them (:meth:`correlation`). Not in
    the paper.

    Parameters
    ----------
    n_genes
        Number of genes.

    Attributes
    ----------
    directions
        Changes of log rates along each direction, ``(n_genes, n_directions)``.
    roots
        Symmetric square roots of the covariances at :meth:`levels`, ``(n_levels, n_directions, n_directions)``.
    memory
        Memory m of the factors, one number from 0 (none) to below 1.
    """

    directions: Tensor
    roots: Tensor
    memory: Tensor

    def __init__(self, n_genes: int) -> None:
        super().__init__()
        n_directions = min(_N_DIRECTIONS, n_genes)
        self.register_buffer("directions", torch.zeros(n_genes, n_directions))
        self.register_buffer("roots", torch.zeros(_N_LEVELS, n_directions, n_directions))
        self.register_buffer("memory", torch.tensor(_MEMORY))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Files of models from before there was any covariation have none."""
        state_dict.setdefault(f"{prefix}memory", torch.tensor(_MEMORY))
        for name, none in self.named_buffers():
            state_dict.setdefault(prefix + name, torch.zeros_like(none))
        super()._load_from_state_dict(state_dict, prefix, *args)

    @staticmethod
    def levels() -> list[float]:
        """Survivals at which the covariances are known.

        Returns
        -------
        Rising from 0.
        """
        return [_LEAST * math.exp(k * _spacing()) - _LEAST for k in range(_N_LEVELS)]

    @property
    def known(self) -> bool:
        """Whether there is any covariance."""
        return bool(self.roots.any())

    def put(self, directions: Tensor, covariances: Tensor) -> None:
        """Take over what was found; the memory of factors is as at first.

        Parameters
        ----------
        directions
            Changes of log rates, ``(n_genes, n_directions)``; those of genes that would vary too widely are scaled down.
        covariances
            Positive semi-definite, one for each of :meth:`levels`, ``(n_levels, n_directions, n_directions)``.
        """
        variance, axes = torch.linalg.eigh(covariances)
        self.roots.copy_((axes * variance.clamp_min(0).sqrt().unsqueeze(-2)) @ axes.mT)
        widest = torch.linalg.vector_norm(directions @ self.roots, dim=-1).amax(0).clamp_min(1e-12)
        self.directions.copy_(directions * (_WIDEST / widest).clamp_max(1).unsqueeze(-1))
        self.memory.fill_(_MEMORY)

    def loadings(self, alpha: Tensor) -> Tensor:
        """Changes of log rates by independent standard normal factors.

        Parameters
        ----------
        alpha
            Survival of all entries, one number.

        Returns
        -------
        ``(n_genes, n_directions)``; roots are interpolated between levels.
        """
        place = ((alpha + _LEAST) / _LEAST).log() / _spacing()
        level = torch.arange(_N_LEVELS, device=alpha.device)
        near = (1 - (place.clamp_max(_N_LEVELS - 1) - level).abs()).clamp_min(0)
        return self.directions @ torch.tensordot(near, self.roots, 1)

    def correlation(self, before: Tensor, alpha: Tensor) -> Tensor:
        r"""Correlation of the factors of a walk at two survivals, :math:`(\alpha_t / \alpha_s)^{1 / m - 1}`.

        Parameters
        ----------
        before
            Survival of the step before, one number.
        alpha
            Survival now, larger.

        Returns
        -------
        From 0 to 1; 0 without a memory, and from empty cells.
        """
        return (before / alpha) ** (1 / self.memory - 1)


def _spacing() -> float:
    """Distance between levels."""
    return math.log(1 + _LAST / _LEAST) / (_N_LEVELS - 1)
