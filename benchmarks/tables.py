"""Write the tables of the committed results into Markdown files, between markers.

``<!-- table bound nats 1 -->`` ... ``<!-- end -->`` holds the table of the score ``nats`` of ``results/bound.csv`` with
one decimal; ``<!-- gain bound nats 1 -->`` compares CountsDiff with the best other method, and ``<!-- scores images
digits accuracy:3 frechet:1 -->`` shows several scores of one data set side by side. ``<!-- cross curves auc_log 3 pbmc3k
guided -->`` has methods ``guided_ROW_COLUMN`` as rows and columns, and ``<!-- means perturbation e_distance 2 kang norman
-->`` means over all data sets whose names begin so; ``<!-- faults -->`` lists ``results/faults.csv``. Run it after new results::

    python benchmarks/tables.py benchmarks/README.md docs/theory.md
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from _record import RESULTS, Record, markdown

MARKER = re.compile(r"(<!-- (table|gain) (\w+) (\w+) (\d+) -->\n).*?(<!-- end -->)", re.DOTALL)
SCORES = re.compile(r"(<!-- scores (\w+) (\w+) ((?:\w+:\d+ )+)-->\n).*?(<!-- end -->)", re.DOTALL)
CROSS = re.compile(r"(<!-- cross (\w+) (\w+) (\d+) (\w+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
MEANS = re.compile(r"(<!-- means (\w+) (\w+) (\d+) ((?:\w+ )+)-->\n).*?(<!-- end -->)", re.DOTALL)
FAULTS = re.compile(r"(<!-- faults -->\n).*?(<!-- end -->)", re.DOTALL)


def faults() -> str:
    """Return a Markdown table of the faults that were injected."""
    lines = Record(RESULTS / "faults.csv").rows()
    shown = [[line[name].replace("|", "/") for name in ("fault", "outcome", "lost", "said")] for line in lines]
    return markdown(["fault", "outcome", "lost", "what is said"], shown)


def fill(text: str) -> str:
    """Return the text with every marked table renewed."""

    def renewed(match: re.Match[str]) -> str:
        head, kind, question, score, digits, tail = match.groups()
        record = Record(RESULTS / f"{question}.csv")
        if kind == "table":
            return f"{head}{record.table(score, int(digits))}\n{tail}"
        return f"{head}{record.against_best(score, 'countsdiff', int(digits))}\n{tail}"

    def side_by_side(match: re.Match[str]) -> str:
        head, question, data, asked, tail = match.groups()
        digits = {score: int(n) for score, n in (pair.split(":") for pair in asked.split())}
        return f"{head}{Record(RESULTS / f'{question}.csv').scores_table(data, digits)}\n{tail}"

    def crossed(match: re.Match[str]) -> str:
        head, question, score, digits, data, prefix, tail = match.groups()
        return f"{head}{Record(RESULTS / f'{question}.csv').cross_table(score, data, int(digits), prefix)}\n{tail}"

    def means(match: re.Match[str]) -> str:
        head, question, score, digits, prefixes, tail = match.groups()
        table = Record(RESULTS / f"{question}.csv").means_table(score, int(digits), prefixes.split())
        return f"{head}{table}\n{tail}"

    def injected(match: re.Match[str]) -> str:
        return f"{match[1]}{faults()}\n{match[2]}"

    for marker, table in (
        (FAULTS, injected),
        (MARKER, renewed),
        (SCORES, side_by_side),
        (CROSS, crossed),
        (MEANS, means),
    ):
        text = marker.sub(table, text)
    return text


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(fill(path.read_text(encoding="utf-8")), encoding="utf-8")
