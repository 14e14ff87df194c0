"""Query data with new categories: only what is new is learned, and all that was known stays as it was."""

from __future__ import annotations

import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from lightning.pytorch.callbacks import Callback
from mudata import MuData

from sccountsdiff import DCM, CountsDiff

NEW = {"batch": "third", "donor": 9}
TOKENS = [f"denoiser.conditions.encoders.{k}.weight" for k in (0, 2)]
OFFSETS = [f"denoiser.offsets.tables.{k}.weight" for k in (0, 2)]
GROWN = {*TOKENS, *OFFSETS}


def make_query(make_adata, seed: int = 3, n_cells: int = 100) -> ad.AnnData:
    """Half of the cells from a new batch and a new donor, where half of the genes are captured badly.

    The others are known to the reference, but for the batch "second" and the donor 7, which the query lacks.
    """
    query = make_adata(seed, n_cells)
    query.obs["batch"], query.obs["donor"] = "first", query.obs["donor"].replace({7: 0})
    for name, value in NEW.items():
        query.obs.loc[query.obs_names[::2], name] = value
    counts = query.layers["counts"].toarray()
    counts[::2, ::2] = np.random.default_rng(seed).binomial(counts[::2, ::2].astype(int), 0.2)
    query.layers["counts"] = sp.csr_matrix(counts)
    return query


def state_of(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.module.state_dict().items()}


def moved(model, before) -> set[str]:
    """Names of the weights that are not what they were."""
    return {name for name, value in state_of(model).items() if not torch.equal(value, before[name])}


def counts_of(model, condition, **options) -> np.ndarray:
    cells = model.generate(condition, n_cells=12, seed=1, n_steps=3, **options)
    return cells.X.toarray()


@pytest.fixture(scope="module")
def untaught(trained, make_adata) -> CountsDiff:
    """A query model before training; tests must not train it."""
    return CountsDiff.load_query_data(make_query(make_adata), trained, accelerator="cpu")


@pytest.fixture(scope="module")
def taught(trained, make_adata, quick_train) -> CountsDiff:
    """A query model, trained under a weight decay that would be seen; tests must not change it."""
    model = CountsDiff.load_query_data(make_query(make_adata), trained, accelerator="cpu")
    return quick_train(model, 25, plan_kwargs={"weight_decay": 0.5, "ema_decay": 0.9})


def test_new_categories_come_after_the_known_ones(trained, untaught):
    for old, now in zip(trained._sources, untaught._sources, strict=True):
        assert list(now.categories[: len(old.categories)]) == list(old.categories)
    named = {source.name: list(source.categories) for source in untaught._sources}
    assert named["batch"] == ["first", "second", "third"]
    assert named["donor"] == [0, 1, 7, 9]
    assert not untaught.is_trained


def test_only_what_belongs_to_new_categories_moves(trained, taught):
    before, after = state_of(trained), state_of(taught)
    assert after.keys() == before.keys()
    assert {name for name in before if before[name].shape != after[name].shape} == GROWN
    for name, value in before.items():
        assert torch.equal(after[name][: len(value)] if name in GROWN else after[name], value), name
    for k, name in zip((0, 2), TOKENS, strict=True):
        assert not torch.equal(after[name][-1], before["denoiser.conditions.null_tokens"][k])
    assert all(after[name][-1].abs().min() > 0 for name in OFFSETS)


def test_training_again_and_from_a_file_moves_nothing_else(trained, taught, make_adata, quick_train, tmp_path):
    taught.save(tmp_path / "model")
    again = CountsDiff.load(tmp_path / "model", adata=make_query(make_adata), accelerator="cpu")
    before = state_of(again)
    quick_train(again, 1, plan_kwargs={"weight_decay": 0.5})
    assert moved(again, before) == GROWN
    assert torch.equal(state_of(again)[TOKENS[0]][:2], before[TOKENS[0]][:2])
    assert len(again.population_) == len(trained.population_) + len(again.train_indices)


def test_new_vectors_learn_what_is_new(untaught, taught, make_adata):
    cells = make_query(make_adata, 5, 200)
    before, after = (m.get_elbo(cells, n_samples=8, return_mean=False) for m in (untaught, taught))
    gain = (before - after)[::2]
    assert gain.mean() > 5 * gain.std() / np.sqrt(len(gain))


def test_of_old_conditions_the_model_says_what_the_reference_said(trained, taught, make_adata):
    cells = make_adata(4)
    pd.testing.assert_frame_equal(taught.get_normalized_expression(cells), trained.get_normalized_expression(cells))
    np.testing.assert_array_equal(
        *(model.get_elbo(cells, n_samples=2, return_mean=False) for model in (taught, trained))
    )
    mask = np.random.default_rng(0).random(cells.shape) < 0.5
    for options in ({}, {"n_samples": 2, "return_mean": True, "n_steps": 3, "seed": 0}):
        ours, theirs = (m.impute(cells, mask=mask, layer_added=None, **options) for m in (taught, trained))
        pd.testing.assert_frame_equal(ours, theirs)
    old = {"batch": "second", "donor": 7}
    np.testing.assert_array_equal(counts_of(taught, old), counts_of(trained, old))


