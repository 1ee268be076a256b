"""Labels, order and colours of an author's choice, in figures, tables, methods and page alike."""

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import tomli_w

from analysis import Runs, draw, load, looks, report
from analysis.appearance import CENTRALISED
from analysis.cautions import cautions
from analysis.methods import methods
from analysis.names import FILE, find_names, parse_names, read_names
from analysis.tables import all_tables, targets_table
from analysis.text import ALPHA, TO
from analysis.verdicts import findings

mpl.use("agg")

CHOSEN: dict[str, Any] = {
    "strategies": [
        {"name": "fedprox", "label": "Ours", "colour": "#123456"},
        {"name": "FedAvg", "label": "McMahan et al."},
        {"name": "centralised", "label": "Pooled data"},
    ],
    "classes": ["a", "b", "c"],
    "settings": {"alpha = 0.1": "Skewed"},
    "datasets": {"fashion-mnist-mini": "Clothes"},
}
ORDER = ["Ours", "McMahan et al.", "Pooled data", "FedAdam", "local-only"]


@pytest.fixture(scope="module")
def named(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The study with the names of an author."""
    file = tmp_path_factory.mktemp("names") / "mine.toml"
    file.write_text(tomli_w.dumps(CHOSEN))
    return load(study, names=file)


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_strategies_have_the_authors_labels_order_and_colours(named: Runs, study: Path) -> None:
    assert named.order() == ORDER
    usual = looks(load(study).table["label"])
    mine = named.looks()
    assert list(mine) == ORDER
    assert mine["Ours"].colour == "#123456"
    assert mine["Ours"].dash == usual["FedProx(mu=0.1)"].dash
    assert mine["Pooled data"] == CENTRALISED and mine["FedAdam"] == usual["FedAdam"]


def test_figures_have_them(named: Runs) -> None:
    canvas = draw("accuracy", named)
    (legend,) = canvas.legends
    assert [text.get_text() for text in legend.get_texts()] == ORDER
    assert [ax.get_title() for ax in canvas.axes] == ["Skewed", f"{ALPHA} = 1"]
    ours = next(line for line in canvas.axes[0].lines if line.get_label() == "Ours")
    assert ours.get_color() == "#123456"
    bars = draw("comparison", named)
    assert [text.get_text() for text in bars.axes[0].get_yticklabels()] == ORDER
    dashed = [line for line in bars.axes[0].lines if list(line.get_ydata()) == [0, 1]]
    assert [line.get_color() for line in dashed] == [CENTRALISED.colour]
    classes = draw("labels", named).axes[0].get_yticklabels()
    assert [text.get_text() for text in classes] == ["a", "b", "c", *"3456789"]


def test_tables_methods_and_findings_have_them(named: Runs) -> None:
    tables = {table.name: table for table in all_tables(named)}
    final = tables["final_server_accuracy"]
    assert [row[0].text for row in final.rows] == ORDER
    assert any("Skewed" in name for name in final.header)
    assert "speed-up of the median over McMahan et al. " in targets_table(named, 0.5).caption
    text, _ = methods(named)
    assert "We compare Ours, McMahan et al. and FedAdam." in text
    assert r"The dataset Clothes~\cite{xiao2017fashion}" in text
    assert [text.partition(":")[0] for text in findings(named)] == ["Skewed", f"{ALPHA} = 1"]
    assert "centralised training reaches" in findings(named)[0]


def test_a_report_takes_the_file_of_the_study(single: Path, tmp_path: Path) -> None:
    root = tmp_path / "study"
    root.symlink_to(single, target_is_directory=True)
    wanted = {"figures": ["comparison", "accuracy"], "tables": ["cost"]}
    own = tmp_path / "own"
    own.mkdir()
    (own / FILE).write_text(tomli_w.dumps({**CHOSEN, **wanted}))
    assert find_names([own]) == read_names(own / FILE)
    out = tmp_path / "out"
    files = report(root, out, formats=("svg",), names=own / FILE)
    made = [path.relative_to(out).as_posix() for path in files]
    assert made[1:] == [
        "figures/comparison.svg", "figures/accuracy.svg",
        "tables/cost.csv", "tables/cost.tex", "tables/cost.tabular.tex", "tables/cost.md",
        "figures.tex", "methods.tex", "references.bib",
    ]  # fmt: skip
    page = files[0].read_text()
    assert "Ours" in page and "FedProx" not in page.partition('id="settings"')[0]
    assert f"--names {own / FILE}" in page


REPORTED: list[dict[str, Any]] = [
    {"label": "FedAvg", "source": "McMahan (2017), Table 2", "value": 0.874, "setting": "Skewed"},
    {"label": "Ditto", "source": "Li (2021)", "value": 0.9, "std": 0.012, "setting": "alpha = 1"},
    {"label": "FedAvg", "source": "McMahan (2017), Table 3", "value": 0.5, "metric": "server_loss"},
]


def test_results_of_other_papers_are_rows_with_their_source(study: Path) -> None:
    names = parse_names({**CHOSEN, "reported": REPORTED})
    runs = load(study, names=names)
    table = next(t for t in all_tables(runs) if t.name == "final_server_accuracy")
    rows = [[cell.text for cell in row] for row in table.rows[-2:]]
    assert rows == [["FedAvg ‡", "87.4", TO, TO], ["Ditto ‡", TO, "90.0 ± 1.2", TO]]
    assert not any(cell.bold for row in table.rows[-2:] for cell in row)
    assert table.caption.endswith(
        "‡ As reported, not run here: FedAvg: McMahan (2017), Table 2; Ditto: Li (2021)."
    )
    theirs = table.data[table.data["mode"] == "reported"]
    assert theirs["mean"].tolist() == [0.874, 0.9]
    assert theirs["runs"].tolist() == ["McMahan (2017), Table 2", "Li (2021)"]
    (warning,) = [text for text in cautions(runs) if text.startswith("Reported")]
    assert "FedAvg ('')" in warning  # the loss is of no setting


def test_without_a_file_nothing_is_renamed(study: Path) -> None:
    runs = load(study)
    assert runs.names.strategies == () and runs.class_names is not None
    assert runs.class_names[0] == "T-shirt"  # Fashion-MNIST's own
    assert runs.title("FedAdam") == "FedAdam"


def test_a_name_that_no_run_has_is_told(study: Path) -> None:
    names = parse_names({"strategies": [{"name": "FedNova"}, {"name": "FedAdam"}]})
    runs = load(study, names=names)
    assert runs.order()[0] == "FedAdam"
    assert any(
        "of no run: FedNova. The strategies are FedAdam, FedAvg" in x for x in cautions(runs)
    )


def test_a_family_is_meant_where_it_has_one_strategy() -> None:
    names = parse_names({"strategies": [{"name": "fedprox", "label": "P"}]})
    one = names.fitted(["FedAvg", "FedProx(mu=0.1)"])
    assert one.label("FedProx(mu=0.1)") == "P" and one.unknown == ()
    two = names.fitted(["FedProx(mu=1)", "FedProx(mu=0.1)"])
    assert two.label("FedProx(mu=1)") == "FedProx(mu=1)" and two.unknown == ("fedprox",)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"labels": {}}, "labels: must be one of ['classes', 'datasets', 'figures', 'reported', "
                         "'settings', 'strategies', 'tables']"),
        ({"reported": [{"label": "a", "value": 0.5}]}, "reported.0: must have a source"),
        ({"reported": [{**REPORTED[0], "value": 87.4}]},
         "reported.0.value: must be in [0, 1], got 87.4"),
        ({"reported": [{**REPORTED[0], "value": "x"}]},
         "reported.0.value: must be a finite number, got 'x'"),
        ({"reported": [{**REPORTED[0], "year": "2017"}]},
         "reported.0.year: must be one of "
         "['label', 'source', 'value', 'std', 'metric', 'setting']"),
        ({"strategies": ["fedavg"]},
         "strategies.0: must be a table with a name, got 'fedavg'"),
        ({"strategies": [{"name": "a", "color": "red"}]},
         "strategies.0.color: must be one of ['name', 'label', 'colour']"),
        ({"strategies": [{"name": "a", "colour": "rainbow"}]},
         "strategies.0.colour: must be a colour, as '#D55E00' or 'black', got 'rainbow'"),
        ({"strategies": [{"name": "a", "label": 3}]},
         "strategies.0.label: must be some text, got 3"),
        ({"strategies": [{"name": "a"}, {"name": "a"}]},
         "strategies: name: must name nothing twice, got 'a'"),
        ({"settings": {"x": "A", "y": "A"}}, "settings: must name nothing twice, got 'A'"),
        ({"classes": "abc"}, "classes: must be a list of texts, got 'abc'"),
        ({"datasets": ["a"]}, "datasets: must be a table of texts, got ['a']"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_told(data: dict[str, Any], text: str, tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text(tomli_w.dumps(data))
    with pytest.raises(ValueError, match=f"^{re.escape(f'{file}: {text}')}$"):
        read_names(file)


def test_labels_that_fall_together_are_refused(study: Path, tmp_path: Path) -> None:
    same = parse_names({"strategies": [{"name": "FedAdam", "label": "FedAvg"}]})
    with pytest.raises(ValueError, match=r"^strategies: label must be of one strategy alone, got"):
        load(study, names=same)
    title = parse_names({"settings": {"alpha = 0.1": f"{ALPHA} = 1"}})
    with pytest.raises(ValueError, match=r"^settings: a title must be of one setting alone, got"):
        load(study, names=title)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('figures = ["pie"]')
    with pytest.raises(ValueError, match=r"^figures: must be of \[.*\], got 'pie'$"):
        report(study, tmp_path / "out", names=wrong)
    wrong.write_text('tables = ["pie"]')
    with pytest.raises(ValueError, match=r"^tables: must be of \[.*\], got 'pie'$"):
        report(study, tmp_path / "out", names=wrong)
