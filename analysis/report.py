"""From run folders to the files of a paper: figures, tables and one page that holds them all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis import latex, parallel, tuned
from analysis.captions import caption
from analysis.cells import Table
from analysis.clock_tables import CLOCK_TABLES, clock_tables
from analysis.composing import composed
from analysis.figures import FIGURES, FORMATS, draw, save
from analysis.load import find_runs, load
from analysis.methods import Citations
from analysis.names import Names
from analysis.page import Contents, Picture, page
from analysis.plots.base import is_share
from analysis.runs import Runs
from analysis.significance import TESTS
from analysis.style import Paper, paper
from analysis.summarise import BANDS, check_baseline, default_target
from analysis.tables import TABLES, all_tables
from analysis.text import slug
from analysis.vector import data_uri
from analysis.verdicts import BOLD

FIGURES_HEAD = "% Needs \\usepackage{graphicx}, and \\graphicspath{{REPORT/}}: this folder.\n"
"""What the file of all figures begins with."""

MANY = 30
"""Runs that take so long to read that the processes which draw are started before."""

Progress = Callable[[str, int, int], None]
"""Hears what is being done, how many parts of it are done, and of how many."""


def report(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    style: str = "default",
    *,
    band: str = "ci",
    bars: bool = False,
    test: str = "t",
    target: float | None = None,
    baseline: str | None = None,
    metric: str | None = None,
    citations: Citations | None = None,
    formats: Iterable[str] = ("png", "pdf"),
    names: str | Path | None = None,
    bold: str = "ties",
    progress: Progress | None = None,
) -> list[Path]:
    """Write every figure and table that the runs give, and ``report.html``.

    Figures go to ``figures/`` and, with captions and labels, into ``figures.tex``; tables to
    ``tables/`` as CSV, LaTeX (as they are printed, and the tabular alone) and Markdown; the methods
    paragraph to ``methods.tex`` and its references to ``references.bib``. Runs that did not come
    to their end are left out and named on the page, unless no run did; those that diverged are
    results, and counted.

    Args:
        paths: run folders, or folders of them.
        out: the folder to write to; files of an earlier report are replaced.
        style: the venue, see :data:`analysis.style.PAPERS`.
        band: the band over seeds, see :data:`analysis.summarise.BANDS`.
        bars: whether curves have error bars instead of bands.
        test: ``t`` (paired) or ``wilcoxon``.
        target: the accuracy of the rounds-to-target figure and table.
        baseline: the label that speed-ups are measured against.
        metric: the measure that strategies are compared by, see :meth:`analysis.Runs.by`.
        citations: BibTeX by label or strategy; by default what ``config.json`` says.
        formats: of the figures' files.
        names: a file of labels, order and colours, see :mod:`analysis.names`; without, that of
            the folders, ``figures.toml``.
        bold: what final tables print bold, see :data:`analysis.verdicts.BOLD`.
        progress: hears what is being done, how many parts of it are done, and of how many.

    Returns:
        The files written, the page first.

    Raises:
        ValueError: a path holds no runs, a run cannot be read, an option is out of its range, or
            ``out`` cannot be written. Nothing is written then, unless the disk is full.
    """
    tell = progress or (lambda what, done, of: None)
    check_options(style, band, test, bold)
    formats = checked_formats(formats)
    many = [paths] if isinstance(paths, str | Path) else list(paths)
    tell("reading runs", 0, 1)
    with parallel.started(pays=len(find_runs(*many)) >= MANY) as ready:
        runs = load(*many, names=names).counted.by(metric)
        check_target(target, runs.metric)
        check_wanted(runs.names)
        if baseline is not None:
            check_baseline(runs.table["label"], baseline)
        folder = Path(out)
        given = {"style": style, "band": band, "bars": "" if bars else None, "test": test,
                 "target": target, "baseline": baseline, "metric": metric, "names": names,
                 "bold": bold, "format": ",".join(formats) or None}  # fmt: skip
        for part in ("figures", "tables"):
            make_folder(folder / part)
        target = study_target(runs, target)
        remove_old(folder)
        contents: list[Contents] = []

        def meanwhile() -> None:
            tell("computing tables", 0, 1)
            tables = tables_of(runs, many, test, target, baseline, bold)
            made = composed(runs, many, given, test, target, baseline, band, citations)
            contents.append(replace(made, tables=tables))

        drawing = (runs, folder / "figures", style, band, bars, target, formats)
        with writing(folder):
            told = partial(tell, "drawing figures")
            pictures, files = draw_all(*drawing, told, meanwhile, ready)
            tables = contents[0].tables
            for table in tables:
                files += write_table(table, folder / "tables", style)
    tell("writing the page", 0, 1)
    first, *others = write_texts(replace(contents[0], pictures=pictures), folder)
    tell("writing the page", 1, 1)
    return [first, *files, *others]


def write_texts(contents: Contents, folder: Path) -> list[Path]:
    """Write the page and what articles include; return the files, the page first."""
    texts = {
        "report.html": page(contents),
        "figures.tex": "\n".join([FIGURES_HEAD, *(p.latex for p in contents.pictures)]),
        "methods.tex": contents.methods + "\n",
        "references.bib": "\n\n".join(contents.references) + "\n",
    }
    with writing(folder):
        return [write(folder / name, text) for name, text in texts.items()]


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an error of the disk (it is full, it is gone) into one that names the folder."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"out: {folder} cannot be written ({error.strerror or error})") from None


def plot(
    name: str,
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    style: str = "default",
    *,
    setting: str | None = None,
    band: str = "ci",
    bars: bool = False,
    target: float | None = None,
    metric: str | None = None,
    formats: Iterable[str] = ("png", "pdf"),
    names: str | Path | None = None,
) -> list[Path]:
    """Draw one figure of :data:`analysis.FIGURES` from run folders and write it.

    It shows the runs that :func:`report` counts, and says at its foot which it leaves out.

    Args:
        name: the figure.
        paths: run folders, or folders of them.
        out: the folder to write to.
        style: the venue, see :data:`analysis.style.PAPERS`.
        setting: draw this setting alone, one column wide, instead of a panel for each.
        band: the band over seeds.
        bars: whether curves have error bars instead of bands.
        target: the accuracy of ``rounds_to_target``.
        metric: the measure that strategies are compared by, see :meth:`analysis.Runs.by`.
        formats: ``png``, ``pdf``, ``svg``, ``eps``.
        names: a file of labels, order and colours, see :mod:`analysis.names`.

    Returns:
        The files written.

    Raises:
        ValueError: no such figure, style or setting, an option is out of its range, the runs do
            not hold what it shows, or ``out`` cannot be written.
    """
    check_options(style, band)
    formats = checked_formats(formats)
    many = [paths] if isinstance(paths, str | Path) else list(paths)
    runs = load(*many, names=names).counted.by(metric)
    check_target(target, runs.metric)
    # Of all runs: the same looks and the same target for every setting.
    table, target = runs.looks(), study_target(runs, target)
    chosen = runs if setting is None else runs.at(setting)
    canvas = draw(name, chosen, style, table=table, band=band, bars=bars, target=target)
    folder = make_folder(Path(out))
    stem = name if setting is None else slug(f"{name}-{setting}")
    with writing(folder):
        return save(canvas, folder / stem, formats, style)


def check_options(style: str, band: str, test: str = "t", bold: str = "ties") -> None:
    """Raise a ValueError that names the option which is out of its range."""
    paper(style)
    options = (("band", band, BANDS), ("test", test, TESTS), ("bold", bold, BOLD))
    for name, value, known in options:
        if value not in known:
            raise ValueError(f"{name}: must be one of {sorted(known)}, got {value!r}")


def study_target(runs: Runs, target: float | None) -> float | None:
    """Return the target of a whole study: the one that is given, or the automatic one."""
    if target is not None or not runs.rounds[runs.metric].notna().any():
        return target
    chosen = default_target(runs.rounds, runs.metric)
    return chosen if isfinite(chosen) else None


def checked_formats(formats: Iterable[str]) -> tuple[str, ...]:
    """Return the kinds of files; raise a ValueError for one that there is not."""
    kinds = tuple(formats)
    for kind in kinds:
        if kind not in FORMATS:
            raise ValueError(f"formats: must be of {sorted(FORMATS)}, got {kind!r}")
    return kinds


def check_target(target: float | None, metric: str) -> None:
    """Raise a ValueError for a target that the measure cannot reach."""
    if target is None:
        return
    if is_share(metric) and not 0 < target <= 1:
        raise ValueError(f"target: must be an accuracy in (0, 1], got {target!r}")
    if not isfinite(target):
        raise ValueError(f"target: must be finite, got {target!r}")


def check_wanted(names: Names) -> None:
    """Raise a ValueError for a figure or table that is asked for and that there is not."""
    for name in names.figures or ():
        if name not in FIGURES:
            raise ValueError(f"figures: must be of {sorted(FIGURES)}, got {name!r}")
    known = (*TABLES, *CLOCK_TABLES, tuned.NAME)
    for name in names.tables or ():
        if name not in known and not name.startswith(("final_", "significance_")):
            raise ValueError(f"tables: must be of {sorted(known)}, got {name!r}")


def tables_of(
    runs: Runs,
    paths: Sequence[str | Path],
    test: str,
    target: float | None,
    baseline: str | None,
    bold: str,
) -> list[Table]:
    """Return the tables of a report, those of tuning in ``paths`` included."""
    tables = all_tables(runs, test=test, target=target, baseline=baseline, bold=bold)
    tables[-2:-2] = clock_tables(runs, target, baseline, test)  # before what runs cost
    return wanted_tables(runs, [*tables, tuned.tuning(paths)])


def wanted_tables(runs: Runs, tables: Iterable[Table | None]) -> list[Table]:
    """Return the tables that there are and that the author wants."""
    return [t for t in tables if t is not None and runs.names.wants_table(t.name)]


def make_folder(folder: Path) -> Path:
    """Make a folder; raise a ValueError where none can be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"out: {folder} cannot be made a folder ({reason})") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"out: {folder} is not writable")
    return folder


