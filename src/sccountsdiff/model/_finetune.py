"""Teaching a trained model new conditions and batches (scArches: Lotfollahi et al. 2022)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from anndata import AnnData
from mudata import MuData
from numpy.typing import ArrayLike, NDArray
from scvi import settings
from scvi.model.base import BaseModelClass

from sccountsdiff.model._compat import devices_dsp, parse_device_args
from sccountsdiff.model._growth import adopt_weights, keep_known
from sccountsdiff.model._query import QueryMixin, genes_of, with_genes_of
from sccountsdiff.model._reference import Reference, reference_of
from sccountsdiff.model._setup import ConditionSource
from sccountsdiff.model._text import listed


class FineTuneMixin(QueryMixin):
    """Query data with new categories."""

    #: Name of a key -> number of its first levels, which training leaves as they are; None if all weights are trained.
    known_levels_: dict[str, int] | None
    #: Whether it started from a reference, and all weights are trained: offsets of genes as well.
    unfrozen_: bool

    @classmethod
    @devices_dsp.dedent
    def load_query_data(
        cls,
        adata: AnnData,
        reference_model: BaseModelClass | str | PathLike[str] | Mapping[str, Any],
        inplace_subset_query_vars: bool = False,
        accelerator: str = "auto",
        device: int | str = "auto",
        unfrozen: bool = False,
        measured_genes: Mapping[str, Sequence[str]] | str | None = None,
        perturbation_embeddings: Mapping[str, ArrayLike] | None = None,
    ) -> Any:
        """A model of query data that starts from a trained one, and learns only what is new.

        Categories that the reference did not know (batches, labels, covariates, perturbations) come after those it
        knew, each with a vector and an offset of each gene (:class:`~sccountsdiff.nets.GeneOffsets`) of its own;
        :meth:`train` moves these and nothing else. Of everything that the reference knew, the model goes on saying
        exactly the same. Before training a new category is answered as if it were not given.

        Parameters
        ----------
        adata
            Query data with the columns and the layer that the reference was set up with; ``setup_anndata`` need not be
            called. Genes are matched by name: those that the reference does not know are left out, those that the query
            lacks are not measured (:meth:`prepare_query_anndata`).
        reference_model
            A trained model, the folder it was saved to, or the content of its file (``torch.load``).
        inplace_subset_query_vars
            Whether to give ``adata`` itself the genes of the reference, where it has others; else the model works on a
            copy, ``model.adata``.
        %(param_accelerator)s
        %(param_device)s
        unfrozen
            Whether to train all weights, from those of the reference. The model then forgets of the old conditions what
            the query data do not repeat.
        measured_genes
            The genes that each new batch measured, as in :meth:`setup_anndata`.
        perturbation_embeddings
            Vectors of new perturbations, by name, if the reference knows perturbations by vectors.

        Returns
        -------
        Model of the same class with the query data. It remembers the library sizes and conditions of the cells that
        the reference was trained on, and can be saved and loaded like any other; what was frozen stays frozen.

        Raises
        ------
        TypeError
            If ``reference_model`` is none of these.
        KeyError
            If the query lacks a column that the reference was set up with.
        ValueError
            If the reference is not trained or of another class, no gene of it is in the query, counts are not counts,
            or a new perturbation has no vector where the others have one.

        Warns
        -----
        UserWarning
            If genes are left out or missing, or there is no new category.

        References
        ----------
        scArches: Mapping single-cell data to reference atlases by transfer learning (Lotfollahi et al. 2022).

        Examples
        --------
        >>> query_model = CountsDiff.load_query_data(query, "reference_folder")
        >>> query_model.train()
        >>> cells = query_model.generate({"batch": "new donor", "cell_type": "B cell"}, n_cells=200)
        """
        if isinstance(adata, MuData):
            raise TypeError("adata is a MuData. Pass sccountsdiff.data.join_modalities(mdata, modalities).")
        reference = reference_of(cls, reference_model)
        _check_columns(adata, reference.sources)
        adata = _same_genes(adata, reference.registry, inplace_subset_query_vars)
        setup = _extended_setup(reference.setup, measured_genes, perturbation_embeddings)
        cls.setup_anndata(adata, source_registry=reference.registry, extend_categories=True, **setup)
        model = cls(adata, **reference.constructor)
        model._start_from(reference, unfrozen)
        _, _, target = parse_device_args(accelerator, device, return_device="torch", validate_single_device=True)
        model.to_device(target)
        return model

    def _start_from(self, reference: Reference, unfrozen: bool) -> None:
        """Take over weights and memory of a reference that knew fewer categories."""
        known = {source.name: len(source.categories) for source in reference.sources}
        self.known_levels_, self.unfrozen_ = None if unfrozen else known, unfrozen
        self._grow()
        adopt_weights(self.module, reference.weights, known)
        self.module.eval()
        self.is_trained_ = not any(weight.requires_grad for weight in self.module.parameters())
        if reference.population is not None:
            recode = {old.name: _recoding(old, now) for old, now in zip(reference.sources, self._sources, strict=True)}
            self.population_ = reference.population.handed_on(recode)
        if self.is_trained_:
            warnings.warn(
                "The query data hold no category with a vector to learn: there is nothing to train. Use the model as "
                "it is, or train all weights (unfrozen=True).",
                UserWarning,
                stacklevel=settings.warnings_stacklevel,
            )

    def _grow(self) -> None:
        """Say what a model that starts from another one learns: all, or what belongs to new levels."""
        self.module.denoiser.offsets.tables.requires_grad_(self.unfrozen_)
        if self.known_levels_ is not None:
            keep_known(self.module, self.known_levels_)


def _check_columns(adata: AnnData, sources: Sequence[ConditionSource]) -> None:
    lost = [source.name for source in sources if source.names is not None and source.name not in adata.obs]
    if lost:
        raise KeyError(
            f"adata.obs has no column {', '.join(map(repr, lost))}, which the reference was set up with; it holds "
            f"{listed(adata.obs.columns)}. If it is not known of the query, make it a category of its own: "
            f"adata.obs[{lost[0]!r}] = 'unknown'."
        )


def _same_genes(adata: AnnData, registry: dict[str, Any], inplace: bool) -> AnnData:
    """The query over the genes of the reference; what that changes is said."""
    genes = genes_of(registry)
    if np.array_equal(genes, adata.var_names.astype(str)):
        return adata
    prepared = with_genes_of(registry, adata)
    said = {
        "unknown to the reference and left out": adata.var_names[~adata.var_names.isin(genes)],
        "not in adata and taken as not measured": genes[~np.isin(genes, adata.var_names)],
        "copied to model.adata, which has the genes of the reference": [] if inplace else ["adata"],
    }
    changes = "; ".join(f"{what}: {listed(names)}" for what, names in said.items() if len(names))
    if changes:
        warnings.warn(f"The genes differ. {changes}.", UserWarning, stacklevel=settings.warnings_stacklevel)
    if not inplace:
        return prepared
    adata._init_as_actual(prepared)
    return adata


def _extended_setup(
    setup: Mapping[str, Any],
    measured_genes: Mapping[str, Sequence[str]] | str | None,
    vectors: Mapping[str, ArrayLike] | None,
) -> dict[str, Any]:
    """Arguments of ``setup_anndata`` of the reference, and what the query adds to them."""
    extended = dict(setup)
    if measured_genes is not None:
        before = setup["measured_genes"]
        both = isinstance(before, Mapping) and isinstance(measured_genes, Mapping)
        extended["measured_genes"] = {**before, **measured_genes} if both else measured_genes
    if vectors is not None:
        if setup.get("perturbation_embeddings") is None:
            raise ValueError(
                "perturbation_embeddings describes new perturbations, but the reference was set up without vectors: it "
                "learns one for each perturbation. Leave the argument out."
            )
        extended["perturbation_embeddings"] = {**setup["perturbation_embeddings"], **vectors}
    return extended


def _recoding(old: ConditionSource, now: ConditionSource) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """From the codes of a key to those it has where more levels are known: combinations change theirs."""
    if old.names is None or now.names is None:
        return lambda values: values
    before, after = old.names, now.names

    def recoded(codes: NDArray[Any]) -> NDArray[Any]:
        unique, inverse = np.unique(codes, return_inverse=True)
        names = before.column(unique)
        known = [-1 if code < 0 else after.code(name, now.name) for code, name in zip(unique, names, strict=True)]
        return np.array(known, dtype=np.int64)[inverse.ravel()]

    return recoded
