"""The example articles: written from any study, and compiled where there is a TeX system."""

from collections.abc import Callable
from pathlib import Path

import pytest

from examples.paper import build
from tests.analysis.clocked import SCHEDULES, write_clocked
from tests.analysis.conftest import write_run, write_study

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


def of_settings(root: Path) -> None:
    """Write strategies and baselines in two settings, a strategy with options among them."""
    labels = ("FedAvg", "FedProx(mu=0.1)", "FedAdam", "SCAFFOLD", "FedNova")
    write_study(root, labels=labels, alphas=(0.1, 1.0), seeds=5)


def of_schedules(root: Path) -> None:
    """Write runs on a virtual clock."""
    for seed in range(3):
        for kind in SCHEDULES:
            write_clocked(write_run, root / f"{kind}-s{seed}", kind, seed=seed)


def of_attacks(root: Path) -> None:
    """Write strategies under attacks, one of whose runs diverged."""
    for seed in range(3):
        for label in ("FedAvg", "Krum", "Median", "TrimmedMean"):
            for kind in (None, "sign-flip", "noise", "alie", "ipm", "min-max"):
                lost = (label, kind, seed) == ("FedAvg", "ipm", 1)
                write_run(
                    root / f"{label}-{kind}-s{seed}", label, seed=seed,
                    experiment={"attack": {"kind": kind, "fraction": 0.2}},
                    status="diverged" if lost else "complete",
                )  # fmt: skip


@pytest.mark.soak
@pytest.mark.parametrize("write", [of_settings, of_schedules, of_attacks])
def test_every_figure_and_table_fits_its_page(
    write: Callable[[Path], None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if build.compiler() is None:
        pytest.skip("no latexmk or tectonic here")
    write(tmp_path / "study")
    assert build.main([tmp_path / "study"], tmp_path / "build") == 0
    capfd.readouterr()
    for name in build.ARTICLES:
        log = (tmp_path / "build" / name / f"{name}.log").read_text(errors="replace")
        assert "undefined" not in log and "multiply defined" not in log
        assert "Missing character" not in log
