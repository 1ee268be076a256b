r"""Tables in LaTeX that fit their column: plain tabulars, with booktabs and no other package.

Numbers of a column are padded with ``\phantom{0}`` until their decimals stand below each other,
minus signs are real ones, a dagger takes no width, and rows of one setting stand below its title.
How wide a table will be is measured with the metrics of Times, in which the papers are set.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font

from analysis.cells import Cell, Table
from analysis.style import Paper
from analysis.text import latex_escape

DAGGER = " †"
"""How the mark of a tie ends a cell."""

LONG = 40
"""Rows of more than which a table does not fit a page: it needs longtable."""

SIZES = ((r"\small", 9.0), (r"\footnotesize", 8.0), (r"\scriptsize", 7.0))
"""Sizes of type, with their points where the text has ten."""

SPARE = 0.97
"""The part of a width that a table may fill: what is measured is not TeX's own."""

NUMBER = re.compile(r"(?P<sign>[-+\N{MINUS SIGN}]?)(?P<whole>\d+(?:,\d{3})*)(?P<rest>\.\d+)?")
"""A number as tables print it: 84.7, +0.31, 12,345."""

MARKS = " ±[],()/<\N{EN DASH}\N{MULTIPLICATION SIGN}"
"""What may stand between the numbers of a cell; with words it is text."""


@dataclass(frozen=True)
class Layout:
    """How a table is set.

    Args:
        environment: ``table`` of one column, ``table*`` across both.
        size: LaTeX's command for the size of type.
        space: on each side of a column [pt].
        squeezed: whether even so it must be scaled to the width.
    """

    environment: str
    size: str
    space: float
    squeezed: bool = False


def layout_of(table: Table, paper: Paper) -> Layout:
    """Return the largest layout in which a table fits a venue's column, or its page."""
    places = [("table", paper.column_points)] if paper.columns > 1 else []
    places.append(("table*" if paper.columns > 1 else "table", paper.page_points))
    tight = [(*SIZES[0], 6.0), (*SIZES[0], 4.0), (*SIZES[1], 4.0), (*SIZES[1], 3.0)]
    for environment, room in places:
        last = room == paper.page_points
        for command, points, space in [*tight, *([(*SIZES[2], 3.0), (*SIZES[2], 2.0)] * last)]:
            if width(table, points, space) <= SPARE * room:
                return Layout(environment, command, space)
    return Layout(places[-1][0], SIZES[2][0], 2.0, squeezed=True)


def width(table: Table, points: float, space: float) -> float:
    """Return how wide a table will be in type of this size [pt]."""
    shown = _without_group(table)
    heads = _heads(shown)
    columns = [
        max(
            [text_width(line, points) for line in head]
            + [text_width(row[i].text, points, row[i].bold) for row in shown.rows]
        )
        for i, head in enumerate(heads)
    ]
    inner = sum(columns) + 2 * space * (len(columns) - 1)
    titles = [text_width(row[0].text, points) for row in table.rows] if table.groups else []
    return max([inner, *titles])


def text_width(text: str, points: float, bold: bool = False) -> float:
    """Return the width of a text in Times [pt]; a dagger takes none."""
    return _units(text.replace(DAGGER, ""), bold) * points


@cache
def _units(text: str, bold: bool) -> float:
    font = get_font(
        findfont(FontProperties(family="STIXGeneral", weight="bold" if bold else "normal"))
    )
    font.set_size(100.0, 72.0)
    font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64 / 100


def printed(table: Table, paper: Paper) -> str:
    """Return a table for a paper: one that floats, or of several pages where it is long."""
    return long(table, paper) if len(table.rows) > LONG else floating(table, paper)


