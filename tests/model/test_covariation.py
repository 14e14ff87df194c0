"""How genes vary together beyond what the network expects: found in counts, kept in files, used by generation."""

from __future__ import annotations

from unittest.mock import Mock

import anndata as ad
import numpy as np
import pytest
import scvi
import torch

from sccountsdiff import CountsDiff
from sccountsdiff.model._covary import FitCovariation, without_noise
from sccountsdiff.model._memory import FitMemory, _Widened
from sccountsdiff.sampling import CovaryingRates

N_GENES, SD = 60, 0.6
#: Half of the genes go up when the others go down.
SIGN = np.resize([1.0, -1.0], N_GENES)


def programme(sd: float, n_cells: int = 1500, seed: int = 0) -> ad.AnnData:
    """Counts whose rates vary along one programme."""
    rng = np.random.default_rng(seed)
    factor = sd * rng.normal(size=(n_cells, 1))
    adata = ad.AnnData(rng.poisson(3 * np.exp(factor * SIGN)).astype(np.float32))
    CountsDiff.setup_anndata(adata)
    return adata


@pytest.fixture
def fitted(quick_train, monkeypatch):
    """Fit the covariation of a network; one that has seen a few minibatches knows means only."""

    def fit(adata: ad.AnnData, max_epochs: int = 1) -> CountsDiff:
        monkeypatch.setattr(CountsDiff, "_finish", (FitCovariation,))
        scvi.settings.seed = 0
        return quick_train(CountsDiff(adata, n_hidden=4, n_layers=0), max_epochs, batch_size=512)

    return fit


def along(model: CountsDiff, level: int) -> np.ndarray:
    """Covariance of the log rates at a level."""
    covariation = model.module.denoiser.covariation
    loadings = covariation.loadings(torch.tensor(covariation.levels()[level])).numpy()
    return loadings @ loadings.T


def test_a_programme_that_the_network_does_not_know_is_found(fitted):
    covariance = along(fitted(programme(SD)), 0)
    score = SIGN @ covariance @ SIGN / N_GENES**2
    assert score == pytest.approx(SD**2, rel=0.25)
    assert np.trace(covariance) / N_GENES == pytest.approx(score, rel=0.15), "and nothing else is"


def test_independent_counts_have_none(fitted):
    """Given a network that has learned so: errors of one that has not are shared by genes, and are found."""
    model = fitted(programme(0.0, 6000), max_epochs=20)
    for level in range(len(model.module.denoiser.covariation.levels())):
        assert np.diag(along(model, level)).mean() < 0.003


def test_generated_cells_have_the_programme(fitted):
    model = fitted(programme(SD))
    real = np.var(model.adata.X @ SIGN)
    together, alone = (
        [
            np.var(model.generate(n_cells=1000, n_steps=n, covariation=covariation, seed=1).X @ SIGN) / real
            for n in (1, 4, 20)
        ]
        for covariation in (True, False)
    )
    assert 0.6 < together[0] < 1.1
    # A network that knows means alone does not carry on what a step has begun.
    assert all(2 * other < one < together[0] for one, other in zip(together[1:], alone[1:], strict=True))
    assert max(alone) < 0.2


def remembering(model: CountsDiff) -> float:
    """Memory that walks of a model are given."""
    FitMemory().on_train_end(model.trainer, Mock(module=model.module))
    return float(model.module.denoiser.covariation.memory)


def test_walks_whose_cells_vary_too_little_remember_all(fitted):
    """The network knows means alone: what is remembered is all that carries a programme through many steps."""
    assert remembering(fitted(programme(SD))) == 0.25


