"""What is known of a cell as a whole: how much survived, how much was seen, how large it is."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from sccountsdiff.nets._library import GivenTotals, Library


@final
class CellStatistics(nn.Module):
    """Survival, molecules seen and library size of a cell, as features.

    Parameters
    ----------
    library
        What the library sizes count; each group of features is summarised by itself.
    width
        Number of features.
    """

    #: Numbers that describe each group.
    N_STATISTICS = 6

    def __init__(self, library: Library, width: int) -> None:
        super().__init__()
        self.library = library
        self.projection = nn.Sequential(
            nn.Linear(self.N_STATISTICS * library.n_groups, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> Tensor:
        """Features ``(n_cells, width)``."""
        return self.projection(self.summary(x_t, alpha, given).flatten(1))

    def summary(self, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> Tensor:
        """Six numbers of order one for each group.

        Parameters
        ----------
        x_t
            Surviving UMI counts, ``(n_cells, n_genes)``.
        alpha
            Survival, ``(n_cells, 1)`` or ``(n_cells, n_genes)``.
        given
            Library sizes.

        Returns
        -------
        ``(n_cells, 6, n_groups)``.
        """
        log_mean = torch.log1p(self.library.mean)
        mean_alpha = self.library.average(alpha)
        log_alpha = torch.log10(mean_alpha + 1e-4) / 2
        seen = torch.log1p(self.library.total(x_t)) - log_mean
        unknown = torch.ones_like(seen) if given is None else given.total.isnan().to(seen.dtype)
        size = torch.zeros_like(seen) if given is None else (torch.log1p(given.total) - log_mean).nan_to_num(0.0)
        return torch.stack([mean_alpha, self.library.least(alpha), log_alpha, seen, size, unknown], 1)
