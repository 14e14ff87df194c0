"""Plots show what they are given, on the axes they are given, and say what is missing."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.text import Text
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

from sccountsdiff import metrics, pl
from sccountsdiff.pl._embedding import _project


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    rate = rng.gamma(1.0, 1.0, size=(2, 12))[np.repeat([0, 1], 20)]
    adata = AnnData(sparse.csr_matrix(rng.poisson(rate).astype(np.float32)))
    adata.var_names = [f"gene{position}" for position in range(12)]
    adata.obs["cell_type"] = pd.Categorical(np.repeat(["A", "B"], 20))
    adata.layers["counts"] = adata.X
    adata.layers["imputed"] = rate
    adata.layers["imputed_variance"] = rate + 0.25 * rate**2
    adata.obsm["X_umap"] = rng.normal(size=(40, 2))
    return adata


def history(**curves):
    return {name: pd.DataFrame({name: curve}) for name, curve in curves.items()}


def test_training_curve_names_the_best_epoch_of_the_bound():
    ax = pl.training_curve(history(elbo_validation=[9.0, 6, 5, 7], train_loss=[3.0, 2, 1, 0]))
    assert ax.get_title(loc="left") == "Validation bound: best 5.0 nats per cell, epoch 2"
    assert len(ax.figure.axes) == 2


def test_training_curve_without_validation_cells():
    assert "Training loss 2.0" in pl.training_curve(history(train_loss=[3.0, 2.0])).get_title(loc="left")


def test_training_curve_lists_what_history_has():
    with pytest.raises(KeyError, match="elbo_validation.*'kl_weight'"):
        pl.training_curve(history(kl_weight=[1.0]))


def test_library_size_counts_every_cell_and_states_the_mean():
    real = np.array([[1, 2], [3, 4], [500, 500]])
    ax = pl.library_size({"real": real, "generated": sparse.csr_matrix(real)})
    assert "mean 337" in ax.get_legend().get_texts()[0].get_text()
    assert len(ax.get_legend().get_texts()) == 2


@pytest.mark.parametrize("plot", [pl.library_size, pl.mean_variance])
@pytest.mark.parametrize(
    ("sets", "found"),
    [({}, "no sets of cells"), ({"real": np.ones((2, 3)), "B": np.ones((0, 3))}, r"no cells in \['B'\]")],
)
def test_sets_without_cells_are_refused(plot, sets, found):
    with pytest.raises(ValueError, match=found):
        plot(sets)


def test_mean_variance_leaves_out_unexpressed_genes_and_draws_the_poisson_line():
    counts = np.random.default_rng(0).poisson([0.0, 1.0, 5.0], size=(30, 3))
    ax = pl.mean_variance({"real": counts})
    points, poisson = ax.get_lines()
    assert len(points.get_xdata()) == 2
    np.testing.assert_array_equal(poisson.get_xdata(), poisson.get_ydata())


def test_pit_histogram_of_uniform_values_stays_in_its_band():
    ax = pl.pit_histogram(np.linspace(0, 1, 1001))
    assert all(0.9 < bar.get_height() < 1.1 for bar in ax.patches if bar.get_width() < 0.1)


def test_coverage_of_calibrated_and_of_too_narrow_intervals():
    uniform = np.linspace(0, 1, 1001)
    assert "50% intervals hold 50" in pl.coverage(uniform).get_title(loc="left")
    extreme = np.where(uniform < 0.5, 0.01, 0.99)
    assert "90% intervals hold 0.0%" in pl.coverage(extreme).get_title(loc="left")


@pytest.mark.parametrize("plot", [pl.pit_histogram, pl.coverage])
@pytest.mark.parametrize("values", [[0.5, 1.5], [np.nan], []], ids=["outside", "nan", "empty"])
def test_values_that_are_no_pit_are_refused(plot, values):
    with pytest.raises(ValueError, match=r"PIT values must lie in \[0, 1\]"):
        plot(values)


def test_markers_have_one_panel_per_layer_and_equal_rows_per_group(cells):
    first, second = pl.markers(cells, ["gene3", "gene1"], groupby="cell_type", n_rows=5)
    assert first.images[0].get_array().shape == (10, 2)
    assert first.images[0].get_clim() == second.images[0].get_clim()
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["gene3", "gene1"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"genes": ["gene99"], "groupby": "cell_type"},
        {"genes": ["gene1"], "groupby": "nothing"},
        {"genes": ["gene1"], "groupby": "cell_type", "layers": ["missing"]},
    ],
    ids=["gene", "column", "layer"],
)
def test_markers_name_what_is_not_there(cells, arguments):
    with pytest.raises(KeyError, match="gene99|nothing|missing"):
        pl.markers(cells, **arguments)


def test_embedding_draws_every_cell_of_every_panel(cells, monkeypatch):
    monkeypatch.setattr(
        "sccountsdiff.pl._embedding._project",
        lambda layers, generated, n_pcs, seed: [np.zeros((part.shape[0], 2)) for part in (*layers, *generated)],
    )
    panels = pl.embedding(cells, cells[:15], color="cell_type")
    assert [len(ax.collections[1].get_offsets()) for ax in panels] == [40, 40, 15]
    assert [text.get_text() for text in panels[-1].get_legend().get_texts()] == ["A", "B"]


def test_embedding_colours_the_levels_of_all_panels(cells, monkeypatch):
    monkeypatch.setattr(
        "sccountsdiff.pl._embedding._project",
        lambda layers, generated, n_pcs, seed: [np.zeros((part.shape[0], 2)) for part in (*layers, *generated)],
    )
    generated = cells[:3].copy()
    generated.obs["cell_type"] = ["C", "A", None]
    panels = pl.embedding(cells, generated, color="cell_type", layers=["counts"])
    assert [text.get_text() for text in panels[-1].get_legend().get_texts()] == ["A", "B", "C"]
    assert len(np.unique(panels[1].collections[1].get_facecolors(), axis=0)) == 3
    cells.obs["cluster"] = np.repeat([0, 1], 20)  # numbers are levels, too
    assert len(pl.embedding(cells, color="cluster")) == 2
    with pytest.raises(KeyError, match=r"'cluster' in generated\.obs; it has \['cell_type'\]"):
        pl.embedding(cells, generated, color="cluster")


@pytest.mark.slow  # UMAP compiles for many seconds
def test_projected_cells_spread_like_fitted_ones_and_lie_where_they_do():
    rng = np.random.default_rng(0)
    rate = np.repeat(rng.gamma(1.0, 5.0, size=(2, 30)), 150, axis=0)
    fitted, held_out = rng.poisson(rate), rng.poisson(rate)
    here, there = _project([fitted], [held_out], 5, 0)
    gaps = [np.median(NearestNeighbors(n_neighbors=2).fit(x).kneighbors(x)[0][:, 1]) for x in (here, there)]
    assert gaps[1] == pytest.approx(gaps[0], rel=0.4)
    np.testing.assert_array_equal(there, _project([fitted], [held_out], 5, 0)[1])
    centers = [[x[:150].mean(0), x[150:].mean(0)] for x in (here, there)]
    assert np.linalg.norm(np.subtract(*centers), axis=1).max() < 0.2 * np.linalg.norm(np.subtract(*centers[0]))


@pytest.mark.slow  # UMAP compiles for many seconds
def test_embedding_puts_layers_and_generated_cells_on_one_map(cells):
    generated = cells[:15].copy()
    panels = pl.embedding(cells, generated, color="cell_type", n_pcs=3)
    assert [ax.get_title(loc="left").split(":")[0] for ax in panels] == ["counts", "imputed", "generated"]
    behind = [ax.collections[0].get_offsets() for ax in panels]
    for other in behind[1:]:
        np.testing.assert_array_equal(behind[0], other)
    assert len(panels[2].collections[1].get_offsets()) == 15


def test_embedding_refuses_other_genes_layers_columns_and_axes(cells):
    with pytest.raises(KeyError, match="nowhere"):
        pl.embedding(cells, color="cell_type", layers=["nowhere"])
    with pytest.raises(KeyError, match="nobody"):
        pl.embedding(cells, color="nobody")
    with pytest.raises(ValueError, match="other genes"):
        pl.embedding(cells, cells[:, ::-1], color="cell_type")
    with pytest.raises(ValueError, match="1 axes given for 2 panels"):
        pl.embedding(cells, color="cell_type", axes=[plt.subplots()[1]])


def test_hidden_counts_stand_at_their_means_over_similar_expectations():
    expected = np.repeat([1.0, 8.0], 100)
    ax = pl.observed_imputed(np.tile([0, 2, 8, 8], 50), expected)
    points = next(line for line in ax.get_lines() if line.get_linestyle() == "None")
    np.testing.assert_allclose(np.expm1(points.get_xdata()), [1, 8])
    np.testing.assert_allclose(np.expm1(points.get_ydata()), [4.5, 4.5])
    with pytest.raises(ValueError, match="observed has 2 entries and imputed 3"):
        pl.observed_imputed([0, 1], [0, 1, 2])


def test_uncertainty_is_without_sampling_noise(cells):
    assert pl.uncertainty(cells).get_title(loc="left") == "Uncertainty of all genes: median 50%"
    ax = pl.uncertainty(cells, gene="gene3")
    np.testing.assert_allclose(ax.collections[0].get_array(), 0.5)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ({"layer": "none"}, r"none_variance.*return_variance=True"),
        ({"gene": "gene99"}, "No gene 'gene99' in adata.var_names"),
        ({"basis": "X_tsne"}, r"'X_tsne' in adata.obsm; it has \['X_umap'\]. scanpy"),
    ],
)
def test_uncertainty_says_what_is_missing_and_where_it_comes_from(cells, arguments, remedy):
    with pytest.raises(KeyError, match=remedy):
        pl.uncertainty(cells, **arguments)


def test_dots_of_all_layers_share_scales(cells):
    axes = pl.dotplot(cells, ["gene3", "gene1"], groupby="cell_type")
    assert [[tick.get_text() for tick in ax.get_xticklabels()] for ax in axes] == [["gene3", "gene1"]] * 2
    assert axes[0].collections[0].get_clim() == axes[1].collections[0].get_clim()
    with pytest.raises(KeyError, match="gene99"):
        pl.dotplot(cells, ["gene99"], groupby="cell_type")


def test_dots_of_one_share_have_one_size_in_all_layers(cells):
    for layer, gene1 in {"before": 0, "after": 1}.items():  # gene3 is seen in half of the cells before and after
        cells.layers[layer] = np.zeros(cells.shape)
        cells.layers[layer][:, [1, 3]] = np.column_stack([np.full(40, gene1), np.tile([0, 1], 20)])
    axes = pl.dotplot(cells, ["gene1", "gene3"], groupby="cell_type", layers=["before", "after"])
    before, after = (ax.collections[0].get_sizes() for ax in axes)
    assert before[1] == after[1] < after[0]


def test_responses_name_the_genes_that_change_most():
    control, real = np.full((5, 20), 10), np.full((5, 20), 10)
    real[:, 3] = 200
    ax = pl.delta_scatter(real, control, real, [f"g{k}" for k in range(20)])
    assert ax.get_title(loc="left") == "Responses: Pearson 1.00"
    assert ax.texts[0].get_text() == "g3"
    assert "Pearson 0.00" in pl.delta_scatter(real, control, control, list("a" * 20)).get_title(loc="left")
    profile = metrics.log1p_cp10k(real).mean(0)
    ax = pl.delta_scatter(real, control, profile, list("a" * 20), title="IFN")
    assert ax.get_title(loc="left") == "IFN: Pearson 1.00"


def test_names_of_genes_do_not_lie_on_each_other():
    rng = np.random.default_rng(0)
    control = rng.poisson(20, (50, 40))
    real = control.copy()
    real[:, :8] *= 4  # eight genes with nearly the same response
    ax = pl.delta_scatter(real, control, real, [f"LONGNAME{k}" for k in range(40)])
    ax.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the lines to the points
    assert len(boxes) == 8
    assert not any(one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[:k])


def test_differential_genes_are_counted_as_found_missed_and_made_up():
    ax = pl.de_overlap({"B": ("abcd", "cde"), "T": ("", "")})
    assert [bar.get_width() for bar in ax.patches] == [2, 0, 2, 0, 1, 0]
    assert [text.get_text().strip() for text in ax.texts] == ["50% found, 67% right", "- found, - right"]
    for names in ("B", "a very long name / of a condition with a perturbation"):
        ax = pl.de_overlap({names: ("abcd", "cde")})
        ax.figure.draw_without_rendering()
        title = ax._left_title.get_window_extent()
        assert title.x1 < ax.figure.bbox.x1, "the title is cut off"


def test_score_card_shows_values_and_colours_quality():
    values = pd.DataFrame({"mmd2": [0.01, np.nan]}, index=["B", "T"])
    ax = pl.score_card(values, values * 50)
    assert [text.get_text() for text in ax.texts] == ["0.01", "-"]
    assert ax.images[0].get_array()[0, 0] == 0.5
    ax = pl.score_card(values, metrics.quality(values, values + 1, values - 1), title="Drugs", ends=("none", "full"))
    assert ax.get_title(loc="left") == "Drugs"
    assert [tick.get_text() for tick in ax.figure.axes[-1].get_yticklabels()] == ["none", "full"]
    with pytest.raises(ValueError, match="same rows and columns"):
        pl.score_card(values, values.iloc[::-1])


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: pl.training_curve(history(train_loss=[2.0, 1.0]), ax=ax),
        lambda ax: pl.library_size({"real": np.ones((3, 2))}, ax=ax),
        lambda ax: pl.mean_variance({"real": np.eye(3)}, ax=ax),
        lambda ax: pl.pit_histogram([0.5], ax=ax),
        lambda ax: pl.coverage([0.5], ax=ax),
        lambda ax: pl.observed_imputed([0, 1], [0.5, 1], ax=ax),
        lambda ax: pl.delta_scatter(np.eye(2), np.ones((2, 2)), np.eye(2), ["a", "b"], ax=ax),
        lambda ax: pl.de_overlap({"B": ("ab", "b")}, ax=ax),
        lambda ax: pl.score_card(pd.DataFrame([[1.0]]), pd.DataFrame([[1.0]]), ax=ax),
    ],
    ids=[
        "training_curve",
        "library_size",
        "mean_variance",
        "pit_histogram",
        "coverage",
        "observed_imputed",
        "delta_scatter",
        "de_overlap",
        "score_card",
    ],
)
def test_plots_use_the_axes_they_are_given(draw):
    ax = plt.subplots()[1]
    assert draw(ax) is ax
