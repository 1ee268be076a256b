from pathlib import Path

import pandas as pd
import pytest

from analysis import load, report
from analysis.tables import final_table
from analysis.text import ALPHA


@pytest.fixture(scope="module")
def made(study: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return report(study, tmp_path_factory.mktemp("report"))


def test_every_file_is_there_and_named(made: list[Path]) -> None:
    assert made[0].name == "report.html"
    assert all(path.stat().st_size > 0 for path in made)
    kinds = pd.Series([p.suffix for p in made]).value_counts()
    assert kinds[".png"] == kinds[".pdf"] >= 10
    assert kinds[".csv"] == kinds[".tex"] == kinds[".md"] >= 1


def test_the_table_is_recomputed_from_the_files(study: Path) -> None:
    rows = []
    for folder in study.iterdir():
        frame = pd.read_json(folder / "rounds.jsonl", lines=True)
        name = folder.name.rsplit("-s", 1)[0]
        rows.append((name, frame["server_accuracy"].iloc[-1]))
    plain = pd.DataFrame(rows, columns=["name", "value"]).groupby("name")["value"]
    table = final_table(load(study))
    cells = {row[0].text: [c.text for c in row[1:]] for row in table.rows}
    for label, file in (("FedAvg", "FedAvg"), ("local-only", "local")):
        for column, alpha in enumerate((0.1, 1.0)):
            x = plain.get_group(f"{file}-a{alpha}")
            text = f"{100 * x.mean():.1f} ± {100 * x.std(ddof=1):.1f}"
            assert cells[label][column] == text
    bold = [row[0].text for row in table.rows for c in row if c.bold]
    assert bold == ["FedAdam", "FedAdam"]
    runs = table.data.set_index(["setting", "label"])["runs"]
    expected = " ".join(f"FedAvg-a0.1-s{s}" for s in range(3))
    assert runs[(f"{ALPHA} = 0.1", "FedAvg")] == expected


def test_the_page_escapes_names(tmp_path, make_run) -> None:
    make_run(tmp_path / "run", "<script>alert(1)</script>&", rounds=2)
    files = report(tmp_path / "run", tmp_path / "out")
    text = files[0].read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in text
