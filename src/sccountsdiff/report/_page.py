"""One HTML file with everything in it, figures included: the verdict first, then what it rests on."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Literal, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd

from sccountsdiff.report._scores import FLOOR, entrants_of, leader

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 110
MARKS = {True: "&#10003;", False: "&#10007;"}


class Exhibit(NamedTuple):
    """A figure of a report.

    Parameters
    ----------
    title, caption
        Plain text.
    figure
        The figure; it is closed once it is in the page.
    """

    title: str
    caption: str
    figure: Figure


class Section(NamedTuple):
    """A part of a page.

    Parameters
    ----------
    title
        Plain text.
    body
        HTML.
    """

    title: str
    body: str


class Check(NamedTuple):
    """A question with an answer that is right or wrong.

    Parameters
    ----------
    asked, found
        Plain text: what should hold, and what was found.
    holds
        Whether it does.
    """

    asked: str
    found: str
    holds: bool


@dataclass(frozen=True)
class Verdict:
    """What a reader in a hurry should know.

    Parameters
    ----------
    tone
        ``"good"``, ``"mixed"`` or ``"bad"`` colours the box; ``"plain"`` does not judge.
    headline
        One sentence, plain text.
    text
        A few more, plain text.
    checks
        What the verdict rests on.
    """

    tone: Literal["good", "mixed", "bad", "plain"]
    headline: str
    text: str
    checks: Sequence[Check] = ()

    def html(self) -> str:
        """The box at the top of the page.

        Returns
        -------
        HTML.
        """
        rows = "".join(
            f"<tr><td class='mark {str(check.holds).lower()}'>{MARKS[check.holds]}</td>"
            f"<td class=text>{html.escape(check.asked)}</td><td class=text>{html.escape(check.found)}</td></tr>"
            for check in self.checks
        )
        table = f"<table class=checks>{rows}</table>" if rows else ""
        headline = f"<p class=headline>{html.escape(self.headline)}</p>" if self.headline else ""
        return f"<div class='verdict {self.tone}'>{headline}<p>{html.escape(self.text)}</p>{table}</div>"


def page(title: str, verdict: Verdict, sections: Iterable[Section], versions: Mapping[str, str]) -> str:
    """Put a page together.

    Parameters
    ----------
    title
        Plain text.
    verdict
        What stands at the top.
    sections
        What follows, in this order.
    versions
        Name -> version, of what made the report.

    Returns
    -------
    A page that needs nothing else.
    """
    parts = [f"<h2>{html.escape(section.title)}</h2>\n{section.body}" for section in sections]
    return Template(files("sccountsdiff.report").joinpath("page.html").read_text("utf-8")).substitute(
        title=html.escape(title),
        verdict=verdict.html(),
        sections="\n".join(parts),
        versions=html.escape(", ".join(f"{name} {version}" for name, version in versions.items())),
    )


def score_table(scores: pd.DataFrame, questions: Mapping[str, str]) -> str:
    """Tables of scores, one for each question; the best of model and baselines is bold.

    Parameters
    ----------
    scores
        Table of :func:`sccountsdiff.report.score`.
    questions
        Question -> what was asked, and what its baselines are; plain text.

    Returns
    -------
    HTML.
    """
    return "\n".join(
        f"<h3>{html.escape(question)}</h3>\n<p class=asked>{html.escape(questions[question])}</p>\n{_scores_of(rows)}"
        for question, rows in scores.groupby("question", sort=False)
    )


def plain_table(frame: pd.DataFrame) -> str:
    """Any table of numbers and words, with its index as the first column.

    Parameters
    ----------
    frame
        Floats are shown with four digits.

    Returns
    -------
    HTML.
    """
    header = "".join(f"<th>{html.escape(str(name))}</th>" for name in (frame.index.name or "", *frame.columns))
    rows = (
        f"<tr><td>{html.escape(str(name))}</td>" + "".join(f"<td>{_number(value)}</td>" for value in row) + "</tr>"
        for name, row in zip(frame.index, frame.itertuples(index=False), strict=True)
    )
    return "\n".join(["<div class=wide><table>", f"<tr>{header}</tr>", *rows, "</table></div>"])


def facts(known: Mapping[str, object]) -> str:
    """List of names and values.

    Parameters
    ----------
    known
        Name -> value.

    Returns
    -------
    HTML.
    """
    rows = (
        f"<tr><td class=text>{html.escape(name)}</td><td class=text>{html.escape(str(value))}</td></tr>"
        for name, value in known.items()
    )
    return "\n".join(["<table class=facts>", *rows, "</table>"])


def figure(exhibit: Exhibit) -> Section:
    """Draw a figure into a section of its own, and close it.

    Parameters
    ----------
    exhibit
        The figure.

    Returns
    -------
    The section.
    """
    buffer = io.BytesIO()
    exhibit.figure.savefig(buffer, format="png", dpi=DPI)
    plt.close(exhibit.figure)
    image = base64.b64encode(buffer.getvalue()).decode("ascii")
    body = (
        f'<figure>\n<img src="data:image/png;base64,{image}" alt="{html.escape(exhibit.title)}">\n'
        f"<figcaption>{html.escape(exhibit.caption)}</figcaption>\n</figure>"
    )
    return Section(exhibit.title, body)


def _scores_of(rows: pd.DataFrame) -> str:
    """Scores of one question, with columns for those who answered it."""
    names = [name for name in entrants_of(rows) if rows[name].notna().any()]
    header = "".join(f"<th>{html.escape(name)}</th>" for name in ("score", "better", *names, ""))
    lines = "\n".join(_score_row(row, names) for _, row in rows.iterrows())
    return f"<div class=wide><table class=scores>\n<tr>{header}</tr>\n{lines}\n</table></div>"


def _score_row(row: pd.Series, names: Sequence[str]) -> str:
    best = leader(row)
    looks = {name: " class=best" if name == best else " class=floor" if name == FLOOR else "" for name in names}
    cells = "".join(f"<td{looks[name]}>{_number(row[name])}</td>" for name in names)
    description = html.escape(row["description"])
    return f"<tr><td>{row['metric']}</td><td>{row['better']}</td>{cells}<td class=text>{description}</td></tr>"


def _number(value: object) -> str:
    if not isinstance(value, float):
        return html.escape(str(value))
    return "-" if pd.isna(value) else f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"