def draw_all(
    runs: Runs,
    folder: Path,
    style: str = "default",
    band: str = "ci",
    bars: bool = False,
    target: float | None = None,
    formats: tuple[str, ...] = ("png", "pdf"),
    told: Callable[[int, int], None] = lambda done, of: None,
    meanwhile: Callable[[], object] = lambda: None,
    ready: Sequence[parallel.Helper] = (),
) -> tuple[list[Picture], list[Path]]:
    """Draw every figure that applies; return what the page shows and the files written."""
    wanted = runs.names.figures or FIGURES
    found = [name for name in wanted if FIGURES[name].applies(runs)]

    def first() -> None:
        meanwhile()
        told(0, len(found))

    drawn = parallel.each(
        draw_one, found, runs, folder, style, band, bars, target, formats,
        told=lambda done: told(done, len(found)), meanwhile=first, ready=ready,
    )  # fmt: skip
    return [picture for picture, _ in drawn], [path for _, files in drawn for path in files]


def draw_one(
    name: str,
    runs: Runs,
    folder: Path,
    style: str,
    band: str,
    bars: bool,
    target: float | None,
    formats: tuple[str, ...],
) -> tuple[Picture, list[Path]]:
    """Draw a figure; return what the page shows and the files written."""
    options: dict[str, Any] = {"table": runs.looks(), "band": band, "bars": bars, "target": target,
                               "memo": {}}  # fmt: skip

    def for_page(page: Paper) -> str:
        with TemporaryDirectory() as scratch:
            canvas = draw(name, runs, page, **options)
            return image(*save(canvas, Path(scratch) / name, ["svg"], page))

    mine, svg = paper(style), folder / f"{name}.svg"
    canvas = draw(name, runs, mine, **options)
    across = canvas.get_figwidth() > 1.2 * mine.column
    same = across and not mine.dark  # the page's images turn dark themselves
    files = save(canvas, folder / name, dict.fromkeys((*(["svg"] if same else []), *formats)), mine)
    wide = "" if not across else image(svg) if same else for_page(replace(mine, dark=False))
    if same and "svg" not in formats:
        files.remove(svg)
        svg.unlink()
    narrow = for_page(mine.narrow())
    names = [f"figures/{path.name}" for path in files]
    images = (wide, narrow) if across else (narrow, "")
    text = caption(name, runs, target)
    float_ = latex.figure(name, text, across, mine)
    return Picture(name, text, *images, names, float_), files


def image(path: Path) -> str:
    """Return a figure's SVG file as an image of the page."""
    return data_uri(path.read_text(encoding="utf-8"))


def remove_old(folder: Path) -> None:
    """Delete what an earlier report drew: a figure that no longer applies must not stay."""
    for name in FIGURES:
        for path in (folder / "figures").glob(f"{name}.*"):
            path.unlink()
    for name in (*TABLES, *CLOCK_TABLES, "final_*", "significance_*", tuned.NAME):
        for path in (folder / "tables").glob(f"{name}.*"):
            path.unlink()


def write_table(table: Table, folder: Path, style: str = "default") -> list[Path]:
    """Write a table as CSV, LaTeX (as it is printed, and the tabular alone) and Markdown."""
    contents = {
        "csv": table.csv(),
        "tex": latex.printed(table, paper(style)),
        "tabular.tex": latex.tabular(table) + "\n",
        "md": table.markdown(),
    }
    return [write(folder / f"{table.name}.{kind}", text) for kind, text in contents.items()]


def write(path: Path, text: str) -> Path:
    """Write a text file; return its path."""
    path.write_text(text, encoding="utf-8")
    return path