def test_before_training_a_new_category_counts_as_not_given(untaught, make_adata):
    cells = make_adata(4)
    cells.obs["batch"] = "third"
    with untaught._using(cells) as data:
        (minibatch,) = untaught._minibatches(data, None, 300)
    posterior = untaught.module.denoise(minibatch)
    untold = untaught.module.denoise(
        minibatch._replace(condition={**minibatch.condition, "batch": torch.tensor(-1).expand(240)})
    )
    torch.testing.assert_close(posterior.rate, untold.rate)


def test_new_conditions_can_be_asked_for(taught, make_adata):
    cells = taught.generate({"batch": "third", "cell_type": "B cell"}, n_cells=20, seed=0, n_steps=3)
    assert set(cells.obs["batch"]) == {"third"}
    assert cells.X.sum() > 0
    started = taught.generate({"batch": "third"}, n_cells=5, seed=0, n_steps=2, start="empirical")
    assert (started.obs["batch"] == "third").all()
    query = make_query(make_adata, 6)
    as_first = taught.get_normalized_expression(query, transform_batch="first")
    assert not np.allclose(as_first, taught.get_normalized_expression(query, transform_batch="third"))
    old = (query.obs["batch"] == "first").to_numpy()
    np.testing.assert_allclose(as_first[old], taught.get_normalized_expression(query)[old], rtol=1e-5)
    assert np.isfinite(taught.impute(query, layer_added=None)).all(axis=None)


def test_cells_of_the_reference_are_remembered_but_not_at_hand(trained, taught):
    n_old = len(trained.population_)
    assert (taught.population_.rows[:n_old] == -1).all()
    np.testing.assert_array_equal(taught.population_.rows[n_old:], np.sort(taught.train_indices))
    np.testing.assert_array_equal(taught.population_.library_size[:n_old], trained.population_.library_size)
    with pytest.raises(ValueError, match="with the reference model. Ask the reference"):
        taught.generate({"batch": "second"}, n_cells=3, start="empirical", seed=0)


