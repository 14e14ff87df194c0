"""DCM in the same rooms: what it does, what it refuses, and the faults of the released code that it must not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scvi
import torch

import sccountsdiff
from sccountsdiff import DCM, CountsDiff
from sccountsdiff.objective import BlockRehearsal
from sccountsdiff.process import UnknownNameError

ROOMS = ("conditioning", "objective", "sampling", "nets")


@pytest.fixture(scope="module")
def dcm(make_adata, quick_train, setup_args) -> DCM:
    """A trained model; tests must not change it or its data."""
    torch.set_num_threads(1)
    scvi.settings.seed = 0
    data = make_adata()
    DCM.setup_anndata(data, **setup_args)
    return quick_train(DCM(data, n_hidden=32), 30, plan_kwargs={"lr": 3e-3})


@pytest.fixture(scope="module")
def setup_args() -> dict:
    """The counts and one condition."""
    return {"layer": "counts", "labels_key": "cell_type"}


def half_hidden(adata) -> np.ndarray:
    """A mask over half of the entries."""
    return np.random.default_rng(0).random(adata.shape) < 0.5


def test_it_learns_and_its_bound_is_in_the_nats_of_countsdiff(dcm, trained):
    """Both are upper bounds on -log p of the same integers given the library size, so they can be compared."""
    DCM.setup_anndata(fresh := dcm.adata.copy(), layer="counts", labels_key="cell_type")
    untrained = DCM(fresh, n_hidden=32)
    untrained.is_trained_ = True
    bound, start = dcm.get_elbo(n_samples=8), untrained.get_elbo(n_samples=8)
    assert bound.nats < start.nats - 5
    assert abs(bound.nats - trained.get_elbo(n_samples=8).nats) < 0.1 * bound.nats


def test_hidden_entries_are_predicted_from_those_seen(dcm):
    adata = dcm.adata.copy()
    mask, counts = half_hidden(adata), adata.layers["counts"].toarray()
    adata.layers["hide"] = mask
    imputed = dcm.impute(adata, mask="hide", layer_added=None).to_numpy()
    assert np.array_equal(imputed[~mask], counts[~mask])
    gene_mean = np.broadcast_to(counts.mean(0), counts.shape)[mask]
    assert np.square(imputed[mask] - counts[mask]).mean() < 0.8 * np.square(gene_mean - counts[mask]).mean()
    garbled = adata.copy()
    garbled.layers["counts"] = adata.layers["counts"].toarray()
    garbled.layers["counts"][mask] = 777
    again = dcm.impute(garbled, mask="hide", layer_added=None).to_numpy()
    np.testing.assert_allclose(again[mask], imputed[mask], rtol=1e-5)


def test_draws_and_quantiles_of_hidden_entries(dcm):
    mask = half_hidden(dcm.adata)
    drawn = dcm.impute(mask=mask, n_samples=3, n_steps=8, layer_added=None, seed=0)
    draws = np.stack([draw.toarray() for draw in drawn])
    assert np.issubdtype(draws.dtype, np.integer)
    assert (draws.std(0)[~mask] == 0).all()
    low, high = dcm.impute(mask=mask, quantiles=[0.05, 0.95], layer_added=None)
    inside = (draws[:, mask] >= low[mask]) & (draws[:, mask] <= high[mask])
    assert 0.85 < inside.mean() <= 1


def test_expression_of_a_gene_comes_from_the_other_genes(dcm):
    expression = dcm.get_normalized_expression(return_numpy=True)
    np.testing.assert_allclose(expression.sum(1), 1, rtol=1e-4)
    changed = dcm.adata.copy()
    counts = changed.layers["counts"].toarray()
    counts[:, 3] = counts[::-1, 3]
    changed.layers["counts"] = counts
    observed = {"library_size": "observed", "return_numpy": True}
    same_total = counts.sum(1) == dcm.adata.layers["counts"].toarray().sum(1)
    before, after = (dcm.get_normalized_expression(a, **observed)[same_total, 3] for a in (dcm.adata, changed))
    np.testing.assert_allclose(before, after, rtol=1e-4)


def test_features_and_predictive_counts(dcm):
    assert dcm.get_latent_representation().shape == (dcm.adata.n_obs, 32)
    draws = dcm.posterior_predictive_sample(seed=0).todense()
    counts = dcm.adata.layers["counts"].toarray()
    assert np.issubdtype(draws.dtype, np.integer)
    assert draws.mean() == pytest.approx(counts.mean(), rel=0.15)  # a few dozen steps of training


def test_generated_cells_are_of_the_type_and_depth_asked_for(dcm):
    cells = dcm.generate([{"cell_type": "B cell"}, {"cell_type": "monocyte"}], n_cells=40, library_size=90, seed=1)
    counts = cells.X.toarray()
    is_b = (cells.obs["cell_type"] == "B cell").to_numpy()
    assert np.issubdtype(counts.dtype, np.integer)
    assert counts[is_b][:, :10].sum() > 2 * counts[~is_b][:, :10].sum()
    assert counts.sum(1).mean() == pytest.approx(90, rel=0.15)
    again = dcm.generate([{"cell_type": "B cell"}, {"cell_type": "monocyte"}], n_cells=40, library_size=90, seed=1)
    assert np.array_equal(counts, again.X.toarray())


def test_guidance_works_on_token_logits_through_the_shared_wrapper(dcm):
    share = [
        dcm.generate({"cell_type": "B cell"}, n_cells=60, guidance=scale, seed=0).X[:, :10].sum() for scale in (0, 1, 3)
    ]
    assert share[0] < share[1] < share[2]


def test_remasking_keeps_the_depth(dcm):
    cells = dcm.generate(n_cells=60, library_size=90, attrition=0.5, seed=0)
    assert cells.X.sum(1).mean() == pytest.approx(90, rel=0.15)


def test_saved_and_loaded_it_is_the_same(dcm, tmp_path):
    dcm.save(tmp_path / "dcm", save_anndata=True)
    loaded = DCM.load(tmp_path / "dcm")
    assert loaded.get_elbo(n_samples=2) == dcm.get_elbo(n_samples=2)
    ours, theirs = (model.generate(n_cells=5, seed=3).X.toarray() for model in (dcm, loaded))
    assert np.array_equal(ours, theirs)


def test_labels_are_attached_by_name_not_by_position(dcm):
    """The released code indexes embeddings by first appearance in training and by file order at inference."""
    shuffled = dcm.adata[::-1].copy()
    shuffled.obs["cell_type"] = shuffled.obs["cell_type"].cat.reorder_categories(["monocyte", "T cell", "B cell"])
    kept = shuffled[shuffled.obs["cell_type"] != "B cell"].copy()
    kept.obs["cell_type"] = kept.obs["cell_type"].cat.remove_unused_categories()
    expected = dcm.get_normalized_expression(return_numpy=True)[::-1][shuffled.obs["cell_type"] != "B cell"]
    np.testing.assert_allclose(dcm.get_normalized_expression(kept, return_numpy=True), expected, rtol=1e-4)


def test_vectors_of_perturbations_are_attached_by_name_not_by_position(make_adata):
    """The released code pairs vectors with perturbations by three different orders, so that they get each other's."""
    vectors = {"B cell": [1.0, 0.0], "monocyte": [0.0, 1.0], "T cell": [0.5, -1.0]}

    def nats(embeddings: dict) -> float:
        data = make_adata(n_cells=40)
        keys = {"layer": "counts", "perturbation_key": "cell_type", "control": "T cell"}
        DCM.setup_anndata(data, **keys, perturbation_embeddings=embeddings)
        model = DCM(data, n_hidden=8)
        torch.manual_seed(0)
        for parameter in model.module.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.1)  # an untrained network ignores its conditions
        model.is_trained_ = True
        return model.get_elbo(n_samples=2).nats

    assert nats(dict(reversed(vectors.items()))) == nats(vectors)
    assert nats(vectors | {"B cell": vectors["monocyte"], "monocyte": vectors["B cell"]}) != nats(vectors)


