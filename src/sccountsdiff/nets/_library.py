r"""Library sizes: one for a cell, or one for each group of its features (RNA, surface proteins).

Shares of expression add up to 1 within a group, and each group has a size of its own: how many antibody molecules were
counted says nothing of how deep the RNA was sequenced.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from sccountsdiff.conditioning import LIBRARY_SIZE, MEASURED, Condition
from sccountsdiff.process import MIN_RATE

#: Molecules of doubt about the total that a given library size leaves.
_TOTAL_PRIOR = 10.0

#: A network can expect a cell to be e**4 times as large as the average one, or as small.
_MAX_LOG_FACTOR = 4.0


class GivenTotals(NamedTuple):
    """Library sizes that a denoiser is told.

    Parameters
    ----------
    total
        UMI totals ``(n_cells, n_groups)``, NaN where unknown.
    measured
        Boolean ``(n_cells, n_genes)``: the entries that the totals count. None is all.
    """

    total: Tensor
    measured: Tensor | None = None


class Library(nn.Module, ABC):
    """What the library sizes of a cell count.

    Parameters
    ----------
    mean
        Mean library size of the training cells in UMI counts, for each group of features.
    """

    mean: Tensor

    def __init__(self, mean: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([float(value) for value in mean]))

    @property
    def n_groups(self) -> int:
        """Number of library sizes of a cell."""
        return len(self.mean)

    @abstractmethod
    def total(self, x: Tensor) -> Tensor:
        """Sums over the features of each group, ``(n_cells, n_groups)``.

        Parameters
        ----------
        x
            Values ``(n_cells, n_genes)``.
        """

    @abstractmethod
    def sizes(self, x: Tensor) -> Tensor:
        """The same as a condition gives it: ``(n_cells,)`` for one group, ``(n_cells, n_groups)`` for several.

        Parameters
        ----------
        x
            Values ``(n_cells, n_genes)``.
        """

    @abstractmethod
    def weighted(self, x: Tensor, y: Tensor) -> Tensor:
        """Sums of products over the features of each group, ``(n_cells, n_groups)``.

        Parameters
        ----------
        x
            Values ``(n_cells, n_genes)``.
        y
            Values, broadcastable to ``x``.
        """

    @abstractmethod
    def average(self, alpha: Tensor) -> Tensor:
        """Mean survival in each group, ``(n_cells, n_groups)``.

        Parameters
        ----------
        alpha
            Survival, ``(n_cells, 1)`` or ``(n_cells, n_genes)``.
        """

    @abstractmethod
    def least(self, alpha: Tensor) -> Tensor:
        """Smallest survival in each group, ``(n_cells, n_groups)``.

        Parameters
        ----------
        alpha
            Survival, ``(n_cells, 1)`` or ``(n_cells, n_genes)``.
        """

    @abstractmethod
    def spread(self, value: Tensor) -> Tensor:
        """The value of its group for each feature, broadcastable to ``(n_cells, n_genes)``.

        Parameters
        ----------
        value
            A value of each group, ``(n_cells, n_groups)``.
        """

    @abstractmethod
    def softmax(self, logits: Tensor) -> Tensor:
        """Shares that add up to 1 in each group, ``(n_cells, n_genes)``.

        Parameters
        ----------
        logits
            Any numbers, ``(n_cells, n_genes)``.
        """

    @abstractmethod
    def expected(self, logits: Tensor) -> Tensor:
        """Library sizes expected of cells of which nothing was seen, ``(n_cells, n_groups)`` or broadcastable.

        Parameters
        ----------
        logits
            What a network says of each feature, ``(n_cells, n_genes)``.
        """

    def seen_share(self, alpha: Tensor, share: Tensor) -> Tensor:
        """Part of a cell's expression that was visible, ``(n_cells, n_groups)``: shares weighted by survival.

        Parameters
        ----------
        alpha
            Survival, ``(n_cells, 1)`` or ``(n_cells, n_genes)``.
        share
            Shares of expression, which add up to 1 in each group, ``(n_genes,)`` or ``(n_cells, n_genes)``.

        Returns
        -------
        Between 0 and 1.
        """
        return self.average(alpha) if alpha.shape[-1] == 1 else self.weighted(alpha, share)

    def log_share(self, n_genes: int, gene_mean: Tensor | None) -> Tensor:
        """Log share of each gene in the training cells, where the logits of a network start.

        Parameters
        ----------
        n_genes
            Number of genes.
        gene_mean
            Mean UMI count of each gene in the training cells ``(n_genes,)``; None for equal shares.

        Returns
        -------
        ``(n_genes,)``.
        """
        mean = (torch.ones(n_genes) if gene_mean is None else gene_mean.float()).unsqueeze(0)
        floor = 1e-3 * self.average(mean).clamp_min(1e-9)  # a gene without a molecule keeps a small share
        mean = mean + self.spread(floor)
        return (mean / self.spread(self.total(mean))).log().squeeze(0)

    def given(self, condition: Condition) -> GivenTotals | None:
        """The library sizes that a condition gives.

        Parameters
        ----------
        condition
            Condition of each cell.

        Returns
        -------
        The totals, with what they count; None if the condition has none.
        """
        total = condition.get(LIBRARY_SIZE)
        if total is None:
            return None
        return GivenTotals(total.reshape(len(total), -1), condition.get(MEASURED))

    def match(self, rate: Tensor, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> Tensor:
        r"""Rescale the rates of a cell so that its missing molecules add up to what the library size leaves.

        With :math:`M = L - \sum_g x_g` missing in truth and :math:`\hat M = \sum_g (1 - \alpha_g) r_g` expected, the
        rates are multiplied by :math:`(a + M) / (a \sum_g r_g / L + \hat M)`, a = 10 molecules. Where more than a few are
        missing it is these that add up; near alpha = 1, where few are, a fresh measurement adds up to the library size.
        Cells of unknown library size keep their rates.

        Parameters
        ----------
        rate
            Rates, ``(n_cells, n_genes)``.
        x_t
            Surviving UMI counts, ``(n_cells, n_genes)``.
        alpha
            Survival, ``(n_cells, 1)`` or ``(n_cells, n_genes)``.
        given
            Library sizes.

        Returns
        -------
        Rates, ``(n_cells, n_genes)``.
        """
        if given is None:
            return rate
        dead = 1 - alpha if given.measured is None else (1 - alpha) * given.measured
        fresh = self.total(rate if given.measured is None else rate * given.measured)
        expected = dead * fresh if dead.shape[-1] == 1 else self.weighted(dead.expand_as(rate), rate)
        library = given.total.nan_to_num(0.0)
        missing = (library - self.total(x_t)).clamp_min(0)
        found = _TOTAL_PRIOR * fresh / library.clamp_min(1) + expected
        factor = (_TOTAL_PRIOR + missing) / found.clamp_min(MIN_RATE)  # of a group without a measured feature it is 0
        return rate * self.spread(torch.where(given.total.isnan(), 1.0, factor))


@final
class OneLibrary(Library):
    """One library size for all features.

    Parameters
    ----------
    mean
        Mean library size of the training cells, in UMI counts.
    """

    def __init__(self, mean: float) -> None:
        super().__init__([mean])

    def total(self, x: Tensor) -> Tensor:
        """Sum over all features."""
        return x.sum(-1, keepdim=True)

    def sizes(self, x: Tensor) -> Tensor:
        """Sum over all features, ``(n_cells,)``."""
        return x.sum(-1)

    def weighted(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum of products over all features."""
        return torch.linalg.vecdot(x, y.expand_as(x)).unsqueeze(-1)

    def average(self, alpha: Tensor) -> Tensor:
        """Mean survival."""
        return alpha.mean(-1, keepdim=True)

    def least(self, alpha: Tensor) -> Tensor:
        """Smallest survival."""
        return alpha.amin(-1, keepdim=True)

    def spread(self, value: Tensor) -> Tensor:
        """The value itself, which broadcasts."""
        return value

    def softmax(self, logits: Tensor) -> Tensor:
        """Shares that add up to 1."""
        return logits.softmax(-1)

    def expected(self, logits: Tensor) -> Tensor:
        """The mean over cells: what else was seen of the cell tells its size."""
        return self.mean


