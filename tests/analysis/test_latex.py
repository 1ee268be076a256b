"""Tables in LaTeX: escaped, aligned, grouped by setting, and no wider than where they stand."""

import re
from pathlib import Path

import pytest

from analysis import Table, load, report
from analysis.cells import Cell
from analysis.latex import (
    LONG,
    SIZES,
    floating,
    layout_of,
    long,
    printed,
    tabular,
    text_width,
    width,
)
from analysis.style import PAPERS, POINTS, Paper
from analysis.tables import all_tables
from analysis.text import from_latex, latex_escape, typeset

NASTY = r"a_b & 50% {x} $y$ #1 ~ ^ \ <i> |p|"
IEEE = PAPERS["ieee"]


@pytest.fixture(scope="module")
def tables(study: Path) -> dict[str, Table]:
    """All tables of a study with two settings."""
    return {table.name: table for table in all_tables(load(study))}


def made(*columns: list[str], name: str = "t", **options: object) -> Table:
    """A table of texts, with a name for each row."""
    rows = zip(*columns, strict=True)
    cells = tuple(
        (Cell(f"row {i}"), *(Cell(text.strip("*"), "*" in text) for text in row))
        for i, row in enumerate(rows)
    )
    header = ("Row", *(f"c{i}" for i in range(len(columns))))
    return Table(name, "About it.", header, cells, **options)  # type: ignore[arg-type]


def body(table: Table) -> list[str]:
    """The rows of a tabular."""
    inside = tabular(table).split(r"\midrule")[1].split(r"\bottomrule")[0]
    return [line.strip() for line in inside.strip().splitlines()]


def test_all_is_escaped_and_balanced() -> None:
    table = Table("t_1", f"About {NASTY}", ("Name", "±"), ((Cell(NASTY), Cell("1 ± 2", True)),))
    for text in (floating(table, IEEE), long(table, IEEE)):
        for left, right in (("{", "}"), (r"\begin", r"\end{")):
            plain = (
                re.sub(r"\\[{}]", "", text).replace(r"\endgroup", "").replace(r"\begingroup", "")
            )
            assert plain.count(left) == plain.count(right)
        assert r"\label{tab:t-1}" in text
        assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    (line,) = body(table)
    bare = re.sub(r"\\(text\w+\{\}|[&%$#_{}])", "", line)
    assert bare.count("&") == 1  # only the column separator is left
    assert not set("%#_~^<>|") & set(bare)
    assert line.endswith(r"\textbf{1 $\pm$ 2} \\")
    assert tabular(table).startswith(r"\begin{tabular}{@{}lr@{}}")


def test_options_are_the_symbols_of_papers() -> None:
    label = "FedProx(mu=0.1, learning_rate=3, momentum=0.9)"
    written = "FedProx(μ=0.1, η=3, momentum=0.9)"
    assert typeset(label) == typeset(written) == written
    assert typeset("we set mu=0.1 and (mu, tau)") == "we set mu=0.1 and (mu, tau)"
    assert latex_escape(label) == r"FedProx($\mu$=0.1, $\eta$=3, momentum=0.9)"
    assert from_latex(latex_escape(label)) == written
    table = Table("t", "", ("Strategy",), ((Cell(label),),))
    assert written in table.html() and written in table.markdown()
    assert latex_escape(label) in tabular(table)


def test_numbers_are_padded_until_decimals_align() -> None:
    lines = body(made(["84.7 ± 0.3", "*9.12 ± 10.4*", "84.7 ± 0.3 †", "3/5 diverged"]))
    cells = [line.removesuffix(r" \\").partition(" & ")[2] for line in lines]
    assert cells == [
        r"84.7\phantom{0} $\pm$ \phantom{0}0.3",
        r"\textbf{9.12 $\pm$ 10.4}",
        r"84.7\phantom{0} $\pm$ \phantom{0}0.3\rlap{$^\dagger$}",
        "3/5 diverged",
    ]
    rates = [r.partition(" & ")[2] for r in body(made(["0.1", "0.03", "1", "12,345"]))]
    assert rates == [
        r"0.1\phantom{0} \\", r"0.03 \\", r"1\phantom{.00} \\", r"12,345\phantom{.00} \\",
    ]  # fmt: skip


def test_signs_are_real_and_have_their_room() -> None:
    lines = body(made(["-6.22 [-10.29, -2.16]", "+0.50 [-0.10, 1.10]"]))
    cells = [line.removesuffix(r" \\").partition(" & ")[2] for line in lines]
    assert cells == [
        r"$-$6.22 [$-$10.29, $-$2.16]",
        r"$+$0.50 [\phantom{0}$-$0.10, \phantom{$-$}1.10]",
    ]


