"""From run folders to the files of a paper: figures, tables and one page that holds them all."""

from __future__ import annotations

import base64
from pathlib import Path

from analysis.figures import FIGURES, draw, save
from analysis.load import load
from analysis.page import Picture, page
from analysis.runs import Runs
from analysis.style import looks
from analysis.tables import Table, final_table


def report(
    paths: str | Path | list[str | Path] | tuple[str | Path, ...],
    out: str | Path,
    style: str = "default",
) -> list[Path]:
    """Write every figure and table that the runs give, and ``report.html``.

    Figures go to ``figures/`` as PNG and PDF, tables to ``tables/`` as CSV, LaTeX and Markdown.

    Args:
        paths: run folders, or folders of them.
        out: the folder to write to; files of an earlier report are replaced.
        style: the venue, see :data:`analysis.style.PAPERS`.

    Returns:
        The files written, the page first.

    Raises:
        ValueError: a path holds no runs, or a run cannot be read.
    """
    many = [paths] if isinstance(paths, str | Path) else list(paths)
    runs = load(*many)
    folder = Path(out)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    (folder / "tables").mkdir(exist_ok=True)
    tables = [final_table(runs)]
    pictures, files = draw_all(runs, folder / "figures", style)
    for table in tables:
        files += write_table(table, folder / "tables")
    index = folder / "report.html"
    index.write_text(page(runs, pictures, tables), encoding="utf-8")
    return [index, *files]


def draw_all(runs: Runs, folder: Path, style: str) -> tuple[list[Picture], list[Path]]:
    """Draw every figure that applies."""
    pictures: list[Picture] = []
    files: list[Path] = []
    table = looks(runs.table["label"])
    for figure in FIGURES.values():
        if not figure.applies(runs):
            continue
        canvas = draw(figure.name, runs, style, table=table)
        written = save(canvas, folder / figure.name, ("png", "pdf", "svg"), style)
        svg = written.pop()
        data = base64.b64encode(svg.read_bytes()).decode("ascii")
        svg.unlink()
        pictures.append(Picture(figure.name, figure.caption, f"data:image/svg+xml;base64,{data}"))
        files += written
    return pictures, files


def write_table(table: Table, folder: Path) -> list[Path]:
    """Write a table as CSV, LaTeX and Markdown."""
    contents = {"csv": table.csv(), "tex": table.latex(), "md": table.markdown()}
    paths = []
    for kind, text in contents.items():
        path = folder / f"{table.name}.{kind}"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths
