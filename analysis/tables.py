"""Tables of a paper: Markdown, LaTeX (booktabs), CSV and HTML from one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd

from analysis.plots.base import is_share, name_of
from analysis.runs import Runs
from analysis.style import order
from analysis.summarise import final, is_lower_better, last
from analysis.text import TO, latex_escape, markdown_escape, plus_minus, span


@dataclass(frozen=True)
class Cell:
    """One cell: its text, whether it is among the best, and the number behind it."""

    text: str
    bold: bool = False
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """A table as it is printed, and the numbers it was made from.

    Args:
        name: the file's name.
        caption: what the numbers are, over how many seeds, what bold means.
        header: the columns' names.
        rows: the cells.
        data: the numbers behind the cells, in long form, with the runs they come from.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    data: pd.DataFrame = field(repr=False, default_factory=pd.DataFrame)

    def markdown(self) -> str:
        """Return a Markdown table with its caption below."""
        lines = [self.header, ["---"] + ["---:"] * (len(self.header) - 1)]
        text = [[markdown_escape(h) for h in lines[0]], lines[1]]
        for row in self.rows:
            cells = [markdown_escape(c.text) for c in row]
            text.append([f"**{t}**" if c.bold else t for c, t in zip(row, cells, strict=True)])
        body = "\n".join("| " + " | ".join(line) + " |" for line in text)
        return f"{body}\n\n{markdown_escape(self.caption)}\n"

    def latex(self) -> str:
        """Return a LaTeX table; it needs the package booktabs."""
        rows = []
        for row in self.rows:
            cells = [latex_escape(c.text) for c in row]
            bold = [rf"\textbf{{{t}}}" if c.bold else t for c, t in zip(row, cells, strict=True)]
            rows.append("    " + " & ".join(bold) + r" \\")
        return "\n".join(
            [
                r"\begin{table}[t]",
                r"  \centering",
                rf"  \caption{{{latex_escape(self.caption)}}}",
                rf"  \label{{tab:{self.name}}}",
                rf"  \begin{{tabular}}{{l{'r' * (len(self.header) - 1)}}}",
                r"    \toprule",
                "    " + " & ".join(map(latex_escape, self.header)) + r" \\",
                r"    \midrule",
                *rows,
                r"    \bottomrule",
                r"  \end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def csv(self) -> str:
        """Return the numbers in long form, unrounded, with the runs they come from."""
        return self.data.to_csv(index=False, lineterminator="\n")

    def html(self) -> str:
        """Return an HTML table; text is escaped, cells carry the number they sort by."""
        head = "".join(
            f'<th scope="col"><button type="button">{escape(h)}</button></th>' for h in self.header
        )
        rows = []
        for row in self.rows:
            cells = [
                f'<td data-sort="{escape(c.text if c.value is None else format(c.value, ".10g"))}">'
                f"{'<b>' if c.bold else ''}{escape(c.text)}{'</b>' if c.bold else ''}</td>"
                for c in row
            ]
            rows.append("<tr>" + "".join(cells) + "</tr>")
        return (
            f'<div class="scroll"><table class="sortable"><caption>{escape(self.caption)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        )


def runs_behind(frame: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """Return the names of the runs behind each group, joined by spaces."""
    return frame.groupby(list(by), observed=True)["run"].agg(lambda v: " ".join(map(str, v)))


def final_values(runs: Runs, metric: str = "server_accuracy") -> pd.DataFrame:
    """Return the statistics of the final metric for each setting and label, with their runs."""
    parts = []
    for setting in runs.settings:
        rounds = runs.at(setting).rounds
        ends = last(rounds, metric)
        if ends.empty:
            continue
        part = final(rounds, metric).assign(setting=setting)
        part["label"] = part["label"].astype(str)
        names = runs_behind(ends, ["label"])
        parts.append(part.assign(runs=part["label"].map(dict(names))))
    if not parts:
        raise ValueError(f"final_values: no run measured {metric!r}")
    out = pd.concat(parts, ignore_index=True)
    return out[["setting", "label", *[c for c in out.columns if c not in ("setting", "label")]]]


def final_table(runs: Runs, metric: str = "server_accuracy") -> Table:
    """Return the table of final metrics: a row per strategy, a column per setting, best in bold.

    Bold marks the best mean of the federated runs of a setting; the baselines are printed for
    reference and never in bold.
    """
    data = final_values(runs, metric)
    share = is_share(metric)
    settings = [s for s in runs.settings if s in set(data["setting"])]
    modes = runs.table.groupby("label")["mode"].first().to_dict()
    data["mode"] = data["label"].map(modes)
    rivals = data[data["mode"] == "federated"]
    best = rivals.groupby("setting")["mean"].agg("min" if is_lower_better(metric) else "max")
    cells: dict[tuple[str, str], Any] = {
        (row["setting"], row["label"]): row for row in data.to_dict("records")
    }
    rows = []
    for label in order(data["label"]):
        row = [Cell(label)]
        for setting in settings:
            at = cells.get((setting, label))
            if at is None:
                row.append(Cell(TO))
                continue
            bold = at["mode"] == "federated" and at["mean"] == best[setting]
            row.append(Cell(plus_minus(at["mean"], at["std"], share), bool(bold), at["mean"]))
        counts = data.loc[data["label"] == label, "n"]
        row.append(Cell(span(counts), value=float(counts.min())))
        rows.append(tuple(row))
    unit = " (%)" if share else ""
    caption = (
        f"{name_of(metric)}{unit} after the last round: mean ± standard deviation over n seeds. "
        "Bold: the best mean among the federated strategies."
    )
    if len(settings) == 1:
        header = ["Strategy", f"{name_of(metric)}{unit}", "n"]
    else:
        header = ["Strategy", *[s or "all" for s in settings], "n"]
    return Table(f"final_{metric}", caption, tuple(header), tuple(rows), data)