@final
class LibraryPerGroup(Library):
    """One library size for each of several groups of neighbouring features.

    Parameters
    ----------
    mean
        Mean library size of the training cells in UMI counts, for each group.
    n_features
        Number of features of each group; they follow each other.
    """

    def __init__(self, mean: Sequence[float], n_features: Sequence[int]) -> None:
        super().__init__(mean)
        if len(mean) != len(n_features) or min(n_features, default=0) < 1:
            raise ValueError(
                f"Each group needs a mean library size and at least one feature, got {len(mean)} means for groups of "
                f"{list(n_features)} features."
            )
        self.n_features = tuple(int(n) for n in n_features)

    def total(self, x: Tensor) -> Tensor:
        """Sum over the features of each group."""
        return torch.stack([part.sum(-1) for part in x.split(self.n_features, -1)], -1)

    def sizes(self, x: Tensor) -> Tensor:
        """Sums over the features of each group, ``(n_cells, n_groups)``."""
        return self.total(x)

    def weighted(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum of products over the features of each group."""
        pairs = zip(x.split(self.n_features, -1), y.expand_as(x).split(self.n_features, -1), strict=True)
        return torch.stack([torch.linalg.vecdot(first, second) for first, second in pairs], -1)

    def average(self, alpha: Tensor) -> Tensor:
        """Mean survival in each group."""
        if alpha.shape[-1] == 1:
            return alpha.expand(-1, self.n_groups)
        return torch.stack([part.mean(-1) for part in alpha.split(self.n_features, -1)], -1)

    def least(self, alpha: Tensor) -> Tensor:
        """Smallest survival in each group."""
        if alpha.shape[-1] == 1:
            return alpha.expand(-1, self.n_groups)
        return torch.stack([part.amin(-1) for part in alpha.split(self.n_features, -1)], -1)

    def spread(self, value: Tensor) -> Tensor:
        """The value of its group for each feature."""
        parts = zip(value.unbind(-1), self.n_features, strict=True)
        return torch.cat([part.unsqueeze(-1).expand(-1, n) for part, n in parts], -1)

    def softmax(self, logits: Tensor) -> Tensor:
        """Shares that add up to 1 in each group."""
        return torch.cat([part.softmax(-1) for part in logits.split(self.n_features, -1)], -1)

    def expected(self, logits: Tensor) -> Tensor:
        """The mean over cells times the sum of the exponentials of a group, which its shares do not depend on.

        A group may be hidden as a whole: then only the network can tell its size, from the other groups.
        """
        sums = torch.stack([part.logsumexp(-1) for part in logits.split(self.n_features, -1)], -1)
        return self.mean * sums.clamp(-_MAX_LOG_FACTOR, _MAX_LOG_FACTOR).exp()


def make_library(mean: float | Sequence[float], n_features: Sequence[int] | None) -> Library:
    """One library, or one for each group of features.

    Parameters
    ----------
    mean
        Mean library size of the training cells in UMI counts; one for each group if there are several.
    n_features
        Number of features of each group, None for one group of all.

    Returns
    -------
    :class:`OneLibrary` or :class:`LibraryPerGroup`.
    """
    if n_features is None:
        return OneLibrary(float(mean))  # type: ignore[arg-type]
    return LibraryPerGroup(list(mean), n_features)  # type: ignore[arg-type]
