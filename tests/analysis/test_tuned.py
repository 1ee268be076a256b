"""The choice of learning rates on the page, from the file that `sunflower tune` writes."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from analysis import load, report
from analysis.tuned import FILE, NAME, choices_of, sentences, tuning, warnings

CHOICE: dict[str, Any] = {
    "study": "0" * 64,
    "measured": "mean accuracy on clients' validation data",
    "chosen": [
        {"strategy": "fedavg", "learning_rate": 0.1, "score": 0.75, "grid": [{}, {}]},
        {
            "strategy": {"name": "fedadam", "beta_1": 0.9},
            "options": {"tau": 0.01},
            "learning_rate": 0.03,
            "server_learning_rate": 0.01,
            "score": 0.8125,
            "grid": [{}, {}, {}, {}],
        },
    ],
}


def test_the_choice_becomes_a_table(tmp_path: Path) -> None:
    assert tuning([tmp_path]) is None
    (tmp_path / FILE).write_text(tomli_w.dumps(CHOICE))
    table = tuning([tmp_path / "elsewhere", tmp_path])
    assert table is not None
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["fedavg", "0.1", "", "0.75", "2"],
        ["fedadam(beta_1=0.9, tau=0.01)", "0.03", "0.01", "0.8125", "4"],
    ]
    assert CHOICE["measured"] in table.caption
    assert table.data["score"].tolist() == [0.75, 0.8125]


def edged() -> dict[str, Any]:
    """A choice at the edges of its grid, and one within; the file says which."""
    data = copy.deepcopy(CHOICE)
    for entry, edges in zip(data["chosen"], ([], ["learning_rate", "tau"]), strict=True):
        entry |= {"edges": edges, "seeds": [7], "rounds": 20}
    return data


def test_the_edge_of_a_grid_is_told_in_the_table_and_before_it(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(tomli_w.dumps(edged()))
    table = tuning([tmp_path])
    assert table is not None
    assert table.header[-1] == "Edge"
    assert [row[-1].text for row in table.rows] == ["", "learning rate, tau"]
    chosen, _ = choices_of([tmp_path])
    (warning,) = warnings(chosen)
    assert warning == (
        "At the edge of its grid when tuned: fedadam(beta_1=0.9, tau=0.01): learning rate, tau. "
        "A wider grid may hold a better value, and a comparison be unfair to such a strategy."
    )
    assert warnings(choices_of([tmp_path / "elsewhere"])[0]) == []


def test_a_label_is_no_option(tmp_path: Path, make_run) -> None:
    data = copy.deepcopy(CHOICE)
    data["chosen"][1]["strategy"]["label"] = "Ours"
    (tmp_path / FILE).write_text(tomli_w.dumps(data))
    table = tuning([tmp_path])
    assert table is not None and table.rows[1][0].text == "Ours(beta_1=0.9, tau=0.01)"
    adam = {"name": "fedadam", "beta_1": 0.9, "tau": 0.01, "learning_rate": 0.01}
    experiment = {"name": "Ours", "strategy": adam, "training": {"learning_rate": 0.03}}
    runs = load(make_run(tmp_path / "run", "Ours", rounds=1, experiment=experiment))
    assert "(in brackets: how many): Ours (4)." in sentences(*choices_of([tmp_path]), runs)[0]


def test_methods_tell_how_rates_were_chosen(tmp_path: Path, make_run) -> None:
    (tmp_path / FILE).write_text(tomli_w.dumps(edged()))
    adam = {"name": "fedadam", "beta_1": 0.9, "tau": 0.01, "learning_rate": 0.01}
    for label, strategy, rate in (
        ("FedAvg", "fedavg", 0.1), ("FedAdam", adam, 0.03), ("SCAFFOLD", "scaffold", 0.1),
    ):  # fmt: skip
        experiment = {"strategy": strategy, "training": {"learning_rate": rate}}
        make_run(tmp_path / label, label, rounds=1, experiment=experiment)
    text = " ".join(sentences(*choices_of([tmp_path]), load(tmp_path)))
    assert text == (
        "Learning rates of clients and servers and the strategies' options were chosen beforehand "
        "for each strategy, by the best score of all combinations of a grid with the seed 7 (in "
        "brackets: how many): FedAvg (2) and FedAdam (4). The score is mean accuracy on clients' "
        "validation data; the test set had no part in it. SCAFFOLD was not tuned. At the edge of "
        "its grid is what was chosen for FedAdam (learning rate, tau)."
    )
    (tmp_path / "figures.toml").write_text('figures = ["accuracy"]')  # the others take their time
    page = report(tmp_path, tmp_path / "out", formats=())[0].read_text()
    assert "SCAFFOLD was not tuned." in page and "At the edge of its grid when tuned:" in page
    other = {"strategy": "fedavg", "training": {"learning_rate": 0.5}}
    alone = make_run(tmp_path / "other/run", "FedAvg", rounds=1, experiment=other)
    assert sentences(*choices_of([tmp_path]), load(alone)) == []  # with another rate than chosen


@pytest.mark.parametrize("text", ["chosen = 3", "measured = 'x'", "[[chosen]]", "= nothing"])
def test_a_file_that_is_no_choice_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=f"{FILE}: must be a choice of 'sunflower tune'"):
        tuning([tmp_path])


def test_the_page_shows_it_and_forgets_it(single: Path, tmp_path: Path) -> None:
    study, out = tmp_path / "study", tmp_path / "out"
    shutil.copytree(single, study)
    (study / FILE).write_text(tomli_w.dumps(CHOICE))
    (study / "figures.toml").write_text('figures = ["accuracy"]')
    page = report(study, out, formats=())[0].read_text()
    assert "fedadam(beta_1=0.9, tau=0.01)" in page
    assert (out / f"tables/{NAME}.csv").exists()
    (study / FILE).unlink()
    assert "Learning rates and options chosen" not in report(study, out, formats=())[0].read_text()
    assert not (out / f"tables/{NAME}.csv").exists()
