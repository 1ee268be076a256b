"""The choice of learning rates on the page, from the file that `sunflower tune` writes."""

import shutil
from pathlib import Path

import pytest
import tomli_w

from analysis import report
from analysis.tuned import FILE, NAME, tuning

CHOICE = {
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


@pytest.mark.parametrize("text", ["chosen = 3", "measured = 'x'", "[[chosen]]", "= nothing"])
def test_a_file_that_is_no_choice_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match=f"{FILE}: must be a choice of 'sunflower tune'"):
        tuning([tmp_path])


def test_the_page_shows_it_and_forgets_it(single: Path, tmp_path: Path) -> None:
    study, out = tmp_path / "study", tmp_path / "out"
    shutil.copytree(single, study)
    (study / FILE).write_text(tomli_w.dumps(CHOICE))
    page = report(study, out, formats=())[0].read_text()
    assert "fedadam(beta_1=0.9, tau=0.01)" in page
    assert (out / f"tables/{NAME}.csv").exists()
    (study / FILE).unlink()
    assert "Learning rates and options chosen" not in report(study, out, formats=())[0].read_text()
    assert not (out / f"tables/{NAME}.csv").exists()