def test_no_option_is_accepted_and_ignored(dcm, model):
    """The released code takes ``mask_ratio`` and ``sampler`` from its configuration and reads neither."""
    DCM.setup_anndata(data := model.adata, layer="counts")
    with pytest.raises(TypeError, match="mask_ratio"):
        DCM(data, mask_ratio=0.15)
    with pytest.raises(UnknownNameError, match="reveal order 'analytic'.*confident, independent, random"):
        DCM(data, reveal="analytic")
    with pytest.raises(UnknownNameError, match="survival schedule 'loglinear'"):
        DCM(data, schedule="loglinear")
    with pytest.raises(UnknownNameError, match="birth draw 'argmax'"):
        dcm.generate(n_cells=2, births="argmax")


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        (
            {"denoiser": "transformer", "n_hidden": 16, "attention": "latent", "checkpoint_activations": True},
            "bf16-mixed",
        ),
        ({"head": "conjugate", "schedule": "cosine", "weighting": "paper", "reveal": "confident"}, "32-true"),
    ],
)
def test_other_networks_heads_schedules_and_orders(make_adata, quick_train, options, precision):
    data = make_adata(n_cells=60)
    DCM.setup_anndata(data, layer="counts")
    model = quick_train(DCM(data, **options), 1, precision=precision)
    assert np.isfinite(model.get_elbo(n_samples=2).nats)
    assert model.generate(n_cells=3, n_steps=3, seed=0).X.sum() > 0


