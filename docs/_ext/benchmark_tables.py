"""Directive ``benchmark``: the table of one score, made from the CSV file that a script in ``benchmarks/`` wrote."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from _record import Record  # noqa: E402  (the scripts are no package)


class BenchmarkTable(SphinxDirective):
    """``{benchmark} QUESTION SCORE``: methods by data sets, mean and SD over seeds."""

    required_arguments = 2
    option_spec = {"digits": directives.nonnegative_int}

    def run(self) -> list[nodes.Node]:
        """Parse the Markdown table of the record."""
        question, score = self.arguments
        path = BENCHMARKS / "results" / f"{question}.csv"
        record = Record(path)
        self.env.note_dependency(str(path))
        if not any(row["score"] == score for row in record.rows()):
            text = f"Not recorded in this checkout: run `python benchmarks/{question}.py`."
        else:
            text = record.table(score, self.options.get("digits", 3))
        return self.parse_text_to_nodes(text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("benchmark", BenchmarkTable)
    return {"parallel_read_safe": True}
