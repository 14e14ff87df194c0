"""How far labels are trusted: as far as held-out cells say, and the same after saving."""

from __future__ import annotations

import numpy as np
import pytest
import scvi
import torch

from sccountsdiff import CountsDiff
from sccountsdiff.model import _doubt
from sccountsdiff.model._callbacks import held_out_bounds
from sccountsdiff.model._doubt import DoubtConditions


@pytest.fixture
def trained(make_adata, quick_train, monkeypatch):
    """Train on half of the cells of three types, with the labels that these have or with others, until they are known."""

    def train(told: str, n_cells: int = 240, **options) -> CountsDiff:
        adata = make_adata(n_cells=n_cells)
        adata.obs["label"] = [f"{told} {n % 40}" for n in range(n_cells)] if told == "noise" else adata.obs["cell_type"]
        CountsDiff.setup_anndata(adata, layer="counts", labels_key="label")
        monkeypatch.setattr(CountsDiff, "_finish", (DoubtConditions,))
        scvi.settings.seed = 0
        network = {"n_hidden": 16, "n_layers": 1, "dropout": 0.0, "condition_dropout": 0.2} | options
        options = {"train_size": 0.5, "early_stopping": False, "plan_kwargs": {"lr": 1e-2}}
        return quick_train(CountsDiff(adata, **network), 10_000 // n_cells, batch_size=n_cells // 8, **options)

    return train


def trust(model: CountsDiff) -> list[float]:
    """How far each key is trusted."""
    return model.module.denoiser.conditions.trust.tolist()


def test_labels_that_say_nothing_are_doubted(trained):
    assert trust(trained("noise")) == pytest.approx([DoubtConditions.LEVELS[-1]])


def test_labels_that_many_cells_have_shown_are_trusted(trained):
    assert trust(trained("type", 1000)) == [1]


@pytest.mark.parametrize("best", [1.0, 0.9, 0.8, 0.7, 0.5])
def test_it_goes_as_far_as_held_out_cells_get_more_likely(model, quick_train, monkeypatch, best):
    """Bounds as if one trust were the best: found to the next level, each key by itself, none below the last level."""
    encoder = model.module.denoiser.conditions

    def bounds(*_):
        return 10 * (encoder.trust - best).square().sum().expand(5)

    monkeypatch.setattr(_doubt, "held_out_bounds", bounds)
    monkeypatch.setattr(CountsDiff, "_finish", (DoubtConditions,))
    quick_train(model, 1)
    assert trust(model) == pytest.approx([max(best, 0.7)] * len(encoder.keys))


@pytest.mark.parametrize(("unseen", "found"), [(1.0, 1.0), (0.86, 0.8), (0.7, 0.8)])
def test_cells_of_which_nothing_is_seen_are_told_more_if_that_is_better(model, quick_train, monkeypatch, unseen, found):
    encoder = model.module.denoiser.conditions

    def bounds(*_):
        far = (encoder.trust - 0.8).square() + 0.2 * (encoder.trust_unseen - unseen).square()
        return 10 * far.sum().expand(5)

    monkeypatch.setattr(_doubt, "held_out_bounds", bounds)
    monkeypatch.setattr(CountsDiff, "_finish", (DoubtConditions,))
    quick_train(model, 1)
    assert trust(model) == pytest.approx([0.8] * len(encoder.keys))
    assert encoder.trust_unseen.tolist() == pytest.approx([found] * len(encoder.keys))


@pytest.mark.parametrize(("gain", "found"), [(0.04, 1.0), (0.06, 0.9)])
def test_a_gain_that_is_not_worth_having_is_none(model, quick_train, monkeypatch, gain, found):
    encoder = model.module.denoiser.conditions

    def bounds(*_):
        """Without noise; .9 is the best."""
        return -gain * (1 - (encoder.trust - 0.9).abs() * 10).sum().expand(5)

    monkeypatch.setattr(_doubt, "held_out_bounds", bounds)
    monkeypatch.setattr(CountsDiff, "_finish", (DoubtConditions,))
    quick_train(model, 1)
    assert trust(model) == pytest.approx([found] * len(encoder.keys))


@pytest.mark.parametrize(("gain", "found"), [(0.9, 1.0), (1.1, 0.8)])
def test_a_gain_within_its_standard_error_is_none(model, quick_train, monkeypatch, gain, found):
    encoder = model.module.denoiser.conditions
    noise = torch.tensor([-1.0, 1.0]).repeat(50)
    noise *= 10 / noise.std()  # a standard error of 1

    def bounds(*_):
        """Each level below 1 is better by one half of the gain than the one before, down to .8."""
        steps = 10 * (1 - encoder.trust)
        return ((steps > 0.5) * noise[:, None] - gain * (1 - (2 - steps).abs() / 2)).sum(1)

    monkeypatch.setattr(_doubt, "held_out_bounds", bounds)
    monkeypatch.setattr(CountsDiff, "_finish", (DoubtConditions,))
    quick_train(model, 1)
    assert trust(model) == pytest.approx([found] * len(encoder.keys))


def test_a_level_that_was_only_tried_does_not_outlast_an_interruption(model, quick_train, monkeypatch):
    encoder, tried = model.module.denoiser.conditions, []

    def bounds(*_):
        tried.append(encoder.trust[0].item())
        if len(tried) == 3:
            raise KeyboardInterrupt
        return encoder.trust[:1].repeat(5)

    monkeypatch.setattr(_doubt, "held_out_bounds", bounds)
    monkeypatch.setattr(CountsDiff, "_finish", (DoubtConditions,))
    quick_train(model, 1)
    assert tried == pytest.approx([1, 0.9, 0.8])
    assert set(trust(model)) == {1}


def test_a_second_training_learns_from_whole_tokens(trained, quick_train):
    model, seen = trained("noise"), []

    class Watched(DoubtConditions.__base__):
        def on_train_batch_start(self, *_):
            seen.append(trust(model))

    assert trust(model) != [1]
    quick_train(model, 1, callbacks=[Watched()])
    assert seen
    assert all(found == [1] for found in seen)


def test_bounds_are_computed_once_for_each_trust(model, quick_train, monkeypatch):
    encoder, asked = model.module.denoiser.conditions, []

    def bounds(*_):
        asked.append((*encoder.trust.tolist(), *encoder.trust_unseen.tolist()))
        return 10 * (encoder.trust - 0.9).square().sum().repeat(5)

    monkeypatch.setattr(_doubt, "held_out_bounds", bounds)
    monkeypatch.setattr(CountsDiff, "_finish", (DoubtConditions,))
    quick_train(model, 1)
    assert len(asked) == len(set(asked)) == 1 + 3 * len(encoder.keys)  # as it is, .9, .8, .9 of what is seen


def test_some_of_many_held_out_cells_are_asked(model, quick_train, monkeypatch):
    asked = []

    class Some(DoubtConditions):
        N_CELLS = 40

    def bounds(*arguments):
        asked.append(held_out_bounds(*arguments))
        return asked[-1]

    monkeypatch.setattr(_doubt, "held_out_bounds", bounds)
    monkeypatch.setattr(CountsDiff, "_finish", (Some,))
    quick_train(model, 1, train_size=0.5, batch_size=32)
    assert all(40 <= len(found) < 80 for found in asked)


@pytest.mark.parametrize("options", [{"condition_dropout": 0.0}, {}])
def test_without_nulls_or_held_out_cells_all_is_trusted(make_adata, quick_train, options):
    adata = make_adata()
    CountsDiff.setup_anndata(adata, layer="counts", labels_key="cell_type")
    model = CountsDiff(adata, n_hidden=8, **options)
    quick_train(model, 1, train_size=0.9 if options else 1.0)
    assert trust(model) == [1]


def test_it_is_kept_in_files_and_by_frozen_references(make_adata, quick_train, trained, tmp_path):
    model = trained("noise")
    assert f"label (40, trust {trust(model)[0]:.1f})" in repr(model)
    model.save(tmp_path / "model")
    loaded = CountsDiff.load(tmp_path / "model", adata=model.adata, accelerator="cpu")
    assert trust(loaded) == trust(model) != [1]
    with torch.inference_mode():
        ours, theirs = (m.get_normalized_expression(return_numpy=True) for m in (model, loaded))
    np.testing.assert_array_equal(ours, theirs)
    query = make_adata(1, n_cells=60)
    query.obs["label"] = "new"
    more = CountsDiff.load_query_data(query, model, accelerator="cpu")
    quick_train(more, 1)
    assert trust(more) == trust(model)


def test_models_without_it_trust_all(model):
    state = model.module.state_dict()
    conditions = model.module.denoiser.conditions
    without = {name: value for name, value in state.items() if "trust" not in name}
    conditions.trust.fill_(0.5)
    conditions.trust_unseen.fill_(0.5)
    model.module.load_state_dict(without)
    assert set(trust(model)) == set(conditions.trust_unseen.tolist()) == {1.0}


def test_models_that_knew_one_trust_keep_it(model):
    state = model.module.state_dict()
    state["denoiser.conditions.trust"] = torch.full_like(state["denoiser.conditions.trust"], 0.8)
    model.module.load_state_dict({name: value for name, value in state.items() if not name.endswith("_unseen")})
    conditions = model.module.denoiser.conditions
    assert torch.equal(conditions.trust_unseen, conditions.trust)
    assert trust(model) == pytest.approx([0.8] * len(conditions.keys))
