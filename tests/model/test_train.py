"""Training: schedule, held-out bound, interruption, checkpoints."""

from __future__ import annotations

import math
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback

from sccountsdiff import CountsDiff
from sccountsdiff.model import SaveAveraged, default_max_epochs
from sccountsdiff.model._calibration import CalibrateDispersion
from sccountsdiff.model._callbacks import AverageWeights, KeepBest, SaveLast
from sccountsdiff.model._match import MatchTotals, most_probable
from sccountsdiff.model._polish import Polish
from sccountsdiff.model._rate import OneCycle, default_rate
from sccountsdiff.model._refit import RefitGenes
from sccountsdiff.model._switch import FindSwitches
from sccountsdiff.nets import FAST
from sccountsdiff.objective import Taught


class Raise(Callback):
    """Raise an exception in some epoch."""

    def __init__(self, epoch: int, error: BaseException) -> None:
        self.epoch, self.error = epoch, error

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == self.epoch:
            raise self.error


class Epochs(Callback):
    """Remember the epochs that were trained."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.seen.append(trainer.current_epoch)


@pytest.mark.parametrize(
    ("n_cells", "least", "most"), [(500, 400, 600), (3_000, 80, 120), (100_000, 10, 20), (1_000_000, 3, 5)]
)
def test_default_epochs_fall_with_the_number_of_cells(n_cells, least, most):
    assert least <= default_max_epochs(n_cells, 128) <= most


@pytest.mark.parametrize(("n_genes", "times"), [(20, 8), (125, 4), (500, 2), (2_000, 1), (20_000, 1)])
def test_narrow_panels_are_trained_for_more_epochs(n_genes, times):
    assert default_max_epochs(4_000, 128, n_genes) == pytest.approx(times * default_max_epochs(4_000, 128), rel=0.01)


@pytest.mark.parametrize(
    ("n_steps", "n_cells", "rate"),
    [(0, 0, 1.6e-3), (160, 700, 1.6e-3), (1000, 700, 1.2e-3), (2000, 2000, 6e-4), (3000, 4000, 8e-4), (9000, 0, 4e-4)],
)
def test_short_trainings_and_many_cells_are_learned_faster(n_steps, n_cells, rate):
    assert default_rate(n_steps, n_cells) == pytest.approx(rate)


def test_training_lowers_the_held_out_bound_and_keeps_a_history(trained):
    bounds = trained.history["elbo_validation"]["elbo_validation"]
    assert bounds.dtype == float
    assert bounds.iloc[-1] < bounds.iloc[0] - 5
    assert set(trained.history) >= {"train_loss", "validation_loss", "elbo_validation"}
    assert "held-out bound" in repr(trained)
    assert len(trained.train_indices) == 228
    assert len(trained.validation_indices) == 12


def test_dropout_is_there_again_when_training_goes_on(model, quick_train, tmp_path):
    class Mode(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            modes.append(all(module.training for module in pl_module.module.modules()))

    modes: list[bool] = []
    quick_train(model, 1)
    quick_train(model, 1, callbacks=[Mode()])
    model.save(tmp_path / "model")
    quick_train(CountsDiff.load(tmp_path / "model", adata=model.adata, accelerator="cpu"), 1, callbacks=[Mode()])
    assert len(modes) == 4
    assert all(modes)
    assert not model.module.training


def test_seeded_trainings_are_equal(make_adata, quick_train):
    weights = []
    for _ in range(2):
        scvi.settings.seed = 3
        data = make_adata()
        CountsDiff.setup_anndata(data, layer="counts")
        model = quick_train(CountsDiff(data, n_hidden=8), 2)
        weights.append(torch.cat([p.flatten() for p in model.module.parameters()]))
    assert torch.equal(*weights)


def test_the_final_weights_are_the_averaged_ones(model, quick_train):
    class Spy(AverageWeights):
        def on_train_end(self, trainer, pl_module):
            self.raw = {k: v.clone() for k, v in pl_module.module.state_dict().items()}

    spy = Spy()
    quick_train(model, 3, callbacks=[spy], train_size=1.0)
    changed = [name for name, value in model.module.state_dict().items() if not torch.equal(value, spy.raw[name])]
    assert changed


def test_interruption_keeps_what_was_learned(model, quick_train):
    before = [p.clone() for p in model.module.parameters()]
    with pytest.warns(UserWarning, match="interrupted in epoch 3 of 50"):
        quick_train(model, 50, callbacks=[Raise(3, KeyboardInterrupt())])
    assert model.is_trained
    assert any(not torch.equal(a, b) for a, b in zip(before, model.module.parameters(), strict=True))
    assert len(model.history["train_loss"]) == 3
    assert model.generate(n_cells=2, seed=0).n_obs == 2


@pytest.mark.parametrize("hook", ["on_train_epoch_end", "on_train_end"])
def test_sigterm_ends_the_process_and_the_model_can_be_used(model, quick_train, hook):
    """In the epochs, where Lightning raises, and in what follows them, where it only takes note."""

    def terminate(self, trainer, pl_module):
        trainer._signal_connector.received_sigterm = True

    terminator = type("Terminator", (Callback,), {hook: terminate})()
    with pytest.raises(SystemExit) as ended:
        quick_train(model, 5, callbacks=[terminator])
    assert ended.value.code == 143
    assert model.is_trained
    assert model.generate(n_cells=2, seed=0).n_obs == 2


def test_a_killed_training_resumes_where_it_was(make_adata, quick_train, tmp_path, monkeypatch):
    monkeypatch.setattr(SaveLast, "SECONDS", 0.0)

    def fresh():
        data = make_adata()
        CountsDiff.setup_anndata(data, layer="counts")
        return CountsDiff(data, n_hidden=8)

    with pytest.raises(RuntimeError, match="killed"):
        quick_train(fresh(), 6, checkpoint_dir=tmp_path, callbacks=[Raise(4, RuntimeError("killed"))])
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=False)
    assert checkpoint["epoch"] == 3
    assert not torch.equal(
        checkpoint["state_dict"]["module.denoiser.to_logits.weight"],
        checkpoint["current_model_state"]["module.denoiser.to_logits.weight"],
    ), "the checkpoint holds averaged weights beside the raw ones"

    epochs, model = Epochs(), fresh()
    quick_train(model, 6, checkpoint_dir=tmp_path, callbacks=[epochs])
    assert epochs.seen == [4, 5]
    assert model.is_trained

    # Once more, after the end: nothing is left to train, and the result is the same.
    again = fresh()
    quick_train(again, 6, checkpoint_dir=tmp_path)
    for a, b in zip(model.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_best_weights_come_back_if_the_last_are_worse():
    averaging = AverageWeights()
    keep = KeepBest(averaging)
    keep.best, keep.last, keep.best_state = torch.zeros(50), torch.ones(50), {"weight": torch.tensor(3.0)}
    plan = torch.nn.Module()
    plan.module = torch.nn.Module()
    plan.module.register_buffer("weight", torch.tensor(1.0))
    keep.on_train_end(None, plan)
    assert plan.module.weight == 3

    keep.last, plan.module.weight = torch.randn(50) * 0.1, torch.tensor(1.0)
    keep.last -= keep.last.mean()
    keep.on_train_end(None, plan)
    assert plan.module.weight == 1, "a difference within its error is no reason to go back"


@pytest.mark.parametrize(("bounds", "best"), [([math.nan, 3.0, math.nan, 4.0], 3.0), ([5.0, 4.0, 6.0, math.inf], 4.0)])
def test_the_best_bound_is_a_finite_one(bounds, best):
    keep = KeepBest(SimpleNamespace(averaged_state=dict))
    for step, bound in enumerate(bounds):
        plan = SimpleNamespace(held_out_bounds=torch.full((5,), bound))
        keep.on_validation_end(SimpleNamespace(sanity_checking=False, global_step=step), plan)
    assert keep.best.mean() == best


def test_training_stops_when_the_bound_gets_worse_for_long(model, quick_train):
    # A rate far too large: the bound never comes back to its first value.
    quick_train(
        model, 60, plan_kwargs={"lr": 3.0, "ema_decay": 0.0}, early_stopping_patience=3, check_val_every_n_epoch=1
    )
    assert len(model.history["train_loss"]) < 60
    assert model.trainer.optimizers[0].param_groups[0]["lr"] < 0.5, "the rate came down before the end"


def test_the_rate_goes_up_and_down_and_can_come_down_early():
    rate = OneCycle(100, 0.1)
    assert rate(0) < 0.05
    assert rate(10) == 1
    assert rate(100) == 0
    rate.cool_down(40, 20)
    assert rate(40) == OneCycle(100, 0.1)(40)
    assert rate(50) == pytest.approx(rate(40) / 2)
    assert rate(60) == rate(99) == 0
    assert 0 < OneCycle(1, 0.1)(0) <= 1


def test_trainer_config_is_honoured(model, quick_train):
    """scvi-tools ignores a strategy or early stopping named in trainer_config."""
    quick_train(model, 1, trainer_config={"gradient_clip_val": 0.25, "callbacks": [Epochs()]})
    assert model.trainer.gradient_clip_val == 0.25


@pytest.mark.parametrize("where", ["keyword", "config"])
@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed_stage_2"])
def test_sharding_strategies_are_refused(model, where, strategy):
    kwargs = {"strategy": strategy} if where == "keyword" else {"trainer_config": {"strategy": strategy}}
    with pytest.raises(ValueError, match=f"{strategy}.*ddp"):
        model.train(1, **kwargs)


def test_raw_checkpoints_are_refused_and_averaged_ones_written(model, quick_train, tmp_path, monkeypatch):
    from scvi.train import SaveCheckpoint

    with pytest.raises(ValueError, match="raw weights"):
        quick_train(model, 1, callbacks=[SaveCheckpoint(dirpath=str(tmp_path / "raw"))])
    monkeypatch.setattr(CountsDiff, "_finish", ())  # what follows the last checkpoint
    saving = SaveAveraged(dirpath=str(tmp_path / "averaged"), monitor="validation_loss")
    quick_train(model, 4, callbacks=[saving], enable_checkpointing=True)
    saved = CountsDiff.load(saving.best_model_path, adata=model.adata, accelerator="cpu")
    expected = saved.get_elbo(indices=model.validation_indices, seed=0).nats
    assert expected == pytest.approx(model.get_elbo(indices=model.validation_indices, seed=0).nats, rel=1e-3)


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_training_takes_the_same_steps(make_adata, quick_train, backend):
    """Without dropout, which a compiler draws from numbers of its own."""
    losses, adata = [], make_adata()
    CountsDiff.setup_anndata(adata, layer="counts", labels_key="cell_type")
    for plan_kwargs in ({}, {"compile": True, "compile_kwargs": {"backend": backend}}):
        scvi.settings.seed = 0
        model = quick_train(CountsDiff(adata, n_hidden=8, dropout=0.0), 3, plan_kwargs=plan_kwargs)
        losses.append(model.history["train_loss"]["train_loss"].to_numpy())
        assert np.isfinite(model.get_elbo(n_samples=2).nats)
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_bfloat16_trains(model, quick_train):
    quick_train(model, 2, precision="bf16-mixed")
    assert np.isfinite(model.get_elbo().nats)


def test_sparse_minibatches_train(model, quick_train):
    quick_train(model, 1, load_sparse_tensor=True)
    assert model.is_trained


def test_a_diverging_loss_is_named_with_the_remedy(model, quick_train):
    class Poison(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            pl_module.module.denoiser.to_logits.bias.data.fill_(torch.nan)

    with pytest.raises(RuntimeError, match="training loss is nan.*lr"):
        quick_train(model, 1, callbacks=[Poison()])


def test_external_indexing_and_no_validation(model, quick_train):
    rows = np.arange(model.adata.n_obs)
    quick_train(model, 1, datasplitter_kwargs={"external_indexing": [rows[:100], rows[100:]]})
    np.testing.assert_array_equal(model.train_indices, rows[:100])
    assert len(model.population_) == 100
    quick_train(model, 1, train_size=1.0)
    assert len(model.validation_indices) == 0


def finish_again(callback: Callback, model: CountsDiff) -> None:
    """Do once more what a callback does at the end of a training."""
    callback.on_train_end(model.trainer, model.trainer.lightning_module)


def test_dispersions_are_calibrated_on_held_out_cells(make_adata, quick_train):
    """However wide or narrow the laws are, hidden entries of held-out cells decide."""
    adata = make_adata()
    CountsDiff.setup_anndata(adata, layer="counts")
    model = quick_train(CountsDiff(adata, n_hidden=8), 20, validation_size=0.3)
    dispersion = model.module.denoiser.scaled_log_dispersion()
    dispersion.data -= 0.5 / FAST  # within what a calibration may undo
    finish_again(CalibrateDispersion(), model)
    calibrated = FAST * dispersion.detach().clone()
    dispersion.data += 0.2 / FAST
    finish_again(CalibrateDispersion(), model)
    assert (FAST * dispersion.detach() - calibrated).abs().max() < 0.1, "the distortion was undone"


def test_laws_of_genes_are_fitted_to_the_finished_network(quick_train, monkeypatch):
    """Counts of two cell types, negative binomial within them: dropout blurs the types, and widens the laws learned."""
    rng, theta = np.random.default_rng(0), 4.0
    profile = np.array([[0.4, 4.0], [4.0, 0.4]]).repeat(20, 1)[np.arange(600) % 2]
    adata = ad.AnnData(rng.poisson(profile * rng.gamma(theta, 1 / theta, profile.shape)).astype(np.float32))
    CountsDiff.setup_anndata(adata)
    found = []
    for n_cells in (0, RefitGenes.N_CELLS):
        monkeypatch.setattr(RefitGenes, "N_CELLS", n_cells)
        scvi.settings.seed = 0
        model = CountsDiff(adata, n_hidden=8, dropout=0.5, head="conjugate")
        quick_train(model, 60, train_size=1.0)
        found.append(model.module.denoiser.head.theta.detach().log().mean().exp().item())
    assert found[0] < 0.75 * theta
    assert found[1] == pytest.approx(theta, rel=0.2)


def test_a_refit_changes_the_laws_of_genes_and_nothing_else(model, quick_train):
    head = model.module.denoiser.head
    head.scaled_log_odds.requires_grad_(False)
    quick_train(model, 6)
    head.scaled_log_theta.data -= 1.0 / FAST
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    learned = {name: parameter.requires_grad for name, parameter in model.module.named_parameters()}
    finish_again(RefitGenes(), model)
    changed = {name for name, value in model.module.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"denoiser.head.scaled_log_theta", "denoiser.head.scaled_log_level"}
    assert learned == {name: parameter.requires_grad for name, parameter in model.module.named_parameters()}


@pytest.mark.parametrize("head", ["conjugate", "mixture"])
def test_a_marker_varies_less_where_it_is_expected(quick_train, tmp_path, head):
    """Seen now and then in most cells, and in all cells of one type in ten: these have it when they are generated."""
    rng = np.random.default_rng(0)
    marked = np.arange(1000) % 10 == 0
    profile = np.where(marked[:, None], [[1.0, 6.0]], [[6.0, 1.0]]).repeat(20, 1)
    rate = profile * rng.gamma(8, 1 / 8, profile.shape)
    rate[:, 7] = np.where(marked, 20 * rng.gamma(20, 1 / 20, 1000), 0.5 * rng.gamma(0.1, 10, 1000))
    adata = ad.AnnData(rng.poisson(rate).astype(np.float32), {"type": np.where(marked, "marked", "other")})
    CountsDiff.setup_anndata(adata, labels_key="type")
    scvi.settings.seed = 0
    model = quick_train(CountsDiff(adata, head=head, n_hidden=16), 30, train_size=0.8)
    assert model.module.denoiser.head.log_growth[7] > 0.3
    model.save(tmp_path / "model")
    loaded = CountsDiff.load(tmp_path / "model", adata=adata, accelerator="cpu")
    found = [m.generate({"type": "marked"}, n_cells=400, seed=0).X[:, [7]].toarray() for m in (model, loaded)]
    assert (found[0] < 5).mean() < 0.1
    np.testing.assert_array_equal(*found)
    log_theta = model.module.denoiser.head.scaled_log_theta
    assert log_theta.requires_grad
    assert not model.module.denoiser.head.scaled_log_growth.requires_grad, "the epochs of a training leave it as it is"


@pytest.fixture(scope="module")
def switched_cells() -> ad.AnnData:
    """Two cell types, and a gene that is off in two of five cells of either."""
    rng = np.random.default_rng(0)
    profile = np.array([[1.0, 6.0], [6.0, 1.0]]).repeat(25, 1)[np.arange(500) % 2]
    profile[:, 7] = 12.0 * (rng.random(500) < 0.6)
    return ad.AnnData(rng.poisson(profile * rng.gamma(8, 1 / 8, profile.shape)).astype(np.float32))


def test_a_gene_that_is_switched_has_two_levels(switched_cells, quick_train):
    """That gene and no other; and generated cells have it on or off, as real ones."""
    CountsDiff.setup_anndata(switched_cells)
    scvi.settings.seed = 0
    model = quick_train(CountsDiff(switched_cells, n_hidden=16), 30, train_size=0.8)
    head, counts = model.module.denoiser.head, switched_cells.X[:, 7]
    assert (head.log_level < 0).nonzero().flatten().tolist() == [7]
    assert head.log_odds.sigmoid()[7].item() == pytest.approx((counts == 0).mean(), abs=0.06)
    generated = model.generate(n_cells=1_000, seed=0).X[:, [7]].toarray()
    assert (generated == 0).mean() == pytest.approx((counts == 0).mean(), abs=0.1)
    assert generated.var() == pytest.approx(counts.var(), rel=0.25)


@pytest.mark.parametrize("frozen", [True, False])
def test_nothing_is_switched_in_a_frozen_model_or_without_held_out_cells(switched_cells, quick_train, frozen):
    CountsDiff.setup_anndata(switched_cells)
    model = CountsDiff(switched_cells, n_hidden=8)
    if frozen:
        model.module.denoiser.head.scaled_log_theta.requires_grad_(False)
    quick_train(model, 2, train_size=0.9 if frozen else 1.0)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    finish_again(FindSwitches(), model)
    torch.testing.assert_close(dict(model.module.state_dict()), before)


def test_a_polish_helps_where_dropout_did_harm(make_adata, quick_train, monkeypatch):
    monkeypatch.setattr(CountsDiff, "_finish", (RefitGenes,))
    adata = make_adata(800)
    CountsDiff.setup_anndata(adata, layer="counts")
    model = quick_train(CountsDiff(adata, n_hidden=16, dropout=0.5), 60, train_size=0.5)
    held_out = model.validation_indices
    laws = [logs.clone() for logs in model.module.denoiser.scaled_logs()]
    before = model.get_elbo(indices=held_out)
    finish_again(Polish(), model)
    assert model.get_elbo(indices=held_out) < before
    for now, then in zip(model.module.denoiser.scaled_logs(), laws, strict=True):
        torch.testing.assert_close(now, then)


def test_a_polish_that_does_harm_is_undone(model, quick_train, monkeypatch):
    quick_train(model, 6)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    monkeypatch.setattr(Polish, "RATE", 100.0)
    finish_again(Polish(), model)
    torch.testing.assert_close(dict(model.module.state_dict()), before)


@pytest.mark.parametrize(
    ("changes", "shares", "kept"),
    [
        ([0.05], [0.5], True),
        ([1.0, -0.05], [0.5, 0.9], True),
        ([1.0, 0.05], [0.5, 0.9], False),
        ([float("nan"), float("nan")], [0.5, 0.9], False),
    ],
)
def test_a_polish_that_does_harm_is_done_again_with_more_from_the_teacher(
    model, quick_train, monkeypatch, changes, shares, kept
):
    """The first may be worse within the standard error, here of a tenth; the second has to be better."""
    quick_train(model, 6)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    noise = torch.linspace(-1.73, 1.73, 100)
    told, bounds = [], iter([torch.zeros(100), *(noise + change for change in changes)])

    def taught(teacher, share):
        told.append(share)
        torch.testing.assert_close(dict(model.module.state_dict()), before)  # each time from where it began
        return Taught(teacher, share)

    monkeypatch.setattr("sccountsdiff.model._polish.Taught", taught)
    monkeypatch.setattr("sccountsdiff.model._polish.held_out_bounds", lambda *_: next(bounds))
    finish_again(Polish(), model)
    assert told == shares
    weights = "denoiser.to_logits.weight"
    assert torch.equal(model.module.state_dict()[weights], before[weights]) is not kept


def test_totals_are_matched_in_all_cells_and_in_each_category(make_adata, quick_train, monkeypatch):
    """What the mean of a gene has wrong everywhere, or in one type, is put right."""
    adata = make_adata(0, 3000)
    CountsDiff.setup_anndata(adata, layer="counts", labels_key="cell_type")
    monkeypatch.setattr(CountsDiff, "_finish", ())
    monkeypatch.setattr(MatchTotals, "SPREADS", (0.5,))
    model = quick_train(CountsDiff(adata, n_hidden=8), 8, train_size=1.0)
    finish_again(MatchTotals(), model)
    denoiser = model.module.denoiser
    everyone, types = (FAST * table.weight for table in (denoiser.offsets.everyone, *denoiser.offsets.tables))
    everyone, types = everyone.clone(), types.clone()
    denoiser.to_logits.bias.data[2] += 0.4
    denoiser.offsets.tables[0].weight.data[1, 5] -= 0.4 / FAST
    types[1, 5] -= 0.4
    network = {name: value.clone() for name, value in model.module.state_dict().items() if "offsets" not in name}
    finish_again(MatchTotals(), model)
    now = FAST * denoiser.offsets.everyone.weight, FAST * denoiser.offsets.tables[0].weight
    change = now[0] - everyone + now[1] - types  # of each type
    torch.testing.assert_close(change[:, 2], torch.full((3,), -0.4), atol=0.15, rtol=0)
    torch.testing.assert_close(change[:, 5], torch.tensor([0.0, 0.4, 0.0]), atol=0.15, rtol=0)
    assert change[:, [10, 15, 20]].abs().max() < 0.15
    torch.testing.assert_close({name: model.module.state_dict()[name] for name in network}, network)
    monkeypatch.setattr(MatchTotals, "SPREADS", (0.001,))  # offsets are expected where they were, not at 0
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    finish_again(MatchTotals(), model)
    torch.testing.assert_close(dict(model.module.state_dict()), before, atol=0.01 / FAST, rtol=0)


@pytest.mark.parametrize(
    ("missing", "expected", "squares", "before", "after"),
    [
        (100.0, 1000.0, 1000.0, 0.0, 100 / 1400),  # 1000 molecules weigh as much as a prior worth 1 / 0.05^2 = 400
        (0.0, 1000.0, 1000.0, 100 / 1400, 100 / 1400 * 1000 / 1400),  # what is matched must also be probable
        (100.0, 1000.0, 10_000.0, 0.0, 100 / 5000),  # all of it in one cell
        (-2.0, 2.0, 0.1, 0.0, -2 / 402),  # hardly expected, never seen
        (50.0, 0.0, 2500.0, 0.0, 0.0),
        (0.0, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_offsets_are_as_large_as_the_counts_can_tell(missing, expected, squares, before, after):
    sums = torch.tensor([missing, expected, squares]).reshape(3, 1, 1)
    found = most_probable(sums, torch.tensor([[before]]), spreads=(0.05,))
    assert found.item() == pytest.approx(after, rel=1e-4, abs=1e-6)


def test_totals_of_perturbations_given_together_are_matched(make_adata, quick_train, monkeypatch):
    adata = make_adata(0, 3000)
    adata.obs["drug"] = np.resize(["control", "A", "B", "A+B"], adata.n_obs)
    CountsDiff.setup_anndata(adata, layer="counts", perturbation_key="drug", control="control")
    monkeypatch.setattr(CountsDiff, "_finish", ())
    monkeypatch.setattr(MatchTotals, "SPREADS", (0.5,))
    model = quick_train(CountsDiff(adata, n_hidden=8), 8, train_size=1.0)
    finish_again(MatchTotals(), model)
    offsets = model.module.denoiser.offsets
    (key,), (table,) = offsets.keys, offsets.tables
    sets = {"drug": torch.tensor([key.encode(members) for members in ({0}, {1}, {0, 1}, {2})])}
    before = offsets(torch.zeros(4, 30), sets)
    table.weight.data[:2, 5] += 0.4 / FAST  # both members of A+B
    assert (offsets(torch.zeros(4, 30), sets) - before)[2, 5].item() == pytest.approx(0.8)
    finish_again(MatchTotals(), model)
    assert (offsets(torch.zeros(4, 30), sets) - before)[:, 5].abs().max() < 0.25


@pytest.mark.parametrize("stage", [RefitGenes, Polish])
def test_an_interruption_after_the_last_epoch_keeps_what_was_finished(model, quick_train, monkeypatch, stage):
    """The epochs and stages that were over; nothing of the one that was interrupted."""
    states = []

    class Watched(stage):
        def on_train_end(self, trainer, pl_module):
            states.append({name: value.clone() for name, value in model.module.state_dict().items()})
            super().on_train_end(trainer, pl_module)

        def prior(self, module, learned):
            calls, nats = [], super().prior(module, learned)

            def interrupted():
                calls.append(1)
                if len(calls) == 5:
                    raise KeyboardInterrupt
                return nats()

            return interrupted

    monkeypatch.setattr(CountsDiff, "_finish", (CalibrateDispersion, Watched))
    learned = {name: parameter.requires_grad for name, parameter in model.module.named_parameters()}
    with pytest.warns(UserWarning, match="interrupted in epoch 10 of 10"):
        quick_train(model, 10)
    torch.testing.assert_close(dict(model.module.state_dict()), states[0])
    assert model.is_trained
    assert learned == {name: parameter.requires_grad for name, parameter in model.module.named_parameters()}


@pytest.mark.parametrize("head", ["poisson", "softplus"])
def test_heads_without_a_law_of_whole_cells_are_not_polished(make_adata, quick_train, head):
    adata = make_adata()
    CountsDiff.setup_anndata(adata, layer="counts")
    model = quick_train(CountsDiff(adata, n_hidden=8, head=head), 2)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    finish_again(Polish(), model)
    torch.testing.assert_close(dict(model.module.state_dict()), before)


def test_frozen_dispersions_are_not_calibrated(model, quick_train):
    dispersion = model.module.denoiser.scaled_log_dispersion()
    dispersion.requires_grad_(False)
    before = dispersion.clone()
    quick_train(model, 2)
    torch.testing.assert_close(dispersion, before)


def test_the_first_held_out_cells_are_from_everywhere(make_adata):
    """Data sorted by sample: stages that look at a few held-out cells must not judge by the first sample."""
    adata = make_adata(n_cells=8000)
    CountsDiff.setup_anndata(adata, layer="counts")
    splitter = CountsDiff._data_splitter_cls(CountsDiff(adata).adata_manager, batch_size=16)
    splitter.setup()
    loader = splitter.val_dataloader()
    first = np.concatenate([loader.dataset.cells.rows[batch.cells] for batch in list(loader.sampler)[:8]])
    assert np.histogram(first, 4, (0, 8000))[0].min() > 0
    assert not np.array_equal(np.sort(first), first)
