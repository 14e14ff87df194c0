"""Depth recovery: no molecule is lost, the target is met, and what is added is calibrated."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats as st
import torch

from sccountsdiff import CountsDiff
from sccountsdiff.conditioning import LIBRARY_SIZE
from sccountsdiff.data import thinning_split
from sccountsdiff.model import Direct
from sccountsdiff.model._depth import FoldDepth, TotalDepth
from sccountsdiff.model._method import Engine
from sccountsdiff.model._module import Cells
from sccountsdiff.model._question import Question
from sccountsdiff.nets import Denoiser, make_library
from sccountsdiff.process import GammaPoissonPosterior, Thinning


@pytest.fixture
def deep(make_adata):
    """Cells that the model has not seen."""
    return make_adata(9)


@pytest.fixture
def shallow(deep):
    """The same cells with a quarter of their molecules."""
    cells = deep.copy()
    cells.layers["counts"] = thinning_split(deep.layers["counts"], 0.25, seed=0)[0]
    return cells


def total(matrix):
    return np.asarray(matrix.sum(1)).ravel()


def test_the_default_is_one_draw_of_integers_that_keeps_every_molecule(trained, shallow):
    assert trained.impute(shallow, target_depth="4x", seed=0) is None
    drawn, seen = shallow.layers["imputed"], shallow.layers["counts"]
    drawn = drawn.toarray() if sp.issparse(drawn) else drawn
    assert drawn.dtype == np.int32
    assert (drawn >= seen.toarray()).all()
    assert drawn.sum() == pytest.approx(4 * seen.sum(), rel=0.05)
    assert shallow.uns["sccountsdiff"]["imputed"]["target_depth"] == "4x"
    one = trained.impute(shallow, target_depth="4x", seed=0, layer_added=None)
    assert sp.issparse(one)
    np.testing.assert_array_equal(one.toarray(), drawn)


def test_targets_are_met_cell_by_cell(trained, deep, shallow):
    wanted = total(deep.layers["counts"])
    mean = trained.impute(shallow, target_depth=wanted, return_mean=True, layer_added=None)
    assert list(mean.columns) == list(deep.var_names)
    np.testing.assert_allclose(mean.sum(1), wanted, rtol=0.2)
    assert mean.to_numpy().sum() == pytest.approx(wanted.sum(), rel=0.02)
    draws = trained.impute(shallow, target_depth=wanted, n_samples=8, layer_added=None, seed=0)
    assert np.mean([draw.mean() for draw in draws]) == pytest.approx(mean.to_numpy().mean(), rel=0.02)
    one = trained.impute(shallow, [3], target_depth=500, return_mean=True, layer_added=None)
    assert one.to_numpy().sum() == pytest.approx(500, rel=0.2)


def test_recovered_cells_are_closer_to_the_deep_ones_than_scaled_ones(trained, deep, shallow):
    truth, seen = (cells.layers["counts"].toarray() for cells in (deep, shallow))
    wanted = truth.sum(1)
    mean = trained.impute(shallow, target_depth=wanted, return_mean=True, layer_added=None).to_numpy()
    scaled = seen * (wanted / np.maximum(seen.sum(1), 1))[:, None]
    assert np.square(mean - truth).mean() < 0.5 * np.square(scaled - truth).mean()


def test_intervals_of_the_recovered_counts_cover_the_deep_ones(trained, deep, shallow):
    truth = deep.layers["counts"].toarray()
    low, high = trained.impute(shallow, target_depth=truth.sum(1), quantiles=[0.05, 0.95], layer_added=None)
    assert (low >= shallow.layers["counts"].toarray()).all()
    assert 0.85 < ((truth >= low) & (truth <= high)).mean() < 0.99


def test_a_depth_that_is_reached_changes_nothing(trained, deep):
    counts = deep.layers["counts"]
    drawn = trained.impute(deep, target_depth=total(counts), layer_added=None)
    assert (drawn != counts).nnz == 0


def test_hidden_entries_are_filled_in_at_the_larger_depth(trained, shallow, make_adata):
    mask = np.random.default_rng(0).random(shallow.shape) < 0.2
    mean = trained.impute(shallow, mask=mask, target_depth="4x", return_mean=True, layer_added=None).to_numpy()
    truth = make_adata(9).layers["counts"].toarray()
    assert mean[mask].mean() == pytest.approx(truth[mask].mean(), rel=0.1)
    changed = shallow.copy()
    changed.layers["counts"] = np.where(mask, 1000, shallow.layers["counts"].toarray())
    again = trained.impute(changed, mask=mask, target_depth="4x", return_mean=True, layer_added=None)
    np.testing.assert_array_equal(mean, again)


def test_a_target_below_the_observed_total_names_the_cell(trained, deep):
    wanted = total(deep.layers["counts"])
    wanted[17] -= 1
    with pytest.raises(ValueError, match="'cell_17' has .* UMIs, more than its target_depth.*'4x'.*thinning_split"):
        trained.impute(deep, target_depth=wanted)
    trained.impute(deep, [16, 18], target_depth=wanted, layer_added=None)


def test_a_number_needs_every_gene(trained, deep):
    mask = np.zeros(deep.shape, dtype=bool)
    mask[5, 2] = True
    with pytest.raises(ValueError, match="'cell_5' has hidden or unmeasured genes.*'4x'"):
        trained.impute(deep, mask=mask, target_depth=1e6)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        pytest.param("4", "'4' is no fold", id="no x"),
        pytest.param("0.5x", "at least 1", id="less"),
        pytest.param([100.0, 200.0], "one for each of 240 cells", id="length"),
        pytest.param(np.nan, "positive and finite", id="nan"),
        pytest.param(0, "positive and finite", id="zero"),
    ],
)
def test_wrong_depths_are_refused(trained, deep, target, message):
    with pytest.raises(ValueError, match=message):
        trained.impute(deep, target_depth=target)


def test_repaint_knows_no_depth(trained, deep):
    with pytest.raises(ValueError, match="hidden entries only"):
        trained.impute(deep, target_depth="2x", method="repaint")


class NegativeBinomialTruth(Denoiser):
    """Knows the law of every gene: means that add up to the library size asked for, and one dispersion."""

    share, theta = torch.tensor([0.7, 0.2, 0.1]), 1.5

    def __init__(self) -> None:
        super().__init__(3, (), 0.0)

    def forward(self, x_t, alpha, condition):
        prior = self.share * condition[LIBRARY_SIZE].unsqueeze(-1)
        shape = self.theta + x_t
        return GammaPoissonPosterior(shape / (self.theta / prior + alpha), shape, alpha)

    def embed(self, x_t, alpha, condition):
        return x_t


@pytest.fixture(scope="module")
def thinned():
    """Cells of 30 UMIs on average, and what a tenth or half of their molecules show of them."""
    rng, oracle = np.random.default_rng(0), NegativeBinomialTruth()
    whole = rng.negative_binomial(oracle.theta, oracle.theta / (oracle.theta + 30 * oracle.share), (6000, 3))
    seen = rng.binomial(whole, np.repeat([0.1, 0.5], 3000)[:, None])
    return torch.as_tensor(whole).float(), torch.as_tensor(seen).float()


@pytest.mark.parametrize("n_steps", [1, 6])
def test_recovery_by_an_oracle_is_calibrated(thinned, n_steps):
    """The true deep count is uniform among the draws given what is seen: randomised PIT, cells of two depths."""
    whole, seen = thinned
    fold = torch.tensor([10.0, 2.0]).repeat_interleave(3000)
    condition = {LIBRARY_SIZE: 30 / fold}
    engine = Engine(NegativeBinomialTruth(), Thinning(), 30.0)
    draws, beliefs = [], []
    for times in (10.0, 2.0):
        rows = np.flatnonzero(fold.numpy() == times)
        cells = Cells(seen[rows], {name: values[rows] for name, values in condition.items()}, None)
        view = Question("masked", depth=FoldDepth(times)).show(cells, rows)
        generator = torch.Generator().manual_seed(int(times))
        draws.append(torch.stack([Direct(n_steps).draw(engine, view, generator) for _ in range(39)]))
        beliefs.append(Direct().belief(engine, view).mean())
    draws, mean = torch.cat(draws, 1), torch.cat(beliefs)
    assert (draws >= seen).all()
    np.testing.assert_allclose(draws.mean(0).mean(0), mean.mean(0), rtol=0.01)
    np.testing.assert_allclose(mean.mean(0), whole.mean(0), rtol=0.03)
    below, ties = (draws < whole).sum(0), (draws == whole).sum(0)
    rank = (below + torch.rand(ties.shape, generator=torch.Generator().manual_seed(0)) * (ties + 1)) / 40
    assert st.kstest(rank.numpy().ravel(), "uniform").statistic < 0.012


def test_totals_are_a_survival_for_each_cell():
    cells = Cells(torch.tensor([[1.0, 3.0], [0.0, 0.0]]), {LIBRARY_SIZE: torch.tensor([4.0, torch.nan])}, None)
    rows = np.array([1, 0])
    view = Question("masked", depth=TotalDepth(np.array([50.0, 16.0], dtype=np.float32))).show(cells, rows)
    assert view.survival.tolist() == [[0.25], [0.0]]
    assert view.condition[LIBRARY_SIZE].tolist() == [16.0, 50.0]


def test_modalities_take_a_fold():
    """RNA and protein have depths of their own."""
    library = make_library([10.0, 20.0], n_features=[1, 1])
    cells = Cells(torch.ones(1, 2), {LIBRARY_SIZE: torch.tensor([[1.0, 1.0]])}, None, library)
    with pytest.raises(ValueError, match="Each modality has a depth of its own.*'4x'"):
        TotalDepth(np.array([50.0], dtype=np.float32)).check(cells, np.array([0]), ["cell"])
    view = Question("masked", depth=FoldDepth(4)).show(cells, np.array([0]))
    assert view.condition[LIBRARY_SIZE].tolist() == [[4.0, 4.0]]


def test_cells_with_unmeasured_genes_take_a_fold(make_adata, quick_train):
    data = make_adata(3)
    data.layers["observed"] = np.ones(data.shape, dtype=bool)
    data.layers["observed"][:50, :5] = False
    CountsDiff.setup_anndata(data, layer="counts", observed_layer="observed")
    model = quick_train(CountsDiff(data, n_hidden=8), 1)
    drawn = model.impute(target_depth="2x", layer_added=None, seed=0).toarray()
    assert (drawn[:50, :5] > 0).mean() > 0.5
    with pytest.raises(ValueError, match="'cell_0' has hidden or unmeasured genes"):
        model.impute(target_depth=1e4)
