"""The model that users meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from anndata import AnnData
from numpy.typing import ArrayLike
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.utils import setup_anndata_dsp

from sccountsdiff.model._compat import FIELD_REGISTRIES_KEY, STATE_REGISTRY_KEY
from sccountsdiff.model._fields import CountsField
from sccountsdiff.model._generate import GenerateMixin
from sccountsdiff.model._impute import ImputeMixin
from sccountsdiff.model._loader import CountsDataLoader
from sccountsdiff.model._module import CountDiffusionModule
from sccountsdiff.model._query import QueryMixin
from sccountsdiff.model._setup import condition_sources, make_fields
from sccountsdiff.model._summary import SummaryMixin
from sccountsdiff.model._train import TrainMixin
from sccountsdiff.nets import DENOISERS
from sccountsdiff.objective import PATTERNS, WEIGHTINGS, Objective
from sccountsdiff.process import Thinning


class CountsDiff(TrainMixin, SummaryMixin, QueryMixin, ImputeMixin, GenerateMixin):
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
        From logits to posterior: ``"conjugate"`` (Gamma-Poisson), ``"poisson"`` or ``"softplus"`` (the paper's).
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

    _module_cls = CountDiffusionModule
    _data_loader_cls = CountsDataLoader

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        denoiser: str = "mlp",
        head: str = "conjugate",
        pattern: str = "mixture",
        weighting: str = "bound",
        n_hidden: int | None = None,
        n_layers: int | None = None,
        dropout: float | None = None,
        condition_dropout: float | None = None,
        **denoiser_kwargs: Any,
    ) -> None:
        super().__init__(adata, registry)
        self._sources = condition_sources(self.registry)
        counts = self.registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY][STATE_REGISTRY_KEY]
        sizes = {
            "n_hidden": n_hidden,
            "n_layers": n_layers,
            "dropout": dropout,
            "condition_dropout": condition_dropout,
        }
        network = DENOISERS[denoiser](
            len(counts[CountsField.COLUMN_NAMES_KEY]),
            tuple(source.key for source in self._sources),
            head=head,
            gene_mean=torch.as_tensor(counts[CountsField.GENE_MEAN_KEY]),
            library_mean=max(counts[CountsField.LIBRARY_MEAN_KEY], 1.0),
            **{name: size for name, size in sizes.items() if size is not None},
            **denoiser_kwargs,
        )
        objective = Objective(Thinning(), PATTERNS[pattern](), WEIGHTINGS[weighting]())
        self.module = self._module_cls(network, objective, self._sources)
        self.population_ = None
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    @setup_anndata_dsp.dedent
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        perturbation_key: str | None = None,
        observed_layer: str | None = None,
        measured_genes: Mapping[str, Sequence[str]] | str | None = None,
        embedding_keys: list[str] | None = None,
        control: str | None = None,
        perturbation_separator: str | None = "+",
        perturbation_embeddings: Mapping[str, ArrayLike] | None = None,
        **kwargs: Any,
    ) -> None:
        """%(summary)s

        Every count is checked. The data are not changed, apart from the bookkeeping columns of scvi-tools. Each key
        becomes a condition under the name of its column: ``generate(condition={"cell_type": "B cell"})``.

        Parameters
        ----------
        %(param_adata)s
        %(param_layer)s
        %(param_batch_key)s
        %(param_labels_key)s
        categorical_covariate_keys
            Columns of ``adata.obs`` with further categories (donor, sex, tissue).
        continuous_covariate_keys
            Columns of ``adata.obs`` with numbers (dose, time).
        perturbation_key
            Column of ``adata.obs`` that names the perturbation of each cell; ``"A+B"`` is A and B given together.
        observed_layer
            Boolean layer, False where a gene was not measured in a cell. Such entries are hidden from the model and
            carry no loss, and the library size of such a cell counts as unknown.
        measured_genes
            The genes that each batch measured, where data sets with different panels were joined; no layer is needed.
            A mapping from values of ``batch_key`` to gene names (a batch left out measured everything), or the key of a
            boolean table in ``adata.varm``, genes by batches, as :func:`~sccountsdiff.data.concat_panels` writes it.
        embedding_keys
            Entries of ``adata.obsm`` with one dense vector per cell to condition on.
        control
            The value of ``perturbation_key`` that stands for "not perturbed". Forecasts and contrasts need it.
        perturbation_separator
            What stands between the names of perturbations given together; ``None`` takes no name apart.
        perturbation_embeddings
            A vector for each perturbation, by name. The model then knows perturbations through these vectors, and can
            be asked for names that have a vector but no cell. Every perturbation in the data needs one; the control
            takes zeros if it has none.

        Raises
        ------
        ValueError
            If a count is NaN, infinite, negative or fractional, a covariate is missing, or a name is used twice.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        if adata.is_view:
            raise ValueError("adata is a view of another AnnData. Run adata = adata.copy() first.")
        fields = make_fields(setup_method_args["setup_args"])
        manager = AnnDataManager(fields=fields, setup_method_args=setup_method_args)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)
