"""Results that survive interruption: one CSV per question, one line per (method, data, seed, score).

A finished (method, data, seed) is skipped when the script runs again, so long work can be stopped at any time.
``--table`` prints the Markdown tables used in the documentation from the CSV alone.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

FIELDS = ("method", "data", "seed", "score", "value", "seconds", "machine", "date", "versions")
PACKAGES = ("sccountsdiff", "torch", "scvi-tools", "scanpy", "anndata", "numpy")
RESULTS = Path(__file__).parent / "results"

Job = Callable[[str, str, int], Mapping[str, float]]


def machine() -> str:
    """Return processor architecture, model and number of usable cores and threads of this machine, and its GPU if any."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    gpu = f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{model}; {os.cpu_count()} cores; {threads} thread(s){gpu}"


def versions() -> str:
    """Return the versions of the packages that matter, as ``name=version`` separated by blanks."""

    def one(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "none"

    return " ".join([f"python={platform.python_version()}", *(f"{name}={one(name)}" for name in PACKAGES)])


@dataclass(frozen=True)
class Record:
    """The results of one question.

    Parameters
    ----------
    path
        CSV file with the columns of :data:`FIELDS`; created with the first row.
    """

    path: Path

    def rows(self) -> list[dict[str, str]]:
        """Return all lines written so far."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def done(self) -> set[tuple[str, str, int]]:
        """Return the finished (method, data, seed)."""
        return {(row["method"], row["data"], int(row["seed"])) for row in self.rows()}

    def append(self, method: str, data: str, seed: int, scores: Mapping[str, float], seconds: float) -> None:
        """Write the scores of one finished job, all or none."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        tail = (f"{seconds:.1f}", machine(), datetime.now(UTC).strftime("%Y-%m-%d"), versions())
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if new:
                writer.writerow(FIELDS)
            writer.writerows([(method, data, seed, name, f"{value:.6g}", *tail) for name, value in scores.items()])

    def values(self, score: str) -> dict[tuple[str, str], dict[int, float]]:
        """Return the values of one score by (method, data), then by seed."""
        found: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
        for row in self.rows():
            if row["score"] == score:
                found[row["method"], row["data"]][int(row["seed"])] = float(row["value"])
        return found

    def table(self, score: str, digits: int = 4) -> str:
        """Return a Markdown table of one score: methods by data sets, mean ± SD over seeds."""
        cells = self.values(score)
        methods = list(dict.fromkeys(method for method, _ in cells))
        datasets = list(dict.fromkeys(data for _, data in cells))
        lines = [[method, *(show(cells[method, data].values(), digits) for data in datasets)] for method in methods]
        return markdown(["method", *datasets], lines)

    def scores_table(self, data: str, digits: Mapping[str, int]) -> str:
        """Return a Markdown table of one data set: methods by scores, each with so many digits, mean ± SD over seeds."""
        by_score = {score: self.values(score) for score in digits}
        methods = dict.fromkeys(row["method"] for row in self.rows() if row["data"] == data)
        lines = [
            [method, *(show(by_score[score].get((method, data), {}).values(), n) for score, n in digits.items())]
            for method in methods
        ]
        return markdown(["method", *digits], lines)

    def cross_table(self, score: str, data: str, digits: int, prefix: str) -> str:
        """Return a Markdown table of one score of methods ``prefix_ROW_COLUMN`` on one data set, mean ± SD over seeds."""
        names = {
            name: name.removeprefix(f"{prefix}_").rsplit("_", 1) for name, where in self.values(score) if where == data
        }
        split = {
            tuple(parts): name for name, parts in names.items() if name.startswith(f"{prefix}_") and len(parts) == 2
        }
        columns = dict.fromkeys(column for _, column in split)
        cells = self.values(score)
        lines = [
            [row, *(show(cells.get((split.get((row, column), ""), data), {}).values(), digits) for column in columns)]
            for row in dict.fromkeys(row for row, _ in split)
        ]
        return markdown([prefix, *columns], lines)

    def means_table(self, score: str, digits: int, prefixes: Sequence[str]) -> str:
        """Return a Markdown table of the mean of one score over the data sets with each prefix, mean ± SD over seeds.

        Only seeds count for which a method has all data sets of the prefix that any method has.
        """
        cells = self.values(score)
        lines = []
        for method in dict.fromkeys(method for method, _ in cells):
            line = [method]
            for prefix in prefixes:
                names = {data for _, data in cells if data.startswith(prefix)}
                found = [cells.get((method, data), {}) for data in names]
                seeds = set.intersection(*map(set, found)) if found else set()
                line.append(show([np.mean([one[seed] for one in found]) for seed in sorted(seeds)], digits))
            lines.append(line)
        heads = [
            f"{prefix} (mean of {len({data for _, data in cells if data.startswith(prefix)})})" for prefix in prefixes
        ]
        return markdown(["method", *heads], lines)

    def against_best(self, score: str, ours: str, digits: int = 4) -> str:
        """Return a Markdown table of one score (lower is better) of one method beside the best other one by data set.

        The best is the one with the smallest mean over the seeds that both have, variants of ours (``ours_*``) left out;
        gains are paired by seed.
        """
        cells = self.values(score)
        lines = []
        for (method, data), mine in cells.items():
            if method != ours:
                continue
            others = {
                name: found
                for (name, where), found in cells.items()
                if where == data and name != ours and not name.startswith(f"{ours}_")
            }
            paired = {name: sorted(mine.keys() & found.keys()) for name, found in others.items()}
            means = {name: np.mean([others[name][seed] for seed in seeds]) for name, seeds in paired.items() if seeds}
            if not means:
                continue
            best = min(means, key=lambda name: means[name])
            gains = [others[best][seed] - mine[seed] for seed in paired[best]]
            share = 100 * np.mean(gains) / means[best]
            shown = [show(found.values(), digits) for found in (others[best], mine)]
            lines.append([data, best, *shown, show(gains, digits), f"{share:.1f} %"])
        return markdown(["data", "best other", "its score", ours, "gain", "gain in %"], lines)


def show(values: Iterable[float], digits: int) -> str:
    """Return mean ± SD; a dash for no value."""
    numbers = list(values)
    if not numbers:
        return "-"
    spread = f" ± {np.std(numbers, ddof=1):.{digits}f}" if len(numbers) > 1 else ""
    return f"{np.mean(numbers):.{digits}f}{spread}"


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def arguments(doc: str, methods: Iterable[str], datasets: Iterable[str]) -> argparse.ArgumentParser:
    """Return the options common to all scripts."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(methods), choices=list(methods))
    parser.add_argument("--data", nargs="+", default=list(datasets), choices=list(datasets))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    parser.add_argument("--table", action="store_true", help="print the tables and run nothing")
    parser.add_argument("--max-epochs", type=int, default=None, help="cap every training run: a smoke test")
    return parser


def run(record: Record, options: argparse.Namespace, job: Job) -> None:
    """Do every job that is not in the record yet, data set by data set."""
    for data in options.data:
        for seed in options.seeds:
            for method in options.methods:
                if (method, data, seed) in record.done():
                    continue
                start = time.perf_counter()
                scores = job(method, data, seed)
                record.append(method, data, seed, scores, time.perf_counter() - start)
                shown = "  ".join(f"{name} {value:.5g}" for name, value in scores.items())
                print(f"{data} seed {seed} {method}: {shown}  ({time.perf_counter() - start:.0f} s)", flush=True)