def test_settings_are_titles_of_their_rows(tables: dict[str, Table]) -> None:
    lines = body(tables["cost"])
    titles = [line for line in lines if "multicolumn" in line]
    head = r"\multicolumn{8}{@{}l@{}}{\emph{$\alpha$ = "
    assert titles == [rf"{head}{alpha}}}}} \\" for alpha in ("0.1", "1")]
    assert lines.count(r"\addlinespace") == 1
    assert "Setting" not in tabular(tables["cost"])
    assert len(lines) == 10 + 3


@pytest.mark.parametrize("style", list(PAPERS))
def test_every_table_fits_where_it_stands(tables: dict[str, Table], style: str) -> None:
    paper = PAPERS[style]
    for table in tables.values():
        how = layout_of(table, paper)
        room = paper.column_points
        if how.environment == "table*" or paper.columns == 1:
            room = paper.page_points
        size = dict(SIZES)[how.size]
        assert width(table, size, how.space) <= 0.97 * room, table.name
        assert not how.squeezed
        assert rf"\begin{{{how.environment}}}[t]" in floating(table, paper)


def test_a_width_is_the_widest_of_each_column() -> None:
    table = made(["84.7 ± 0.3 †", "9"], ["x", "a longer text"])
    columns = ("row 0", "84.7 ± 0.3", "a longer text")
    inner = sum(text_width(text, 9.0) for text in columns) + 2 * 2 * 6.0
    assert width(table, 9.0, 6.0) == pytest.approx(inner)
    assert text_width("mmmm", 10.0) == pytest.approx(4 * 7.78, rel=0.05)  # an m of Times


def test_what_cannot_fit_is_scaled(tmp_path: Path) -> None:
    wide = made(*[["a rather long text in every cell"]] * 12)
    assert layout_of(wide, IEEE).squeezed
    text = floating(wide, IEEE)
    assert r"\begin{table*}[t]" in text
    assert text.index(r"\resizebox{\linewidth}{!}{%") < text.index(r"\begin{tabular}")


def test_long_tables_go_over_pages() -> None:
    short, many = made(["1"] * LONG), made(["1"] * (LONG + 1))
    assert r"\begin{table}" in printed(short, IEEE)
    text = printed(many, IEEE)
    assert r"\usepackage{longtable}" in text and r"\begin{longtable}{@{}lr@{}}" in text
    assert r"\begin{table" not in text
    assert text.count("Row & c0") == 2  # on the first page and on the others
    assert text.index(r"\endfirsthead") < text.index(r"\endhead") < text.index(r"\endlastfoot")


def test_widths_are_the_venues_own_to_the_point() -> None:
    assert IEEE.column_points == pytest.approx(252)
    assert IEEE.page_points == PAPERS["ieee-wide"].column_points == pytest.approx(516)
    assert PAPERS["icml"].page_points == pytest.approx(6.75 * POINTS)
    assert PAPERS["neurips"].column_points == pytest.approx(5.5 * POINTS)  # one column of text
    assert Paper(3, 6, 8, ("DejaVu Sans",)).columns == 2


@pytest.mark.parametrize(("several", "points"), [(False, 252), (True, 516)])
def test_figures_are_as_wide_as_their_float(
    several: bool, points: float, study: Path, single: Path, tmp_path: Path
) -> None:
    names = tmp_path / "figures.toml"
    names.write_text('figures = ["accuracy"]')
    folder = study if several else single
    files = report(folder, tmp_path / "out", "ieee", formats=("pdf",), names=names)
    made = {path.relative_to(tmp_path / "out").as_posix(): path for path in files}
    for table in [name for name in made if name.endswith(".tabular.tex")]:
        assert made[table].read_text().startswith(r"\begin{tabular}")
        assert table.replace(".tabular", "") in made
    text = made["figures.tex"].read_text()
    assert rf"\begin{{figure{'*' * several}}}[t]" in text
    assert r"\includegraphics{figures/accuracy}" in text and r"\label{fig:accuracy}" in text
    assert r"\caption{Test accuracy of the global model after each round.}" in text
    found = re.search(rb"/MediaBox \[ *0 0 ([\d.]+)", made["figures/accuracy.pdf"].read_bytes())
    assert found is not None
    assert float(found[1]) / 72 * POINTS == pytest.approx(points, abs=0.05)
