"""One HTML file with everything in it, figures included."""

from __future__ import annotations

import base64
import html
import io
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from sccountsdiff.cli._evaluation import QUESTIONS
from sccountsdiff.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from sccountsdiff.cli._figures import Exhibit

DPI = 110


def render(
    title: str,
    summary: str,
    scores: pd.DataFrame,
    exhibits: Iterable[Exhibit],
    method: str,
    versions: Mapping[str, str],
) -> str:
    """Fill in the template.

    Parameters
    ----------
    title, summary
        Plain text.
    scores
        Table of scores, see :func:`sccountsdiff.cli._scores.score`.
    exhibits
        The figures.
    method
        HTML.
    versions
        Name -> version, of what made the report.

    Returns
    -------
    A self-contained HTML page.
    """
    return Template(files("sccountsdiff.cli").joinpath("report.html").read_text("utf-8")).substitute(
        title=html.escape(title),
        summary=html.escape(summary),
        table=_table(scores),
        figures="\n".join(map(_figure, exhibits)),
        method=method,
        versions=html.escape(", ".join(f"{name} {version}" for name, version in versions.items())),
    )


def leader(row: pd.Series) -> str:
    """Which of ``sccountsdiff`` and ``baseline`` is closer to what the metric of the row wants."""
    distance = {
        "lower": lambda value: value,
        "higher": lambda value: -value,
    }.get(row["better"], lambda value: abs(value - METRICS[row["metric"]].direction))
    return min(("sccountsdiff", "baseline"), key=lambda role: distance(row[role]))


def _table(scores: pd.DataFrame) -> str:
    columns = ("better", "sccountsdiff", "baseline", "floor")
    header = "".join(f"<th>{name}</th>" for name in ("score", *columns, ""))
    lines = ["<table>", f"<tr>{header}</tr>"]
    for question, rows in scores.groupby("question", sort=False):
        lines.append(f"<tr><td class=group colspan=6>{html.escape(question)}</td></tr>")
        lines.append(f"<tr><td class=asked colspan=6>{html.escape(QUESTIONS[question])}</td></tr>")
        for _, row in rows.iterrows():
            best = leader(row)
            cells = "".join(f"<td{' class=best' if role == best else ''}>{row[role]:.4f}</td>" for role in columns[1:])
            lines.append(
                f"<tr><td>{row['metric']}</td><td>{row['better']}</td>{cells}"
                f"<td class=text>{html.escape(row['description'])}</td></tr>"
            )
    return "\n".join([*lines, "</table>"])


def _figure(exhibit: Exhibit) -> str:
    buffer = io.BytesIO()
    exhibit.figure.savefig(buffer, format="png", dpi=DPI)
    image = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f"<h2>{html.escape(exhibit.title)}</h2>\n<figure>\n"
        f'<img src="data:image/png;base64,{image}" alt="{html.escape(exhibit.title)}">\n'
        f"<figcaption>{html.escape(exhibit.caption)}</figcaption>\n</figure>"
    )
