"""The report is one file that needs nothing else."""

import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from sccountsdiff.cli._evaluation import QUESTIONS
from sccountsdiff.cli._figures import Exhibit
from sccountsdiff.cli._report import render
from sccountsdiff.cli._scores import Entrants, score


@pytest.fixture
def page():
    truth = np.ones((2, 3))
    scores = score("hidden entries", ["rmse", "mae"], Entrants((truth, truth), (2 * truth, truth), (truth, truth)))
    exhibit = Exhibit("curve", "A < B", "what is seen", plt.subplots()[0])
    yield render("Title & more", "summary", scores, [exhibit], "<p>method</p>", {"Python": "3.11"})
    plt.close("all")


def test_report_embeds_its_figures_and_points_nowhere(page):
    assert re.findall(r'src="([^:]+):', page) == ["data"]
    assert "http" not in page
    assert "$" not in page


def test_report_escapes_text_and_explains_each_question(page):
    assert "Title &amp; more" in page
    assert "A &lt; B" in page
    assert QUESTIONS["hidden entries"] in page


def test_report_marks_the_better_of_model_and_baseline(page):
    assert "<td class=best>0.0000</td><td>1.0000</td>" in page
