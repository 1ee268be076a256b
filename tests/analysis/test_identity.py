"""One strategy is one label and one colour, however its options were written."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from analysis import load, looks
from analysis.drawing import option_grids
from analysis.tables import all_tables

DEFAULTS = {"learning_rate": 0.01, "beta1": 0.9, "tau": 0.001}


@pytest.fixture
def adam(tmp_path: Path, make_run: Callable[..., Path]) -> Callable[..., Path]:
    """Write a run of FedAdam with some options, which it records unless it is an older one."""

    def write(name: str, older: bool = False, label: str = "", **options: Any) -> Path:
        texts = [f"{k}={v}" for k, v in sorted(options.items())]
        made = "FedAdam" + (f"({', '.join(texts)})" if texts else "")
        strategy = {"name": "fedadam", **options}
        experiment = {"strategy": strategy, "name": label or None}
        folder = make_run(tmp_path / name, label or made, rounds=2, experiment=experiment)
        if not older:
            changed = [k for k, v in options.items() if v != DEFAULTS[k]]
            told = {"title": "FedAdam", "options": DEFAULTS | options, "changed": changed}
            tell(folder, strategy=told)
        return folder

    return write


def tell(folder: Path, **keys: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def labels(root: Path) -> Mapping[str, str]:
    return load(root).table["label"].to_dict()


def test_a_default_that_is_written_makes_no_other_strategy(tmp_path: Path, adam) -> None:
    adam("plain")
    adam("written", learning_rate=0.01)
    adam("whole", beta1=0.9, tau=1e-3)
    adam("other", learning_rate=0.1, beta1=0.9)
    found = labels(tmp_path)
    other = "FedAdam(learning_rate=0.1)"
    assert found == {x: "FedAdam" for x in ("plain", "written", "whole")} | {"other": other}
    assert set(looks(found.values())) == {"FedAdam", other}
    (final, *_) = all_tables(load(tmp_path))
    assert [row[0].text for row in final.rows] == ["FedAdam", other]


def test_older_runs_are_known_by_the_defaults_of_newer_ones(tmp_path: Path, adam) -> None:
    adam("old", older=True, learning_rate=0.01)
    adam("older", older=True)
    assert set(labels(tmp_path).values()) == {"FedAdam", "FedAdam(learning_rate=0.01)"}
    adam("new", tau=0.1)
    assert labels(tmp_path) == {"old": "FedAdam", "older": "FedAdam", "new": "FedAdam(tau=0.1)"}


def test_other_defaults_of_another_version_are_another_strategy(tmp_path: Path, adam) -> None:
    adam("then")
    now = {"title": "FedAdam", "options": DEFAULTS | {"tau": 0.1}, "changed": []}
    tell(adam("now"), strategy=now)
    assert labels(tmp_path) == {"then": "fedadam(tau=0.001)", "now": "fedadam(tau=0.1)"}


def test_an_authors_name_stays(tmp_path: Path, adam) -> None:
    adam("mine", label="Ours", learning_rate=0.01)
    adam("plain")
    assert labels(tmp_path) == {"mine": "Ours", "plain": "FedAdam"}


def test_a_strategy_of_ones_own_has_its_own_name(tmp_path: Path, make_run) -> None:
    experiment = {"strategy": {"name": "mine.py:halved", "part": 0.5}}
    folder = make_run(tmp_path / "run", "mine.py:halved(part=0.5)", experiment=experiment)
    tell(folder, strategy={"title": "Halved", "options": {"part": 0.5}, "changed": ["part"]})
    assert labels(tmp_path) == {"run": "Halved(part=0.5)"}


def test_a_sweep_has_the_default_in_its_place(tmp_path: Path, adam) -> None:
    for i, tau in enumerate((None, 0.1)):
        for j, beta in enumerate((None, 0.5)):
            given = {"tau": tau, "beta1": beta}
            adam(f"{i}{j}", **{k: v for k, v in given.items() if v is not None})
    runs = load(tmp_path)
    assert runs.table["strategy.tau"].tolist() == [1e-3, 1e-3, 0.1, 0.1]
    ((x, y, part),) = option_grids(runs).values()
    assert {x, y} == {"strategy.beta1", "strategy.tau"}
    assert len(part) == 4
