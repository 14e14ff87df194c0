"""What every denoiser is: thinned counts, survival and condition in, a posterior over missing molecules out."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from sccountsdiff.conditioning import Condition, Key
from sccountsdiff.nets._covariation import Covariation
from sccountsdiff.nets._gene_laws import GeneLaws
from sccountsdiff.nets._heads import FAST, Head
from sccountsdiff.nets._library import Library, OneLibrary
from sccountsdiff.nets._offsets import GeneOffsets
from sccountsdiff.process import Posterior, Registry

DENOISERS: Registry[Denoiser] = Registry("denoiser")


class Denoiser(nn.Module, ABC):
    """Network from ``(x_t, alpha, condition)`` to a posterior over the missing molecules.

    Parameters
    ----------
    n_genes
        Number of genes.
    keys
        Condition keys that the network reads.
    condition_dropout
        Chance that a key is hidden in training; 0 means that the network has no learned null and cannot be guided.

    Attributes
    ----------
    library
        What the library sizes of a cell count: all features, unless a subclass says otherwise.
    offsets
        Offsets of the logits of genes for categories, 0 at first.
    covariation
        How the rates of genes vary together beyond what is expected of them, not at all at first.
    """

    def __init__(self, n_genes: int, keys: tuple[Key, ...], condition_dropout: float) -> None:
        super().__init__()
        if not 0 <= condition_dropout < 1:
            raise ValueError(f"condition_dropout must lie in [0, 1), got {condition_dropout}.")
        self.keys = tuple(keys)
        self.condition_dropout = condition_dropout
        self.library: Library = OneLibrary(1.0)
        self.offsets = GeneOffsets(self.keys, n_genes)
        self.covariation = Covariation(n_genes)

    @abstractmethod
    def forward(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Posterior:
        """Posterior over the missing molecules.

        Parameters
        ----------
        x_t
            Surviving UMI counts, ``(n_cells, n_genes)``.
        alpha
            Survival, ``(n_cells, 1)`` or ``(n_cells, n_genes)``; 0 marks an entry that was not seen.
        condition
            Condition of each cell.
        """

    def expected(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Tensor:
        """Expected counts of a full measurement by what the network says of the cell.

        What was seen of a gene counts only as part of what was seen of the cell: two conditions differ in these
        expectations as the network has learned, and not less where a gene's own count is high. By default the mean of
        the posterior.

        Parameters
        ----------
        x_t
            Surviving UMI counts, ``(n_cells, n_genes)``.
        alpha
            Survival, ``(n_cells, 1)`` or ``(n_cells, n_genes)``.
        condition
            Condition of each cell.

        Returns
        -------
        ``(n_cells, n_genes)``.
        """
        return self(x_t, alpha, condition).rate

    @property
    def numbers_per_entry(self) -> int:
        """Numbers that a pass keeps for each entry of a minibatch, roughly: they limit how many cells a GPU takes at a time."""
        return 32

    def scaled_log_dispersion(self) -> nn.Parameter | None:
        """Dispersions that can be calibrated after training (:meth:`Head.scaled_log_dispersion`), None by default."""
        return None

    def late_scaled_logs(self) -> list[nn.Parameter]:
        """What each gene has of its own besides, learned at the end of a training (:meth:`Head.late_scaled_logs`).

        Returns
        -------
        Logarithms divided by :data:`FAST`, ``(n_genes,)`` each; none by default.
        """
        return []

    def vary_dispersions(self) -> None:
        """Let dispersions depend on what is expected from now on (:meth:`Head.vary_dispersions`); none do by default."""

    def scaled_logs(self) -> list[nn.Parameter]:
        """What each gene has of its own (:meth:`Head.scaled_logs`).

        Returns
        -------
        Logarithms divided by :data:`FAST`, ``(n_genes,)`` each; none by default.
        """
        return []

    def laws(self) -> GeneLaws | None:
        """Laws of the genes in two states (:meth:`Head.laws`).

        Returns
        -------
        Numbers of each gene, ``(n_genes,)`` each; None by default.
        """
        return None

    def switch(self, genes: Tensor, laws: GeneLaws) -> None:
        """Take over laws of some genes, and what they ask for of the network's expectations.

        Parameters
        ----------
        genes
            Numbers of the genes, ``(n,)``.
        laws
            Their laws, ``(n,)`` each.
        """

    @abstractmethod
    def embed(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Tensor:
        """Features of the cells: the last hidden layer.

        Parameters
        ----------
        x_t
            Surviving UMI counts, ``(n_cells, n_genes)``.
        alpha
            Survival, ``(n_cells, 1)`` or ``(n_cells, n_genes)``.
        condition
            Condition of each cell.

        Returns
        -------
        ``(n_cells, width)``.
        """


def check_shape(n_hidden: int, n_layers: int, dropout: float) -> None:
    """Refuse a network that cannot be built, or that learns nothing.

    Parameters
    ----------
    n_hidden
        Width, at least 1.
    n_layers
        Number of blocks, at least 0.
    dropout
        In [0, 1).

    Raises
    ------
    ValueError
        Naming the argument that offends.
    """
    if n_hidden < 1 or n_layers < 0:
        raise ValueError(f"Need n_hidden of at least 1 and n_layers of at least 0, got {n_hidden} and {n_layers}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}.")


class HeadedDenoiser(Denoiser):
    """A denoiser whose posterior is that of a head on logits.

    Attributes
    ----------
    head
        From logits to the posterior.
    """

    head: Head

    @abstractmethod
    def logits(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Tensor:
        """Outputs of the network for the head.

        Parameters
        ----------
        x_t
            Surviving UMI counts, ``(n_cells, n_genes)``.
        alpha
            Survival, ``(n_cells, 1)`` or ``(n_cells, n_genes)``.
        condition
            Condition of each cell.

        Returns
        -------
        ``(n_cells, n_outputs * n_genes)``, the first of all genes first.
        """

    @property
    def numbers_per_entry(self) -> int:
        """Those of the head."""
        return self.head.numbers_per_entry

    def scaled_log_dispersion(self) -> nn.Parameter | None:
        """Dispersions of the head."""
        return self.head.scaled_log_dispersion()

    def late_scaled_logs(self) -> list[nn.Parameter]:
        """What each gene has of its own in the head besides."""
        return self.head.late_scaled_logs()

    def vary_dispersions(self) -> None:
        """Let those of the head."""
        self.head.vary_dispersions()

    def scaled_logs(self) -> list[nn.Parameter]:
        """What each gene has of its own in the head."""
        return self.head.scaled_logs()

    def laws(self) -> GeneLaws | None:
        """Laws of the genes by the head."""
        return self.head.laws()

    def switch(self, genes: Tensor, laws: GeneLaws) -> None:
        """Give laws to the head, and shifts to the offsets of all cells."""
        self.head.put(genes, laws)
        self.offsets.everyone.weight.data[:, genes] += laws.shift / FAST

    def expected(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Tensor:
        """Expected counts by the head."""
        return self.head.expected(self.logits(x_t, alpha, condition), x_t, alpha, self.library.given(condition))

    def forward(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Posterior:
        """Posterior of the head over the missing molecules."""
        return self.head(self.logits(x_t, alpha, condition), x_t, alpha, self.library.given(condition))