@pytest.mark.parametrize(
    ("without", "slope", "error", "memory"),
    [
        (-0.1, 0.8, 0.02, 0.125),
        (0.05, 0.4, 0.02, 0.0),
        (-0.1, 0.5, 0.01, 0.2),
        (-0.1, 0.8, 0.06, 0.25),
        (0.1, 0, 0.0, 0.25),
    ],
    ids=["half", "none", "some", "not sure", "of no use"],
)
def test_walks_remember_as_much_as_makes_their_cells_vary_as_cells_do(
    fitted, monkeypatch, without, slope, error, memory
):
    model = fitted(programme(SD))

    def widened(self, trainer, module, examples):
        return _Widened(without + slope * float(module.denoiser.covariation.memory), error)

    monkeypatch.setattr(FitMemory, "_widened", widened)
    assert remembering(model) == pytest.approx(memory)
    FitCovariation().on_train_end(model.trainer, Mock(module=model.module, n_obs_training=len(model.train_indices)))
    assert model.module.denoiser.covariation.memory == 0.25, "found anew with the directions"


def test_directions_count_by_what_is_drawn_along_them():
    found = _Widened.of(torch.tensor([0.2, 0.4, 9.0]), torch.tensor([0.1, 0.1, 0.0]))
    assert found.mean == pytest.approx(0.3)
    assert found.error == pytest.approx(0.1 / 2**0.5)


def test_an_interruption_leaves_the_memory_as_it_was(fitted, monkeypatch):
    model = fitted(programme(SD))
    monkeypatch.setattr(CovaryingRates, "draw", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        remembering(model)
    assert model.module.denoiser.covariation.memory == 0.25


def test_it_is_in_the_record_and_in_the_file(fitted, tmp_path):
    model = fitted(programme(SD))
    cells = model.generate(n_cells=20, seed=0)
    assert cells.uns["sccountsdiff"]["generated"]["covariation"]
    model.save(tmp_path / "model")
    loaded = CountsDiff.load(tmp_path / "model", adata=model.adata, accelerator="cpu")
    assert (loaded.generate(n_cells=20, seed=0).X != cells.X).nnz == 0
    alone = model.generate(n_cells=20, seed=0, covariation=False)
    assert not alone.uns["sccountsdiff"]["generated"]["covariation"]
    assert (alone.X != cells.X).nnz


def test_an_untrained_model_draws_each_gene_on_its_own():
    model = CountsDiff(programme(SD, 50), n_hidden=4)
    with pytest.warns(UserWarning, match="untrained"):
        together = model.generate(n_cells=5, seed=0)
    with pytest.warns(UserWarning, match="untrained"):
        alone = model.generate(n_cells=5, seed=0, covariation=False)
    assert (together.X != alone.X).nnz == 0


def test_unmeasured_genes_are_left_out(fitted):
    """A panel that half of the cells lack says nothing of them, and the rest is found as before."""
    adata = programme(SD, 3000)
    adata.obs["site"] = np.resize(["one", "two"], adata.n_obs)
    lacking = np.ix_(adata.obs["site"] == "two", np.arange(N_GENES) < 10)
    adata.X[lacking] = 0
    CountsDiff.setup_anndata(adata, batch_key="site", measured_genes={"two": [str(g) for g in range(10, N_GENES)]})
    covariance = along(fitted(adata), 0)[10:, 10:]
    assert SIGN[10:] @ covariance @ SIGN[10:] / (N_GENES - 10) ** 2 == pytest.approx(SD**2, rel=0.3)


def test_noise_is_taken_out_of_a_covariance():
    """A known covariance in symmetric noise: what noise alone makes is gone, what rises above it comes back."""
    rng = torch.Generator().manual_seed(0)
    n, sd = 200, 0.05
    noise = torch.randn(n, n, generator=rng) * sd
    noise = torch.triu(noise) + torch.triu(noise, 1).T
    axis = torch.nn.functional.normalize(torch.randn(n, generator=rng), dim=0)
    clean = without_noise(noise, torch.tensor(1.1 * sd))
    assert not clean.any()
    clean = without_noise(2 * torch.outer(axis, axis) + noise, torch.tensor(1.0 * sd))
    assert torch.linalg.eigvalsh(clean)[-1].item() == pytest.approx(2, rel=0.05)
    assert torch.linalg.matrix_rank(clean, hermitian=True, atol=0.05) <= 3
