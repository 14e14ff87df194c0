"""Training on minibatches from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from lightning.pytorch import LightningDataModule

from sccountsdiff import CountsDiff
from sccountsdiff.model import BlockShuffled
from sccountsdiff.model._loader import CountsDataset
from sccountsdiff.model._order import Minibatch
from sccountsdiff.model._splitter import BufferedCells


class Elsewhere(LightningDataModule):
    """Minibatches that happen to come from an AnnData, of which the trained model knows nothing."""

    n_obs = 200

    def __init__(self, source: CountsDiff) -> None:
        super().__init__()
        self.source = source

    def train_dataloader(self):
        return self.source._make_data_loader(adata=self.source.adata, indices=np.arange(200), shuffle=True)

    def val_dataloader(self):
        return self.source._make_data_loader(adata=self.source.adata, indices=np.arange(200, 240))


def test_a_model_without_adata_trains_on_a_datamodule(model, quick_train, tmp_path):
    other = CountsDiff(registry=model.registry, n_hidden=8)
    with pytest.raises(ValueError, match="no data to train on.*datamodule="):
        other.train(1)
    quick_train(other, 2, datamodule=Elsewhere(model))
    assert len(other.history["elbo_validation"]) == 2
    assert len(other.population_) == 200
    other.save(tmp_path / "model")
    loaded = CountsDiff.load(tmp_path / "model", adata=False, accelerator="cpu")
    assert loaded.generate({"cell_type": "B cell"}, 3, seed=0).n_obs == 3
    np.testing.assert_allclose(
        loaded.get_normalized_expression(model.adata), other.get_normalized_expression(model.adata), rtol=1e-5
    )


def test_the_order_of_reading_can_be_chosen(model, quick_train):
    quick_train(model, 1, datasplitter_kwargs={"order": BlockShuffled(8, 64)})
    assert model.trainer.train_dataloader.sampler.order == BlockShuffled(8, 64)
    assert len(model.population_) == len(model.train_indices)


def test_a_buffer_in_pieces_gives_the_cells_asked_for(model, monkeypatch):
    cells = CountsDataset(model.adata_manager, np.arange(200))
    monkeypatch.setattr(BufferedCells, "PIECE", 7)
    buffered, rng = BufferedCells(cells), np.random.default_rng(0)
    for read in (np.arange(0, 150, 3), np.arange(150, 200)):
        for picked in np.split(rng.permutation(read), [20, 23]):
            found, wanted = buffered[Minibatch(picked, read)], cells[picked]
            for key, values in wanted.items():
                np.testing.assert_array_equal(np.asarray(found[key]), np.asarray(values))
