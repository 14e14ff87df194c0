"""DCM: masked diffusion of count tokens."""

from __future__ import annotations

from typing import Any

from anndata import AnnData

from sccountsdiff.model._base import DiffusionModel
from sccountsdiff.model._blocks import rehearsal_of
from sccountsdiff.objective import WEIGHTINGS, Objective, ScheduledSurvival
from sccountsdiff.process import REVEALS, SCHEDULES, Absorbing


class DCM(DiffusionModel):
    """Masked (absorbing) diffusion of count tokens: impute, generate, predict genes from each other.

    Whole entries are hidden, never single molecules, and the model learns the count of each hidden entry from those it
    can see: a probability for every small count and a tail for the large ones. It does everything that
    :class:`~sccountsdiff.CountsDiff` does with entries that are seen or hidden; see its methods.

    What it cannot do raises an error that says why. An entry is a token, seen whole or not at all: cells cannot be
    recovered at a larger depth (``impute(target_depth=...)``), nor begun from cells of another library size. And a law
    of tokens has no rate behind it: expected expression is exact, but there are no posterior draws of it
    (``get_normalized_expression(n_samples=...)``, ``differential_expression``); draw counts instead.

    Expected expression of an entry that was seen comes from the other genes of the cell, not from its own count: the
    genes are hidden in ten groups, one group in each pass.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`setup_anndata`.
    registry
        Registry to build the model from, in place of ``adata``.
    denoiser
        Network: ``"mlp"``, or ``"transformer"`` as in the paper, with one token per gene.
    head
        From the network to the law of a count: ``"tokens"``, or ``"conjugate"`` (negative binomial) or ``"poisson"``.
    schedule
        Survival over time, in training and in walks: ``"linear"`` (the paper's, which it calls log-linear),
        ``"cosine"``, ``"blackout"`` or ``"geometric"``.
    weighting
        Weight of the training loss: ``"bound"``, 1 / t under the linear schedule, for nats; or ``"paper"``, 1.
    reveal
        Order in which hidden entries come back in a walk: ``"random"``, the expected number of them in each step;
        ``"independent"``, a coin for each; or ``"confident"``, the most certain first (no sample of the model).
    n_hidden, n_layers, dropout, condition_dropout
        Width, number of blocks, dropout, and chance that a condition is hidden in training (0 forbids guidance);
        ``None`` is the default of the denoiser.
    **denoiser_kwargs
        More arguments of the denoiser, see :class:`~sccountsdiff.nets.GeneMLP` and
        :class:`~sccountsdiff.nets.GeneTransformer`.

    References
    ----------
    DCM: Discrete diffusion for single-cell gene expression modeling (Bhattacharya et al. 2026, bioRxiv
    2026.02.19.705033). This model differs from it by a tail for large counts, by depth as a condition, and by a sampler
    that reveals entries at the rate of the reverse process.

    Examples
    --------
    >>> adata = sccountsdiff.datasets.pbmc68k()
    >>> DCM.setup_anndata(adata, layer="counts", labels_key="cell_type")
    >>> model = DCM(adata)
    >>> model.train()
    >>> cells = model.generate({"cell_type": "CD19+ B"}, n_cells=200)
    """

    _named_choices = ("schedule", "weighting", "reveal")
    _births = "posterior"

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        denoiser: str = "mlp",
        head: str = "tokens",
        schedule: str = "linear",
        weighting: str = "bound",
        reveal: str = "random",
        n_hidden: int | None = None,
        n_layers: int | None = None,
        dropout: float | None = None,
        condition_dropout: float | None = None,
        **denoiser_kwargs: Any,
    ) -> None:
        super().__init__(adata, registry)
        network = self._network(
            denoiser,
            head=head,
            n_hidden=n_hidden,
            n_layers=n_layers,
            dropout=dropout,
            condition_dropout=condition_dropout,
            **denoiser_kwargs,
        )
        survival = SCHEDULES[schedule]()
        process = Absorbing(REVEALS[reveal](), survival)
        rehearsal = rehearsal_of(self.registry, self._sources)
        objective = Objective(process, ScheduledSurvival(survival), WEIGHTINGS[weighting](), rehearsal=rehearsal)
        self.module = self._module_cls(network, objective, self._sources)
        self.init_params_ = self._get_init_params(locals())
