"""Reports as HTML files: how well a model imputes and generates, on cells it was not trained on.

:func:`imputation` and :func:`generation` open with a verdict and warn where a model should not be used. What they are
built of serves reports of your own: :func:`score` puts a model beside baselines and a floor, :func:`page` writes it down.
"""

from sccountsdiff.report._generation import generation
from sccountsdiff.report._imputation import imputation
from sccountsdiff.report._made import Report, versions
from sccountsdiff.report._page import Check, Exhibit, Section, Verdict, facts, figure, page, plain_table, score_table
from sccountsdiff.report._scores import leader, score

__all__ = [
    "Check",
    "Exhibit",
    "Report",
    "Section",
    "Verdict",
    "facts",
    "figure",
    "generation",
    "imputation",
    "leader",
    "page",
    "plain_table",
    "score",
    "score_table",
    "versions",
]
