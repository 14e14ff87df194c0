"""The report is one file that needs nothing else."""

import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sccountsdiff.report import (
    Check,
    Exhibit,
    Section,
    Verdict,
    facts,
    figure,
    leader,
    page,
    plain_table,
    score,
    score_table,
)

ASKED = {"hidden entries": "What was < asked?"}


@pytest.fixture(name="written")
def _written():
    truth = np.ones((2, 3))
    entrants = {"sccountsdiff": (truth, truth), "baseline": (2 * truth, truth), "floor": (truth, truth)}
    scores = score("hidden entries", ["rmse", "mae"], entrants)
    exhibit = Exhibit("A < B", "what is seen", plt.subplots()[0])
    verdict = Verdict("mixed", "It & that", "text", [Check("asked", "found > 1", False)])
    sections = [
        Section("Scores", score_table(scores, ASKED)),
        figure(exhibit),
        Section("Table", plain_table(pd.DataFrame({"n": [3], "share": [0.5]}, index=["<all>"]))),
        Section("What was done", facts({"seed": 0})),
    ]
    return page("Title & more", verdict, sections, {"Python": "3.11"})


def test_report_embeds_its_figures_and_points_nowhere(written):
    assert re.findall(r'src="([^:]+):', written) == ["data"]
    assert "http" not in written
    assert "$" not in written


def test_report_escapes_text_and_explains_each_question(written):
    assert "Title &amp; more" in written
    assert "A &lt; B" in written
    assert "What was &lt; asked?" in written


def test_report_marks_the_better_of_model_and_baseline(written):
    assert "<td class=best>0.0000</td><td>1.0000</td>" in written


def test_report_opens_with_the_verdict_and_what_it_rests_on(written):
    assert written.index("It &amp; that") < written.index("<h2>Scores")
    assert "<div class='verdict mixed'>" in written
    assert "&#10007;</td><td class=text>asked</td><td class=text>found &gt; 1" in written


def test_report_shows_tables_and_facts(written):
    assert "<tr><td>&lt;all&gt;</td><td>3</td><td>0.5000</td></tr>" in written
    assert "<td class=text>seed</td><td class=text>0</td>" in written


def test_figures_are_closed_once_they_are_in_the_page(written):
    assert plt.get_fignums() == []


def test_score_calls_every_entrant_and_keeps_the_direction():
    truth, exact, off = np.ones((2, 3)), np.ones((2, 3)), np.full((2, 3), 3.0)
    table = score(
        "question",
        ["mse_counts", "total_ratio"],
        {"sccountsdiff": (exact, truth), "baseline": (off, truth), "floor": (exact, truth)},
    )
    assert list(table["sccountsdiff"]) == [0.0, 1.0]
    assert list(table["baseline"]) == [4.0, 3.0]
    assert list(table["better"]) == ["lower", "1.0"]


@pytest.mark.parametrize(
    ("metric", "better", "model", "baseline", "expected"),
    [
        ("mse_counts", "lower", 1.0, 2.0, "sccountsdiff"),
        ("gene_correlation_agreement", "higher", 0.4, 0.5, "baseline"),
        ("total_ratio", "1.0", 1.2, 0.9, "baseline"),
        ("bias", "0.0", -0.1, 0.2, "sccountsdiff"),
    ],
)
def test_leader_is_who_comes_closer_to_what_is_wanted(metric, better, model, baseline, expected):
    row = pd.Series({"metric": metric, "better": better, "sccountsdiff": model, "baseline": baseline})
    assert leader(row) == expected