def test_what_tokens_cannot_do_is_refused_with_the_reason(dcm):
    with pytest.raises(ValueError, match="whole"):
        dcm.impute(target_depth="2x", layer_added=None)
    with pytest.raises(ValueError, match="whole"):
        dcm.generate(n_cells=3, start="empirical", library_size=1000)
    with pytest.raises(NotImplementedError, match="law of counts"):
        dcm.get_normalized_expression(n_samples=5)
    with pytest.raises(NotImplementedError, match="law of counts"):
        dcm.differential_expression(groupby="cell_type", group1="B cell", silent=True)


def test_an_empirical_start_keeps_entries_of_training_cells(dcm):
    cells = dcm.generate(n_cells=30, start="empirical", start_survival=0.9, n_steps=2, seed=0)
    templates = dcm.adata.layers["counts"].toarray()[dcm.train_indices]
    shared = (cells.X.toarray()[:, None] == templates[None]).mean(-1).max(1)
    assert shared.mean() > 0.85


def test_no_room_of_the_core_knows_which_process_it_serves():
    """What DCM needed of the shared rooms is asked of the process: no branch, no name."""
    source = Path(sccountsdiff.__file__).parent
    for room in ROOMS:
        for file in (source / room).glob("*.py"):
            text = file.read_text(encoding="utf-8")
            assert "isinstance(process" not in text, file
            assert "Absorbing" not in text.split('"""', 2)[-1] or room == "nets", file


def test_the_models_share_their_methods():
    methods = {name for name in dir(CountsDiff) if not name.startswith("_")}
    assert methods <= {name for name in dir(DCM) if not name.startswith("_")}


def test_genes_that_a_batch_did_not_measure_are_rehearsed_and_imputed(make_adata, quick_train):
    data = make_adata()
    panel = list(data.var_names[::2])
    DCM.setup_anndata(data, layer="counts", batch_key="batch", measured_genes={"second": panel})
    model = quick_train(DCM(data, n_hidden=16), 1)
    (rehearsal,) = model.module.objective.rehearsal.parts
    assert isinstance(rehearsal, BlockRehearsal)
    hidden = np.outer(data.obs["batch"] == "second", ~data.var_names.isin(panel))
    imputed = model.impute(replace="masked", layer_added=None).to_numpy()
    counts = data.layers["counts"].toarray()
    np.testing.assert_array_equal(imputed[~hidden], counts[~hidden])
    assert (imputed[hidden] > 0).all()


def test_it_says_what_it_is(dcm):
    assert "DCM: " in repr(dcm)
    assert "schedule linear, weighting" in repr(dcm)