def floating(table: Table, paper: Paper) -> str:
    """Return a table that floats, with caption and label, as wide as the venue lets it be."""
    how = layout_of(table, paper)
    body = tabular(table)
    if how.squeezed:
        body = "\n".join([r"\resizebox{\linewidth}{!}{%", body + "%", "}"])
    return "\n".join(
        [
            *_notes(table),
            rf"\begin{{{how.environment}}}[t]",
            r"  \centering",
            rf"  {how.size}",
            rf"  \setlength{{\tabcolsep}}{{{how.space:g}pt}}",
            *_caption(table),
            *_indented(body),
            rf"\end{{{how.environment}}}",
            "",
        ]
    )


def long(table: Table, paper: Paper) -> str:
    """Return a table of many pages; it needs the package longtable, and a one-column text."""
    points, space = SIZES[-1][1], 2.0
    for _, size, gap in ((*SIZES[0], 6.0), (*SIZES[1], 4.0), (*SIZES[2], 3.0)):
        if width(table, size, gap) <= SPARE * paper.page_points:
            points, space = size, gap
            break
    command = next(name for name, size in SIZES if size == points)
    shown = _without_group(table)
    head = [r"\toprule", _head(shown), r"\midrule"]
    return "\n".join(
        [
            r"% Needs \usepackage{longtable}, and a one-column text: \onecolumn in an appendix.",
            *_notes(table),
            rf"\begingroup{command}\setlength{{\tabcolsep}}{{{space:g}pt}}",
            rf"\begin{{longtable}}{{{_columns(shown)}}}",
            *(line.rstrip() for line in _caption(table)[:-1]),
            f"{_caption(table)[-1]}" + r" \\",
            *_indented("\n".join([*head, r"\endfirsthead", *head, r"\endhead"])),
            r"  \bottomrule",
            r"  \endlastfoot",
            *_indented("\n".join(_rows(table))),
            r"\end{longtable}",
            r"\endgroup",
            "",
        ]
    )


def tabular(table: Table) -> str:
    """Return the table alone, to be put into a float of one's own."""
    shown = _without_group(table)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{_columns(shown)}}}",
            r"  \toprule",
            f"  {_head(shown)}",
            r"  \midrule",
            *_indented("\n".join(_rows(table))),
            r"  \bottomrule",
            r"\end{tabular}",
        ]
    )


def figure(name: str, caption: str, wide: bool, paper: Paper) -> str:
    """Return a figure that floats, in its own size: its type is as large as it was drawn."""
    environment = "figure*" if wide and paper.columns > 1 else "figure"
    return "\n".join(
        [
            rf"\begin{{{environment}}}[t]",
            r"  \centering",
            rf"  \includegraphics{{figures/{name}}}",
            rf"  \caption{{{latex_escape(caption)}}}",
            rf"  \label{{fig:{name.replace('_', '-')}}}",
            rf"\end{{{environment}}}",
            "",
        ]
    )


def _caption(table: Table) -> list[str]:
    return [
        rf"  \caption{{{latex_escape(table.caption)}}}",
        rf"  \label{{tab:{table.name.replace('_', '-')}}}",
    ]


def _notes(table: Table) -> list[str]:
    return [r"% Needs \usepackage{booktabs}; \resizebox, where there is one, graphicx."]


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def _without_group(table: Table) -> Table:
    """Return the columns that are printed: a group's name is a row."""
    if not table.groups:
        return table
    rows = tuple(row[1:] for row in table.rows)
    return Table(table.name, table.caption, table.header[1:], rows, table.data, table.texts - 1)


def _columns(table: Table) -> str:
    return "@{}" + "l" * table.texts + "r" * (len(table.header) - table.texts) + "@{}"


def _rows(table: Table) -> list[str]:
    shown = _without_group(table)
    columns = [_aligned([row[i] for row in shown.rows]) for i in range(len(shown.header))]
    lines: list[str] = []
    before: str | None = None
    for i, cells in enumerate(zip(*columns, strict=True)):
        group = table.rows[i][0].text if table.groups else None
        if group != before and group is not None:
            if before is not None:
                lines.append(r"\addlinespace")
            title = rf"\emph{{{latex_escape(group)}}}"
            lines.append(rf"\multicolumn{{{len(shown.header)}}}{{@{{}}l@{{}}}}{{{title}}} \\")
        before = group
        lines.append(" & ".join(cells) + r" \\")
    return lines


