"""What the models that users meet have in common."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData
from numpy.typing import ArrayLike
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.utils import setup_anndata_dsp

from sccountsdiff.model._compat import FIELD_REGISTRIES_KEY, STATE_REGISTRY_KEY
from sccountsdiff.model._expression import warn_of_model_counts
from sccountsdiff.model._fields import CountsField
from sccountsdiff.model._finetune import FineTuneMixin
from sccountsdiff.model._generate import GenerateMixin
from sccountsdiff.model._loader import CountsDataLoader
from sccountsdiff.model._markers import MarkersMixin
from sccountsdiff.model._module import CountDiffusionModule
from sccountsdiff.model._mudata import MuDataMixin
from sccountsdiff.model._names import nearest_first
from sccountsdiff.model._setup import condition_sources, make_fields
from sccountsdiff.model._summary import SummaryMixin
from sccountsdiff.model._text import listed
from sccountsdiff.model._train import TrainMixin
from sccountsdiff.nets import DENOISERS, Denoiser


class DiffusionModel(MuDataMixin, TrainMixin, SummaryMixin, FineTuneMixin, MarkersMixin, GenerateMixin):
    """A diffusion model of UMI counts, behind the habits of scvi-tools.

    Subclasses choose a process, a network and a training objective in their constructor.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`setup_anndata`, or MuData registered with :meth:`setup_mudata`.
    registry
        Registry to build the model from, in place of ``adata``.
    """

    _module_cls = CountDiffusionModule
    _data_loader_cls = CountsDataLoader

    def __init__(self, adata: AnnData | MuData | None = None, registry: dict[str, Any] | None = None) -> None:
        mdata = adata if isinstance(adata, MuData) else None
        super().__init__(adata if mdata is None else self._joined(mdata), registry)
        self._mdata = mdata
        self._sources = condition_sources(self.registry)
        self.population_ = None
        self.known_levels_, self.unfrozen_ = None, False

    def _network(self, denoiser: str, **options: Any) -> Denoiser:
        """A network for the genes and condition keys of the data; options that are None keep its defaults."""
        counts = self.registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY][STATE_REGISTRY_KEY]
        gene_mean, groups = np.asarray(counts[CountsField.GENE_MEAN_KEY]), self._modalities
        dispersion = counts.get(CountsField.GENE_DISPERSION_KEY)  # models saved before it was kept have none
        library = {"library_mean": max(counts[CountsField.LIBRARY_MEAN_KEY], 1.0)}
        if groups is not None:
            library = {"library_mean": groups.means(gene_mean), "n_features": groups.n_features.tolist()}
        return DENOISERS[denoiser](
            len(counts[CountsField.COLUMN_NAMES_KEY]),
            tuple(source.key for source in self._sources),
            gene_mean=torch.as_tensor(gene_mean),
            gene_dispersion=None if dispersion is None else torch.as_tensor(dispersion),
            **library,
            **{name: option for name, option in options.items() if option is not None},
        )

    def compile(self, **kwargs: Any) -> None:
        """Compile the network for imputation, generation and expression.

        The first minibatch takes ten seconds to a minute, the others less than before. On a CPU, minibatches then go one
        after the other instead of sharing the cores, so that it pays on a GPU or on one core. A saved model is not
        compiled; training is compiled by ``train(plan_kwargs={"compile": True})``, loss and all.

        Parameters
        ----------
        **kwargs
            Passed on to :func:`torch.compile`, which needs a C++ compiler.
        """
        self.module.compile_network(**kwargs)

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
        modality_key: str | None = None,
        embedding_keys: list[str] | None = None,
        control: str | None = None,
        perturbation_separator: str | None = "+",
        perturbation_embeddings: Mapping[str, ArrayLike] | None = None,
        **kwargs: Any,
    ) -> None:
        """%(summary)s

        Every count is checked, and counts that a model drew are warned of. The data are not changed, apart from the
        bookkeeping columns of scvi-tools. Each key becomes a condition under the name of its column:
        ``generate(condition={"cell_type": "B cell"})``.

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
        modality_key
            Column of ``adata.var`` with the modality of each feature, where there are several (``"feature_types"`` in 10x
            files): each has a library size of its own. Features of one modality follow each other. Which cells lack
            one may be said in ``adata.obsm`` under the same key, a boolean table of cells by modalities.
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
        TypeError
            If ``adata`` is something else, such as an AnnCollection, or an argument is unknown or no list.
        KeyError
            If there is no such layer or column.
        ValueError
            If a count is NaN, infinite, negative or fractional, a covariate is missing, or a name is used twice.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        if not issubclass(type(adata), AnnData):  # adapters of scvi-tools pretend to isinstance
            raise TypeError(
                f"setup_anndata takes an AnnData, got {type(adata).__name__}. Write several files to one store with "
                "anndata.experimental.concat_on_disk, and open it with sccountsdiff.data.open_cells."
            )
        if adata.is_view:
            raise ValueError("adata is a view of another AnnData. Run adata = adata.copy() first.")
        if layer is not None and layer not in adata.layers:
            raise KeyError(f"adata.layers has no {layer!r}; it holds {listed(filter(None, adata.layers))}.")
        if kwargs and "source_registry" not in kwargs:  # what scvi-tools passes on when a model is loaded
            known = inspect.signature(cls.setup_anndata).parameters.keys() - {"adata", "kwargs"}
            name = next(iter(kwargs))
            raise TypeError(f"setup_anndata has no argument {name!r}. It has {nearest_first(name, sorted(known))}.")
        warn_of_model_counts(adata, layer)
        fields = make_fields(setup_method_args["setup_args"])
        manager = AnnDataManager(fields=fields, setup_method_args=setup_method_args)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)
