"""CountsDiff: diffusion by binomial thinning of counts."""

from __future__ import annotations

from typing import Any

from anndata import AnnData

from sccountsdiff.model._base import DiffusionModel
from sccountsdiff.model._blocks import rehearsal_of
from sccountsdiff.model._calibration import CalibrateDispersion
from sccountsdiff.model._covary import FitCovariation
from sccountsdiff.model._doubt import DoubtConditions
from sccountsdiff.model._match import MatchTotals
from sccountsdiff.model._memory import FitMemory
from sccountsdiff.model._polish import Polish
from sccountsdiff.model._refit import RefitGenes
from sccountsdiff.model._switch import FindSwitches
from sccountsdiff.objective import PATTERNS, WEIGHTINGS, Objective
from sccountsdiff.process import Thinning


class CountsDiff(DiffusionModel):
    """Count diffusion for UMI counts: impute, denoise, generate.

    The model learns to undo binomial thinning of counts: which molecules are missing, given those that survived. One
    trained model imputes (:meth:`impute`), denoises (:meth:`get_normalized_expression`) and generates
    (:meth:`generate`), conditioned on any of the columns it was set up with.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`setup_anndata`.
    registry
        Registry to build the model from, in place of ``adata``.
    denoiser
        Network: ``"mlp"`` or ``"transformer"``.
    head
        From logits to posterior: ``"mixture"`` (Gamma-Poisson with an outlier state of each gene), ``"conjugate"`` (the
        same without, a quarter faster to train), ``"poisson"`` or ``"softplus"`` (the paper's).
    pattern
        Survivals in training: ``"mixture"``, ``"uniform"`` (generation and denoising only), ``"paper"`` (uniform time
        under the cosine schedule) or ``"entrywise"``.
    weighting
        Weight of the training loss: ``"bound"`` (nats) or ``"paper"``.
    n_hidden, n_layers, dropout, condition_dropout
        Width, number of blocks, dropout, and chance that a condition is hidden in training (0 forbids guidance);
        ``None`` is the default of the denoiser.
    **denoiser_kwargs
        More arguments of the denoiser, see :class:`~sccountsdiff.nets.GeneMLP` and
        :class:`~sccountsdiff.nets.GeneTransformer`.

    References
    ----------
    CountsDiff: diffusion on the natural numbers (arXiv 2604.03779).

    Examples
    --------
    >>> adata = sccountsdiff.datasets.pbmc68k()
    >>> CountsDiff.setup_anndata(adata, layer="counts", labels_key="cell_type")
    >>> model = CountsDiff(adata)
    >>> model.train()
    >>> model.impute()  # adata.layers["imputed"]
    >>> cells = model.generate({"cell_type": "CD19+ B"}, n_cells=200)
    """

    _finish = (
        RefitGenes,
        FindSwitches,
        Polish,
        RefitGenes,
        DoubtConditions,
        CalibrateDispersion,
        MatchTotals,
        FitCovariation,
        FitMemory,
    )

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        denoiser: str = "mlp",
        head: str = "mixture",
        pattern: str = "mixture",
        weighting: str = "bound",
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
        rehearsal = rehearsal_of(self.registry, self._sources)
        objective = Objective(Thinning(), PATTERNS[pattern](), WEIGHTINGS[weighting](), rehearsal=rehearsal)
        self.module = self._module_cls(network, objective, self._sources)
        self.init_params_ = self._get_init_params(locals())
