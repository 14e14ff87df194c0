"""MuData in and out: joined to one AnnData on the way in, results to the right modality on the way out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from anndata import AnnData
from mudata import MuData

from sccountsdiff.data import MODALITY_KEY, boolean_layers, join_modalities, write_back
from sccountsdiff.model._compat import SCVI_UUID_KEY
from sccountsdiff.model._inference import InferenceMixin
from sccountsdiff.model._modalities import modalities_of


class MuDataMixin(InferenceMixin):
    """Setup, loading and questions with a MuData in place of an AnnData.

    ``model.adata`` is the joined AnnData (:func:`~sccountsdiff.data.join_modalities`), which shares nothing with the
    MuData but its values; layers that a method writes go to the modalities of the MuData and leave the joined data.
    """

    #: The MuData that the model was made with.
    _mdata: MuData | None = None

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        modalities: Mapping[str, str | None] | Iterable[str] | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        perturbation_key: str | None = None,
        measured_genes: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Set up counts of several modalities (RNA and surface proteins, RNA and ATAC fragments) for one model.

        Each modality has a library size of its own. A cell that lacks one gets it imputed, and does not learn from it.

        Parameters
        ----------
        mdata
            Cells with several modalities, in memory.
        modalities
            Modalities to model, with the layer of their raw counts (None is ``.X``):
            ``{"rna": "counts", "prot": None}``. ``None`` is all with ``.X``.
        batch_key, labels_key, categorical_covariate_keys, continuous_covariate_keys, perturbation_key
            Columns of ``mdata.obs``; a column of a modality's own ``obs`` is called ``"rna:batch"``.
        measured_genes
            Features that each batch measured, of all modalities together.
        **kwargs
            More arguments of :meth:`setup_anndata`.

        Raises
        ------
        KeyError
            If there is no such modality or layer.
        ValueError
            If ``mdata`` is a view, feature names repeat, or counts are not counts.

        Examples
        --------
        >>> CountsDiff.setup_mudata(mdata, {"rna": "counts", "prot": None}, batch_key="rna:batch")
        >>> model = CountsDiff(mdata)
        >>> model.train()
        >>> model.impute()  # mdata["rna"].layers["imputed"], mdata["prot"].layers["imputed"]
        """
        if mdata.is_view:
            raise ValueError("mdata is a view of another MuData. Run mdata = mdata.copy() first.")
        joined = join_modalities(mdata, modalities)
        keys = {
            "batch_key": batch_key,
            "labels_key": labels_key,
            "categorical_covariate_keys": categorical_covariate_keys,
            "continuous_covariate_keys": continuous_covariate_keys,
            "perturbation_key": perturbation_key,
            "measured_genes": measured_genes,
        }
        cls.setup_anndata(joined, modality_key=MODALITY_KEY, **keys, **kwargs)
        mdata.uns[SCVI_UUID_KEY] = joined.uns[SCVI_UUID_KEY]

    @classmethod
    def _joined(cls, mdata: MuData) -> AnnData:
        """The joined data that :meth:`setup_mudata` made of a MuData."""
        manager = cls._setup_adata_manager_store.get(mdata.uns.get(SCVI_UUID_KEY))
        if manager is None:
            raise ValueError(f"Please set up your MuData with {cls.__name__}.setup_mudata first.")
        _check_same(manager.adata, mdata)
        return manager.adata

    @classmethod
    def load(cls, dir_path: str, adata: AnnData | MuData | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """Load a model, with an AnnData or a MuData; see :meth:`scvi.model.base.BaseModelClass.load`."""
        if not isinstance(adata, MuData):
            return super().load(dir_path, adata, *args, **kwargs)
        modalities = modalities_of(cls.load_registry(dir_path, kwargs.get("prefix")))
        if modalities is None:
            raise ValueError("The model was set up with an AnnData of one modality. Pass that modality: mdata['rna'].")
        model = super().load(dir_path, join_modalities(adata, modalities.layers), *args, **kwargs)
        model._mdata = adata
        return model

    @contextmanager
    def _using(self, adata: AnnData | MuData | None) -> Iterator[AnnData]:
        """The validated data; what is written to a joined AnnData meanwhile goes on to the MuData."""
        mdata = self._mdata if adata is None else adata
        if not isinstance(mdata, MuData):
            with super()._using(adata) as data:
                yield data
            return
        joined = self._refreshed(mdata) if mdata is self._mdata else self._join(mdata)
        kept, columns = set(joined.layers), set(joined.obsm)
        with super()._using(joined) as data:
            yield data
        written = [name for name in data.layers if name is not None and name not in kept]
        write_back(data, mdata, written)
        for name in written:
            del data.layers[name]
        for name in set(data.obsm) - columns:
            mdata.obsm[name] = data.obsm.pop(name)

    def _join(self, mdata: MuData) -> AnnData:
        """Another MuData as one AnnData."""
        if self._modalities is None:
            raise ValueError("The model was set up with an AnnData of one modality. Pass that modality: mdata['rna'].")
        layers = self._modalities.layers
        if layers is None:
            raise ValueError(
                "The model was set up with an AnnData. Pass one: sccountsdiff.data.join_modalities(mdata, modalities)."
            )
        return join_modalities(mdata, {name: layers[name] for name in layers if name in mdata.mod})

    def _refreshed(self, mdata: MuData) -> AnnData:
        """The model's own joined data, with the conditions and masks that its MuData has now."""
        joined = self.adata
        assert joined is not None
        _check_same(joined, mdata)
        for source in self._sources:
            if source.name in mdata.obs:
                joined.obs[source.name] = mdata.obs[source.name].to_numpy()
        for name, mask in boolean_layers(mdata, joined.obsm[MODALITY_KEY].columns).items():
            joined.layers[name] = mask
        return joined


def _check_same(joined: AnnData, mdata: MuData) -> None:
    if not joined.obs_names.equals(mdata.obs_names):
        raise ValueError(
            "The cells of mdata are not those it was set up with. Run setup_mudata again, or load the model with "
            "CountsDiff.load(folder, adata=mdata)."
        )