@pytest.mark.slow
def test_a_new_process_says_the_same(taught, make_adata, tmp_path):
    taught.save(tmp_path / "model")
    make_query(make_adata, 5).write_h5ad(tmp_path / "cells.h5ad")
    script = f"""
import anndata, numpy
from sccountsdiff import CountsDiff
model = CountsDiff.load({str(tmp_path / "model")!r}, adata=False, accelerator="cpu")
cells = anndata.read_h5ad({str(tmp_path / "cells.h5ad")!r})
numpy.save({str(tmp_path / "expression.npy")!r}, model.get_normalized_expression(cells).to_numpy())
numpy.save({str(tmp_path / "cells.npy")!r}, model.generate({{"batch": "third"}}, n_cells=12, seed=1, n_steps=3).X.toarray())
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    expected = taught.get_normalized_expression(ad.read_h5ad(tmp_path / "cells.h5ad"))
    np.testing.assert_allclose(np.load(tmp_path / "expression.npy"), expected, rtol=1e-4)
    np.testing.assert_array_equal(np.load(tmp_path / "cells.npy"), counts_of(taught, {"batch": "third"}))


def test_folder_and_content_of_a_file_are_references_too(trained, untaught, make_adata, tmp_path):
    trained.save(tmp_path / "model")
    content = torch.load(tmp_path / "model" / "model.pt", weights_only=False)
    for reference in (tmp_path / "model", str(tmp_path / "model"), content):
        model = CountsDiff.load_query_data(make_query(make_adata), reference, accelerator="cpu")
        for name, value in state_of(untaught).items():
            assert torch.equal(state_of(model)[name], value)
        assert len(model.population_) == len(trained.population_)


def test_a_taught_model_is_a_reference_as_well(taught, make_adata, quick_train):
    query = make_query(make_adata, 7, 60)
    query.obs["batch"] = "fourth"
    model = CountsDiff.load_query_data(query, taught, accelerator="cpu")
    assert list(model._sources[0].categories) == ["first", "second", "third", "fourth"]
    quick_train(model, 1)
    before, after = state_of(taught), state_of(model)
    for name, value in before.items():
        assert torch.equal(after[name][: len(value)] if value.dim() else after[name], value), name
    assert not torch.equal(after[OFFSETS[0]][3], torch.zeros(30))
    for batch in ("second", "third"):
        ours, theirs = (counts_of(m, {"batch": batch}) for m in (model, taught))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("unfrozen", [False, True])
def test_a_frozen_network_speaks_without_dropout(trained, make_adata, quick_train, unfrozen):
    class Mode(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            modes.add(pl_module.module.training)

    modes: set[bool] = set()
    model = CountsDiff.load_query_data(make_query(make_adata), trained, accelerator="cpu", unfrozen=unfrozen)
    quick_train(model, 1, callbacks=[Mode()])
    assert modes == {unfrozen}


def test_unfrozen_trains_all(trained, make_adata, quick_train):
    model = CountsDiff.load_query_data(make_query(make_adata), trained, accelerator="cpu", unfrozen=True)
    before = state_of(model)
    quick_train(model, 1)
    found = {f"denoiser.covariation.{name}" for name in ("directions", "roots")}  # measured, not learned
    doubted = {"denoiser.conditions.trust", "denoiser.covariation.memory"}  # if held-out cells, or walks, ask for it
    assert moved(model, before) - doubted == found | {name for name, _ in model.module.named_parameters()}


def test_genes_are_matched_by_name(trained, make_adata):
    query = make_query(make_adata)
    query = query[:, np.random.default_rng(0).permutation(30)[:24]].copy()
    query.var_names = [*query.var_names[:-1], "foreign"]
    with pytest.warns(UserWarning, match="left out: 'foreign'; not in adata.*; copied to model.adata"):
        model = CountsDiff.load_query_data(query, trained, accelerator="cpu")
    assert query.n_vars == 24
    assert list(model.adata.var_names) == list(trained.adata.var_names)
    assert (~model.adata.var["_sccountsdiff_measured"]).sum() == 7
    with pytest.warns(UserWarning, match="'foreign'"):
        CountsDiff.load_query_data(query, trained, inplace_subset_query_vars=True, accelerator="cpu")
    assert list(query.var_names) == list(trained.adata.var_names)


def test_without_new_categories_there_is_nothing_to_train(trained, make_adata, quick_train):
    with pytest.warns(UserWarning, match="nothing to train"):
        model = CountsDiff.load_query_data(make_adata(3, 60), trained, accelerator="cpu")
    assert model.is_trained
    with pytest.raises(ValueError, match="nothing to train.*unfrozen=True"):
        quick_train(model, 1)


def _no_column(query):
    del query.obs["cell_type"]


def _text_for_numbers(query):
    query.obs["donor"] = query.obs["donor"].astype(str)


def _no_genes(query):
    query.var_names = [f"ENSG{g}" for g in range(query.n_vars)]


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (_no_column, KeyError, "no column 'cell_type'.*= 'unknown'"),
        (_text_for_numbers, ValueError, "obs.'donor'. holds '0', '1' as string, which the model knows as integer"),
        (_no_genes, ValueError, "None of the 30 genes"),
    ],
)
def test_errors_name_what_is_wrong_with_the_query(trained, make_adata, spoil, error, message):
    spoil(query := make_query(make_adata))
    with pytest.raises(error, match=message):
        CountsDiff.load_query_data(query, trained)


def test_errors_name_what_is_wrong_with_the_reference(trained, model, make_adata, tmp_path):
    query = make_query(make_adata)
    for reference, error, message in (
        (model, ValueError, "not trained.*train"),
        (3, TypeError, "folder it was saved to.*got int"),
        ({"attr_dict": {}}, ValueError, "no 'model_state_dict'"),
        (tmp_path, ValueError, "model.pt does not exist"),
    ):
        with pytest.raises(error, match=message):
            CountsDiff.load_query_data(query, reference)
    with pytest.raises(ValueError, match="is a CountsDiff. Call CountsDiff.load_query_data"):
        DCM.load_query_data(query, trained)
    with pytest.raises(ValueError, match="without vectors"):
        CountsDiff.load_query_data(query, trained, perturbation_embeddings={"A": [1.0]})
    with pytest.raises(TypeError, match="join_modalities"):
        CountsDiff.load_query_data(MuData({"rna": query}), trained)


def as_trained(model):
    """A model of random weights that passes for a trained one: what it says does not matter, that it is kept does."""
    model.is_trained_ = True
    model._remember_population()
    return model


@pytest.mark.parametrize("before", [None, {"first": [f"gene_{g}" for g in range(25)]}])
def test_new_batches_may_have_measured_other_genes(make_adata, before):
    data, panel = make_adata(), [f"gene_{g}" for g in range(5, 30)]
    CountsDiff.setup_anndata(data, layer="counts", batch_key="batch", measured_genes=before)
    reference = as_trained(CountsDiff(data, n_hidden=8))
    query = make_query(make_adata)
    model = CountsDiff.load_query_data(query, reference, accelerator="cpu", measured_genes={"third": panel})
    observed = np.ones((100, 30), dtype=bool)
    observed[::2, :5] = False
    if before is not None:
        observed[1::2, 25:] = False
    with model._using(None) as data:
        (minibatch,) = model._minibatches(data, None, 100)
    np.testing.assert_array_equal(minibatch.observed.numpy(), observed)


DRUGS = ["control", "IFN", "TNF", "TNF+IFN"]


def make_screen(make_adata, names, seed=0) -> ad.AnnData:
    """Cells with a perturbation each."""
    screen = make_adata(seed, 60)
    screen.obs["drug"] = np.resize(names, 60)
    return screen


def screened(make_adata, **setup) -> CountsDiff:
    data = make_screen(make_adata, DRUGS)
    CountsDiff.setup_anndata(data, layer="counts", perturbation_key="drug", control="control", **setup)
    return as_trained(CountsDiff(data, n_hidden=8))


def test_new_perturbations_join_the_known_ones(make_adata, tmp_path):
    reference = screened(make_adata)
    query = make_screen(make_adata, ["control", "LPS", "IFN+LPS"], seed=1)
    as_trained(CountsDiff.load_query_data(query, reference, accelerator="cpu")).save(tmp_path / "model")
    model = CountsDiff.load(tmp_path / "model", adata=query, accelerator="cpu")
    (source,) = model._sources
    assert list(source.categories) == ["IFN", "TNF", "control", "LPS"]
    learned = [name for name, weight in model.module.named_parameters() if weight.requires_grad]
    assert learned == ["denoiser.offsets.tables.0.weight", "denoiser.conditions.encoders.0.table.embedding.weight"]
    # The code of a set depends on the number of levels: those of remembered cells are translated.
    assert source.names.code("TNF+IFN", "drug") != reference._sources[0].names.code("TNF+IFN", "drug")
    names = source.names.column(model.population_.values["drug"])
    assert list(names) == [*np.resize(DRUGS, 60), *query.obs["drug"]]
    for drug in ("IFN", "TNF+IFN"):
        ours, theirs = (counts_of(m, {"drug": drug}, method="joint") for m in (model, reference))
        np.testing.assert_array_equal(ours, theirs)
    assert model.generate({"drug": "LPS+TNF"}, n_cells=3, method="joint", seed=0, n_steps=2).n_obs == 3


def test_new_perturbations_bring_their_vectors_by_name(make_adata):
    vectors = {name: np.random.default_rng(k).normal(size=4) for k, name in enumerate(["TNF", "IFN", "LPS", "IL6"])}
    old = {name: vectors[name] for name in ("TNF", "IFN")}
    reference = screened(make_adata, perturbation_embeddings=old)
    query = make_screen(make_adata, ["control", "LPS"], seed=1)
    with pytest.raises(ValueError, match="no vector for 'LPS'"):
        CountsDiff.load_query_data(query, reference)
    with pytest.raises(ValueError, match="other vectors than the reference for 'IFN'. Leave these"):
        CountsDiff.load_query_data(query, reference, perturbation_embeddings={**vectors, "IFN": np.ones(4)})
    new = {name: vectors[name] for name in ("IL6", "LPS")}
    model = CountsDiff.load_query_data(query, reference, accelerator="cpu", perturbation_embeddings=new)
    learned = [name for name, weight in model.module.named_parameters() if weight.requires_grad]
    assert learned == OFFSETS[:1]  # what a vector means is known already
    (source,) = model._sources
    assert list(source.categories)[:3] == list(reference._sources[0].categories)
    for name, vector in vectors.items():
        np.testing.assert_allclose(source.key.vectors[list(source.categories).index(name)], vector, rtol=1e-6)
    ours, theirs = (counts_of(m, {"drug": "IFN"}, method="joint") for m in (model, reference))
    np.testing.assert_array_equal(ours, theirs)


def test_masked_diffusion_learns_new_categories_too(make_adata, quick_train):
    data = make_adata(0, 100)
    DCM.setup_anndata(data, layer="counts", batch_key="batch")
    reference = quick_train(DCM(data, n_hidden=8), 2)
    model = DCM.load_query_data(make_query(make_adata), reference, accelerator="cpu")
    before = state_of(model)
    quick_train(model, 2)
    assert moved(model, before) == {TOKENS[0], OFFSETS[0]}
    assert torch.equal(state_of(model)[TOKENS[0]][:2], before[TOKENS[0]][:2])
    cells = make_adata(4)
    np.testing.assert_array_equal(*(m.get_normalized_expression(cells, return_numpy=True) for m in (model, reference)))
    np.testing.assert_array_equal(*(counts_of(m, {"batch": "second"}) for m in (model, reference)))
