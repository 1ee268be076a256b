"""A table as a value: printed as Markdown, CSV or HTML; :mod:`analysis.latex` sets it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd

from analysis.text import markdown_escape, typeset


@dataclass(frozen=True)
class Cell:
    """One cell: its text, whether it is among the best, and the number that it sorts by."""

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
        texts: how many of the first columns are text (left-aligned).
        groups: whether the first column names a group of rows, such as a setting.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    data: pd.DataFrame = field(repr=False, default_factory=pd.DataFrame)
    texts: int = 1
    groups: bool = False

    def __post_init__(self) -> None:
        wrong = next((len(r) for r in self.rows if len(r) != len(self.header)), None)
        if wrong is not None:
            raise ValueError(f"rows: must have {len(self.header)} cells as the header, got {wrong}")

    def markdown(self) -> str:
        """Return a Markdown table with its caption below."""
        sides = ["---" if i < self.texts else "---:" for i in range(len(self.header))]
        lines = [[markdown_escape(h) for h in self.header], sides]
        for row in self.rows:
            cells = [markdown_escape(c.text) for c in row]
            lines.append([f"**{t}**" if c.bold else t for c, t in zip(row, cells, strict=True)])
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{body}\n\n{markdown_escape(self.caption)}\n"

    def csv(self) -> str:
        """Return the numbers in long form, unrounded, with the runs they come from."""
        return str(self.data.to_csv(index=False, lineterminator="\n"))

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return self.html(sortable=False)

    def html(self, captioned: bool = True, sortable: bool = True) -> str:
        """Return an HTML table; text is escaped, cells carry what they sort by.

        Args:
            captioned: whether its caption is a part of it.
            sortable: whether its headers are buttons, for the script of a report's page.
        """
        sides = ["t" if i < self.texts else "n" for i in range(len(self.header))]
        head = "".join(
            f'<th scope="col" class="{side}">'
            + (f'<button type="button">{_html(h)}</button>' if sortable else _html(h))
            + "</th>"
            for side, h in zip(sides, self.header, strict=True)
        )
        rows = []
        for row in self.rows:
            cells = [
                f'<td class="{side}" data-sort="{escape(sort_key(c))}">'
                + (f"<b>{_html(c.text)}</b>" if c.bold else _html(c.text))
                + "</td>"
                for side, c in zip(sides, row, strict=True)
            ]
            rows.append("<tr>" + "".join(cells) + "</tr>")
        caption = f"<caption>{_html(self.caption)}</caption>" if captioned else ""
        kind = ' class="sortable"' if sortable else ""
        return (
            f'<div class="scroll"><table{kind}>{caption}'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        )


def _html(text: str) -> str:
    return escape(typeset(text))


def sort_key(cell: Cell) -> str:
    """Return what a browser sorts a cell by: its number as JavaScript reads it, or its text."""
    if cell.value is None:
        return cell.text
    return {"inf": "Infinity", "-inf": "-Infinity"}.get(key := format(cell.value, ".12g"), key)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as mappings."""
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
