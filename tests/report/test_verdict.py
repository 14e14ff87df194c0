"""What makes generated cells good, doubtful or bad."""

import pandas as pd
import pytest

from sccountsdiff.report._generation_verdict import Measured, judge

# Metric -> the model, shuffled genes, other real cells.
GOOD = {
    "mmd2": (0.001, 0.01, 0.0),
    "gene_correlation_agreement": (0.8, 0.5, 0.82),
    "two_sample_auc": (0.55, 0.8, 0.5),
    "library_size_distance": (0.03, 0.1, 0.02),
    "label_transfer_accuracy": (0.9, 0.9, 0.9),
    "copied_fraction": (0.05, 0.0, 0.05),
}


def verdict(changes, n_conditions=3):
    scores = pd.DataFrame(GOOD | changes, index=["sccountsdiff", "independent genes", "floor"]).T
    return judge(Measured(scores, mmd2_floor=0.002, real_accuracy=0.91, n_conditions=n_conditions, n_cells=140))


@pytest.mark.parametrize(
    ("changes", "tone", "failed"),
    [
        ({}, "good", []),
        ({"mmd2": (0.004, 0.01, 0.0)}, "mixed", ["as close to real cells"]),
        ({"mmd2": (0.02, 0.01, 0.0)}, "bad", ["as close to real cells"]),  # further than shuffled genes
        ({"mmd2": (0.002, 0.001, 0.0)}, "good", []),  # so are shuffled genes, but both are close
        ({"two_sample_auc": (0.7, 0.8, 0.5)}, "mixed", ["a classifier hardly"]),
        ({"two_sample_auc": (0.96, 0.8, 0.47)}, "bad", ["a classifier hardly"]),
        ({"two_sample_auc": (0.7, 0.8, 0.68)}, "good", []),
        ({"library_size_distance": (0.2, 0.1, 0.02)}, "mixed", ["library sizes"]),
        ({"label_transfer_accuracy": (0.8, 0.9, 0.9)}, "mixed", ["cells are what"]),
        ({"gene_correlation_agreement": (0.7, 0.5, 0.82)}, "mixed", ["genes vary together"]),
        ({"gene_correlation_agreement": (0.4, 0.5, 0.82)}, "bad", ["genes vary together"]),
        ({"gene_correlation_agreement": (0.01, 0.02, 0.03)}, "good", []),  # real genes do not vary together either
        ({"copied_fraction": (0.5, 0.0, 0.05)}, "bad", ["no copies"]),
        (
            {
                "mmd2": (0.004, 0.01, 0.0),
                "two_sample_auc": (0.7, 0.8, 0.5),
                "library_size_distance": (0.2, 0.1, 0.02),
                "label_transfer_accuracy": (0.8, 0.9, 0.9),
            },
            "bad",
            ["as close to real cells", "a classifier hardly", "library sizes", "cells are what"],
        ),
    ],
)
def test_verdicts(changes, tone, failed):
    found = verdict(changes)
    assert found.tone == tone
    assert [check.asked for check in found.checks if not check.holds] == [
        check.asked for check in found.checks if check.asked.startswith(tuple(failed or ["-"]))
    ]
    assert "140 real cells" in found.text


def test_headlines_say_what_was_checked_and_what_failed():
    assert "pass all 6 checks" in verdict({}).headline
    assert "pass 5 of 6 checks. Not: library sizes" in verdict({"library_size_distance": (0.2, 0.1, 0.02)}).headline
    assert "a classifier tells them apart" in verdict({"two_sample_auc": (0.96, 0.8, 0.47)}).headline


def test_one_condition_needs_no_labels():
    assert not any("asked to be" in check.asked for check in verdict({}, n_conditions=1).checks)


@pytest.mark.parametrize(("shift", "tone"), [(0.7, "good"), (0.9, "mixed")])
def test_responses_must_beat_the_mean_shift(shift, tone):
    scores = pd.DataFrame(
        GOOD | {"pearson_delta": (0.8, 0.0, 0.95)}, index=["sccountsdiff", "independent genes", "floor"]
    ).T
    scores["mean shift"] = shift
    found = judge(Measured(scores, mmd2_floor=0.002, real_accuracy=0.91, n_conditions=3, n_cells=140))
    assert found.tone == tone
    assert "Pearson-delta 0.80" in found.checks[-1].found
