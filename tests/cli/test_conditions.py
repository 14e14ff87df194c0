"""What can be asked of ``generate``: values by the type of their key, and all that the method takes."""

import anndata
import pytest
import typer

from sccountsdiff import CountsDiff
from sccountsdiff.cli._reports import _as_printed

FEW = ["--n-cells", 6, "--n-steps", 2]


def generated(run, model, *arguments):
    result = run("generate", model, "--out", "new.h5ad", "--overwrite", *FEW, *arguments)
    assert result.exit_code == 0, result.output
    return anndata.read_h5ad("new.h5ad")


def test_clusters_with_numbers_for_names_can_be_asked_for(run, screen_model):
    cells = generated(run, screen_model, "--condition", "leiden=1", "--condition", "dose=5")
    assert set(cells.obs["leiden"]) == {"1"}
    assert set(cells.obs["dose"]) == {5.0}


@pytest.mark.parametrize("value", [1, 1.0, "1"], ids=repr)
def test_a_number_stands_for_the_category_of_its_name(screen_model, value):
    model = CountsDiff.load(str(screen_model), adata=False)
    assert set(model.generate({"leiden": value}, 3, n_steps=1, seed=0).obs["leiden"]) == {"1"}


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("dose=high", "Condition 'dose' takes a finite number, got 'high'"),
        ("leiden=7", "'7' is no category of 'leiden'. Known categories: '0', '1', '2'"),
        ("leiden=1.5", "'1.5' is no category of 'leiden'"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(refused, screen_model, condition, message):
    assert message in refused("generate", screen_model, "--out", "x.h5ad", "--condition", condition)


def approach(cells):
    return cells.uns["sccountsdiff"]["generated"]["approach"]


@pytest.mark.parametrize("streamed", [False, True])
def test_with_its_data_a_model_forecasts_what_was_never_measured(run, screen_file, screen_model, streamed):
    unseen = ["--condition", "leiden=2", "--condition", "drug=A", "--n-cells", 6, "--n-steps", 2]
    if streamed:
        result = run(
            "generate", screen_model, *unseen, "--data", screen_file.with_suffix(".zarr"), "--stream", "--out", "s.zarr"
        )
        assert result.exit_code == 0, result.output
        assert approach(anndata.read_zarr("s.zarr")) == "forecast"
        return
    assert approach(generated(run, screen_model, *unseen, "--data", screen_file)) == "forecast"
    with pytest.warns(UserWarning, match="A forecast needs the training data"):
        assert approach(generated(run, screen_model, *unseen)) == "joint"


def test_generate_hands_on_its_options(run, screen_file, screen_model):
    options = {"method": "contrast", "guidance": 2.0, "attrition": 0.5, "births": "binomial"}
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    cells = generated(run, screen_model, "--condition", "drug=A", *arguments)
    note = cells.uns["sccountsdiff"]["generated"]
    assert {name: note[name] for name in ("guidance", "attrition", "births")} == {
        name: options[name] for name in ("guidance", "attrition", "births")
    }
    assert note["approach"] == "contrast"
    begun = ["--start", "empirical", "--start-survival", 0.5, "--data", screen_file]
    note = generated(run, screen_model, *begun).uns["sccountsdiff"]["generated"]
    assert (note["start"], note["start_survival"]) == ("empirical", 0.5)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--method", "jont", "method must be one of"),
        ("--start", "cell", "start must be 'zeros' or 'empirical'"),
        ("--births", "normal", "Known names: binomial"),
        ("--attrition", "2", "Invalid value for '--attrition'"),
        ("--start", "empirical", "needs the training data"),
    ],
)
def test_wrong_options_are_refused(refused, screen_model, option, value, message):
    assert message in refused("generate", screen_model, "--out", "x.h5ad", option, value)


def test_reports_look_for_a_condition_as_its_column_prints_it(screen_file):
    screen = anndata.read_h5ad(screen_file)
    assert _as_printed(screen, "dose", "10") == "10.0"
    assert _as_printed(screen, "leiden", "1") == "1"
    with pytest.raises(typer.BadParameter, match="'dose' takes a number, got 'high'"):
        _as_printed(screen, "dose", "high")
