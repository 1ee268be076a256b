"""The example articles: written from any study, and compiled where there is a TeX system."""

from collections.abc import Callable
from pathlib import Path

import pytest

from examples.paper import build
from tests.analysis.conftest import write_study
from tests.analysis.kinds import NAMES, write_kinds

WANTED = 'figures = ["accuracy"]\ntables = ["final_server_accuracy", "runs"]\n'


@pytest.fixture
def study(tmp_path: Path, make_study: Callable[..., Path]) -> Path:
    """A study with more runs than a page of a table holds."""
    make_study(tmp_path / "study", seeds=9, rounds=1, per_client=False)
    (tmp_path / "study/figures.toml").write_text(WANTED)
    return tmp_path / "study"


def test_articles_are_written_and_compiled(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "build"
    assert build.main([study], out) == 0
    said = capsys.readouterr().out
    for name in build.ARTICLES:
        folder = out / name
        inputs = (folder / "tables.tex").read_text().split()
        assert inputs == [r"\input{tables/final_server_accuracy}"]
        assert (folder / "appendix.tex").read_text().split() == [r"\input{tables/runs}"]
        source = (folder / f"{name}.tex").read_text()
        for file in ("methods", "tables", "figures", "appendix"):
            assert rf"\input{{{file}}}" in source and (folder / f"{file}.tex").exists()
        if build.compiler() is not None:
            assert (folder / f"{name}.pdf").exists()
    if build.compiler() is None:
        assert said == f"examples/paper: no latexmk or tectonic here; the sources are in {out}\n"


def test_boxes_that_are_too_wide_are_seen() -> None:
    log = r"""Overfull \hbox (0.4pt too wide) in paragraph
Overfull \hbox (12.5pt too wide) detected at line 3
Underfull \hbox (badness 10000)"""
    assert build.overfull(log) == [12.5]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, write: Callable[..., Path]) -> Path:
    """Studies to which every figure and table applies, and one in two settings."""
    root = tmp_path_factory.mktemp("studies")
    labels = ("FedAvg", "FedProx(mu=0.1)", "FedAdam", "SCAFFOLD", "FedNova")
    write_study(root / "settings", labels=labels, alphas=(0.1, 1.0), seeds=5)
    write_kinds(root, write)
    write(root / "defences/lost", "FedAvg", seed=1, rounds=2, status="diverged",
          experiment={"attack": {"kind": "alie", "fraction": 0.2}})  # fmt: skip
    return root


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["settings", *NAMES])
def test_every_figure_and_table_fits_its_page(
    studies: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if build.compiler() is None:
        pytest.skip("no latexmk or tectonic here")
    assert build.main([studies / name], tmp_path) == 0
    capfd.readouterr()
    for article in build.ARTICLES:
        log = (tmp_path / article / f"{article}.log").read_text(errors="replace")
        assert "undefined" not in log and "multiply defined" not in log
        assert "Missing character" not in log
