"""``sunflower report`` and ``sunflower plot``: what their options do, and what they refuse."""

import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner, Result

from analysis.report import report
from analysis.style import PAPERS
from simulation.cli import commands, endings


def sunflower(*args: str | Path) -> Result:
    return CliRunner().invoke(commands.main, [str(arg) for arg in args])


@pytest.fixture(autouse=True)
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the loggers of this process as they are."""
    monkeypatch.setattr(endings, "quiet", lambda: None)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, write) -> Path:
    """Two strategies, three seeds, three rounds."""
    root = tmp_path_factory.mktemp("pair")
    for seed in range(3):
        for label in ("FedAvg", "FedAdam"):
            write(root / f"{label}{seed}", label, seed=seed, rounds=3)
    return root


REFUSED = [
    (["--format", "png,gif"], "formats: must be of ['eps', 'pdf', 'png', 'svg'], got 'gif'"),
    (["--style", "poster"], f"style: must be one of {sorted(PAPERS)}, got 'poster'"),
    (["--band", "box"], "band: must be one of ['ci', 'minmax', 'sd', 'se'], got 'box'"),
    (["--target", "80"], "target: must be an accuracy in (0, 1], got 80.0"),
    (["--target", "0"], "target: must be an accuracy in (0, 1], got 0.0"),
    (["--target", "nan"], "target: must be an accuracy in (0, 1], got nan"),
    (["--target", "high"], "Invalid value for '--target': 'high' is not a valid float."),
]


@pytest.mark.parametrize(("args", "line"), REFUSED)
@pytest.mark.parametrize("command", [["report"], ["plot", "accuracy"]], ids=" ".join)
def test_what_both_refuse(
    command: list[str], args: list[str], line: str, pair: Path, tmp_path: Path
) -> None:
    result = sunflower(*command, pair, "--out", tmp_path / "out", *args)
    assert result.stderr.splitlines() == [f"sunflower: {line}"]
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--bold", "all"], "bold: must be one of ['best', 'ties'], got 'all'"),
        (["--test", "z"], "test: must be one of ['t', 'wilcoxon'], got 'z'"),
        (["--baseline", "Fed"], "baseline: must be one of ['FedAdam', 'FedAvg'], got 'Fed'"),
    ],
)
def test_what_a_report_refuses(args: list[str], line: str, pair: Path, tmp_path: Path) -> None:
    result = sunflower("report", pair, "--out", tmp_path / "out", *args)
    assert (result.exit_code, result.stderr) == (2, f"sunflower: {line}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [["report"], ["plot", "accuracy"]], ids=" ".join)
def test_an_out_that_is_no_folder(command: list[str], pair: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = sunflower(*command, pair, "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert re.fullmatch(
        r"sunflower: out: .*/file\S* cannot be made a folder \(.+\)\n", result.stderr
    )
    assert (tmp_path / "file").read_text() == "mine"


def test_the_options_arrive(pair: Path, tmp_path: Path) -> None:
    args = ["--band", "minmax", "--target", "0.3", "--test", "wilcoxon", "--baseline", "FedAdam"]
    result = sunflower("report", pair, "--out", tmp_path, *args)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == str(tmp_path / "report.html")
    targets = pd.read_csv(tmp_path / "tables/rounds_to_target.csv")
    assert set(targets["target"]) == {0.3}
    row = targets.set_index("label")["median"]
    speed = targets.set_index("label")["speedup"]
    assert speed["FedAvg"] == pytest.approx(row["FedAdam"] / row["FedAvg"])
    tested = pd.read_csv(tmp_path / "tables/significance_server_accuracy.csv")
    ends = {
        label: [
            pd.read_json(pair / f"{label}{s}/rounds.jsonl", lines=True)["server_accuracy"].iloc[-1]
            for s in range(3)
        ]
        for label in ("FedAvg", "FedAdam")
    }
    assert tested["p"].tolist() == [stats.wilcoxon(ends["FedAvg"], ends["FedAdam"]).pvalue]
    page = (tmp_path / "report.html").read_text()
    given = "--band minmax --test wilcoxon --target 0.3 --baseline FedAdam"
    assert f"sunflower report {pair} {given}" in page
    assert f"sunflower plot accuracy {pair} --band minmax --target 0.3\n" in page


def test_a_figure_says_its_band(pair: Path, tmp_path: Path, monkeypatch) -> None:
    module = sys.modules["analysis.report"]
    monkeypatch.setattr(module, "save", lambda figure, *_: seen.append(figure) or [])
    said = {"ci": "95% CI", "se": "standard error", "minmax": "range"}
    for band, text in said.items():
        seen: list = []
        result = sunflower("plot", "accuracy", pair, "--out", tmp_path, "--band", band)
        assert (result.exit_code, result.stderr) == (0, "")
        (figure,) = seen
        legend = figure.axes[0].get_legend()
        assert legend.get_title().get_text() == f"mean and {text} over 3 seeds"
        plt.close(figure)


def test_figures_in_the_formats_that_are_asked_for(
    pair: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    result = sunflower("plot", "accuracy", pair, "--out", out, "--format", "svg, eps,png")
    assert result.exit_code == 0
    assert sorted(p.name for p in out.iterdir()) == ["accuracy.eps", "accuracy.png", "accuracy.svg"]
    assert "transparen" not in caplog.text  # EPS knows none: bands are mixed with white
    plain = sunflower("plot", "accuracy", pair, "--out", tmp_path / "plain", "--format", "png")
    assert plain.exit_code == 0  # and in the files after it they are what they were
    assert (out / "accuracy.png").read_bytes() == (tmp_path / "plain/accuracy.png").read_bytes()


def test_a_full_disk_is_one_line(pair: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    (tmp_path / "names.toml").write_text('figures = ["traffic"]\ntables = []\n')
    (tmp_path / "out").mkdir()
    (tmp_path / "out/methods.tex").symlink_to("/dev/full")
    args = ["--names", tmp_path / "names.toml", "--format", "svg"]
    result = sunflower("report", pair, "--out", tmp_path / "out", *args)
    line = f"sunflower: out: {tmp_path / 'out'} cannot be written (No space left on device)\n"
    assert (result.exit_code, result.stderr) == (2, line)


def test_a_terminal_sees_what_is_being_done(pair: Path, tmp_path: Path) -> None:
    (tmp_path / "names.toml").write_text('figures = ["traffic", "comparison"]\ntables = []\n')
    heard: list[tuple[str, int, int]] = []
    report(
        pair, tmp_path / "out", names=tmp_path / "names.toml", formats=(),
        progress=lambda *told: heard.append(told),
    )  # fmt: skip
    assert [what for what, _, _ in heard][:2] == ["reading runs", "computing tables"]
    assert heard[2:] == [
        *(("drawing figures", done, 2) for done in range(3)),
        *(("writing the page", done, 1) for done in range(2)),
    ]