def _aligned(cells: Sequence[Cell]) -> list[str]:
    """Return a column's cells: numbers are padded to one shape, so that decimals align."""
    split = [_split(cell.text.removesuffix(DAGGER)) for cell in cells]
    shapes: dict[int, list[Shape]] = {}
    for _, numbers in filter(None, split):
        known = shapes.setdefault(len(numbers), [Shape()] * len(numbers))
        shapes[len(numbers)] = [k.holding(n) for k, n in zip(known, numbers, strict=True)]
    found = []
    for cell, parts in zip(cells, split, strict=True):
        body = latex_escape(cell.text.removesuffix(DAGGER))
        if parts is not None:
            words, numbers = parts
            padded = [
                shape.padded(number, first=i == 0)
                for i, (shape, number) in enumerate(zip(shapes[len(numbers)], numbers, strict=True))
            ]
            pieces = [
                latex_escape(word) + text for word, text in zip(words, [*padded, ""], strict=True)
            ]
            body = "".join(pieces)
        bold = rf"\textbf{{{body}}}" if cell.bold else body
        found.append(bold + (r"\rlap{$^\dagger$}" if cell.text.endswith(DAGGER) else ""))
    return found


@dataclass(frozen=True)
class Number:
    """A number of a cell: its sign, the digits before the point, the point and what follows."""

    sign: str
    whole: str
    rest: str


@dataclass(frozen=True)
class Shape:
    """The room that the numbers of a column need at one place of its cells."""

    signed: bool = False
    whole: str = ""
    rest: str = ""

    def holding(self, number: Number) -> Shape:
        """Return the shape that holds this number too."""
        whole, rest = (re.sub(r"\d", "0", text) for text in (number.whole, number.rest))
        return Shape(
            self.signed or bool(number.sign),
            max(self.whole, whole, key=len),
            max(self.rest, rest, key=len),
        )

    def padded(self, number: Number, first: bool) -> str:
        """Return a number with what it lacks as a phantom; the first one is flush right."""
        before = self.whole[: len(self.whole) - len(number.whole)]
        after = self.rest[len(number.rest) :]
        sign = f"${number.sign}$" if number.sign else "$-$" * self.signed
        if not number.sign:
            sign = rf"\phantom{{{sign}}}" if sign else ""
        front = "" if first and not number.sign else sign
        room = rf"\phantom{{{before}}}" if before and not first else ""
        end = rf"\phantom{{{after}}}" if after else ""
        return room + front + number.whole + number.rest + end


def _split(text: str) -> tuple[list[str], list[Number]] | None:
    """Return what stands between the numbers of a cell, and these; None where it has words."""
    words, numbers, at = [], [], 0
    for match in NUMBER.finditer(text):
        sign = match["sign"].replace("\N{MINUS SIGN}", "-")
        words.append(text[at : match.start()])
        numbers.append(Number(sign, match["whole"], match["rest"] or ""))
        at = match.end()
    words.append(text[at:])
    if not numbers or any(word.strip(MARKS) for word in words):
        return None
    return words, numbers


def _heads(table: Table) -> list[list[str]]:
    """Return the lines of each column's head: broken where it is wider than its cells."""
    found = []
    for i, text in enumerate(table.header):
        widest = max((text_width(row[i].text, 10.0) for row in table.rows), default=0.0)
        found.append(_broken(text, max(widest, 30.0)))
    return found


def _broken(text: str, room: float) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", 10.0) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines or [""]


def _head(table: Table) -> str:
    cells = []
    for i, lines in enumerate(_heads(table)):
        texts = [latex_escape(line) for line in lines]
        side = "l" if i < table.texts else "r"
        stack = r" \\ ".join(texts)
        cells.append(rf"\shortstack[{side}]{{{stack}}}" if len(texts) > 1 else texts[0])
    return " & ".join(cells) + r" \\"
