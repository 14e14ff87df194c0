"""Arguments that make no sense are refused: the message names the offender, what is allowed and the remedy."""

from __future__ import annotations

import pandas as pd
import pytest

from sccountsdiff import CountsDiff

ASKED = [
    pytest.param(lambda m, d: m.get_normalized_expression(d, library_size=-5), ValueError, "positive.*-5", id="size"),
    pytest.param(lambda m, d: m.get_normalized_expression(d, library_size=[1, 2]), ValueError, "for all cells", id="sizes"),
    pytest.param(lambda m, d: m.get_normalized_expression(d, library_size="deep"), ValueError, "'latent'.*'deep'", id="word"),
    pytest.param(lambda m, d: m.get_normalized_expression(d, gene_list=["gen_1"]), KeyError, "'gen_1'.*'gene_1'", id="gene"),
    pytest.param(lambda m, d: m.get_normalized_expression(d, indices=["cell_1"]), TypeError, "get_indexer", id="names"),
    pytest.param(lambda m, d: m.posterior_predictive_sample(d, n_samples=0), ValueError, "at least 1, got 0", id="draws"),
    pytest.param(lambda m, d: m.differential_expression(d, "kind"), KeyError, "'kind'.*cell_type", id="column"),
    pytest.param(lambda m, d: m.differential_expression(d, "cell_type", "B"), KeyError, "no 'B'.*'B cell'", id="group"),
    pytest.param(lambda m, d: m.test_markers("cell_type", "B cell", "B cell", adata=d), ValueError, "both 'B cell'", id="same"),
    pytest.param(lambda m, d: m.generate("B cell"), TypeError, "mapping from keys.*'B cell'", id="text"),
    pytest.param(lambda m, d: m.generate([]), ValueError, "are empty", id="no condition"),
    pytest.param(lambda m, d: m.generate(pd.DataFrame({"cell_type": []})), ValueError, "are empty", id="empty table"),
    pytest.param(lambda m, d: m.generate(n_cells=2.5), ValueError, "whole number.*2.5", id="part of a cell"),
    pytest.param(lambda m, d: m.generate(n_steps=2.5), TypeError, "whole number of steps.*2.5", id="part of a step"),
    pytest.param(lambda m, d: m.generate(strength=0.5), ValueError, "from_adata is drawn anew, which were not given", id="strength"),
    pytest.param(lambda m, d: m.generate(n_cells="5"), ValueError, "whole number.*'5'", id="number as text"),
]  # fmt: skip

SET_UP = [
    ({"layer": "nope"}, KeyError, "no 'nope'; it holds 'counts'"),
    ({"continuous_covariate_keys": "dose"}, TypeError, r"list of names.*write \['dose'\]"),
    ({"size_factor_key": "size"}, TypeError, "no argument 'size_factor_key'"),
]

BUILT = [
    ({"n_hidden": 0}, "n_hidden of at least 1"),
    ({"n_layers": -1}, "n_layers of at least 0"),
    ({"dropout": 2}, r"dropout must lie in \[0, 1\)"),
]

TRAINED = [
    ({"max_epochs": 0}, ValueError, "max_epochs.*at least 1, got 0"),
    ({"max_epochs": 2.5}, ValueError, "whole number"),
    ({"batch_size": 0}, ValueError, "batch_size.*got 0"),
    ({"plan_kwargs": {"learning_rate": 1e-3}}, TypeError, "no 'learning_rate'.*'lr'"),
]


@pytest.mark.parametrize(("ask", "error", "message"), ASKED)
def test_senseless_requests(trained, make_adata, ask, error, message):
    with pytest.raises(error, match=message):
        ask(trained, make_adata(1))


@pytest.mark.parametrize(("arguments", "error", "message"), SET_UP)
def test_senseless_setups(adata, arguments, error, message):
    with pytest.raises(error, match=message):
        CountsDiff.setup_anndata(adata, **{"layer": "counts"} | arguments)


@pytest.mark.parametrize(("arguments", "message"), BUILT)
def test_senseless_networks(adata, arguments, message):
    CountsDiff.setup_anndata(adata, layer="counts")
    with pytest.raises(ValueError, match=message):
        CountsDiff(adata, **arguments)


@pytest.mark.parametrize(("arguments", "error", "message"), TRAINED)
def test_senseless_trainings(model, arguments, error, message):
    with pytest.raises(error, match=message):
        model.train(accelerator="cpu", **arguments)
    assert not model.is_trained_


def test_a_blank_of_a_table_is_a_key_left_out(trained):
    table = pd.DataFrame({"cell_type": ["B cell", None]})
    cells = trained.generate(table, n_cells=40, seed=0)
    assert set(cells.obs["cell_type"][:40]) == {"B cell"}
    assert cells.obs["cell_type"][40:].nunique() > 1
