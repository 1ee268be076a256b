import json
import re
from pathlib import Path

import pandas as pd
import pytest

from analysis import load
from analysis.text import ALPHA


def test_a_row_per_run_and_round(study: Path) -> None:
    runs = load(study)
    assert len(runs) == 27  # 3 strategies x 2 alphas x 3 seeds, 6 local-only, 3 centralised
    assert len(runs.rounds) == 27 * 21
    text = (study / "FedAvg-a0.1-s0/rounds.jsonl").read_text()
    lines = [json.loads(x) for x in text.splitlines()]
    rows = runs.rounds[runs.rounds["run"] == "FedAvg-a0.1-s0"]
    for key in ("round", "server_accuracy", "client_loss", "seconds", "bytes_up"):
        assert rows[key].tolist() == pytest.approx(
            [float("nan") if x[key] is None else x[key] for x in lines], nan_ok=True
        )
    assert rows["participants"].tolist()[1:] == [x["clients"] for x in lines[1:]]
    assert rows["participants"].isna().tolist() == [True] + [False] * 20
    assert rows["elapsed"].iloc[-1] == pytest.approx(sum(x["seconds"] or 0 for x in lines))
    assert rows["bytes_total"].iloc[-1] == sum(x["bytes_up"] + x["bytes_down"] for x in lines)
    assert set(rows["label"]) == {"FedAvg"}
    assert rows["alpha"].iloc[0] == 0.1
    assert rows["clients"].iloc[0] == 20
    assert rows["training.learning_rate"].iloc[0] == 0.1


def test_what_there_is_is_told_in_a_line(study: Path) -> None:
    runs = load(study)
    assert repr(runs) == "<27 runs, 5 strategies, 2 settings, 3 seeds>"
    one = runs.only(["FedAvg-a0.1-s0"])
    assert repr(one) == "<1 run, 1 strategy, 1 setting, 1 seed>"


def test_settings_hold_what_may_be_compared(study: Path) -> None:
    runs = load(study)
    assert list(runs.settings) == [f"{ALPHA} = 0.1", f"{ALPHA} = 1"]
    for setting in runs.settings:
        table = runs.at(setting).table
        assert len(table) == 15
        assert (table["mode"] == "centralised").sum() == 3  # the baseline of both settings
        assert table.loc[table["mode"] != "centralised", "alpha"].nunique() == 1


def test_a_swept_training_key_is_a_setting_a_tuned_one_is_not(tmp_path, make_run) -> None:
    def training(rate: float) -> dict[str, object]:
        return {"training": {"learning_rate": rate}}

    make_run(tmp_path / "tuned/a", "FedAvg", experiment=training(0.1))
    make_run(tmp_path / "tuned/b", "FedAdam", experiment=training(0.01))
    assert list(load(tmp_path / "tuned").settings) == [""]
    make_run(tmp_path / "swept/a", "FedAvg", experiment=training(0.1))
    make_run(tmp_path / "swept/b", "FedAvg", experiment=training(0.01))
    assert list(load(tmp_path / "swept").settings) == [
        "learning rate = 0.01",
        "learning rate = 0.1",
    ]


def test_partitions_without_alpha_keep_their_name(tmp_path, make_run) -> None:
    make_run(tmp_path / "a", experiment={"partition": {"kind": "iid", "alpha": None}})
    make_run(tmp_path / "b", experiment={"partition": {"kind": "dirichlet", "alpha": 0.1}})
    assert sorted(load(tmp_path).settings) == [
        f"partition = dirichlet, {ALPHA} = 0.1",
        "partition = iid",
    ]


def test_a_torn_last_line_is_ignored_and_a_torn_line_inside_is_not(tmp_path, make_run) -> None:
    folder = make_run(tmp_path / "run", rounds=5, status="running")
    path = folder / "rounds.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-40])
    runs = load(folder)
    assert runs.rounds["round"].tolist() == [0, 1, 2, 3, 4]
    assert runs.table["status"].tolist() == ["running"]
    lines = whole.splitlines()
    path.write_text("\n".join([lines[0], lines[1][:20], *lines[2:]]))
    message = f"{path}: line 2 is no round: {lines[1][:20].encode()!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load(folder)


def test_a_round_written_twice_counts_once(tmp_path, make_run) -> None:
    folder = make_run(tmp_path / "run", rounds=2)
    with (folder / "rounds.jsonl").open("a") as file:
        file.write(json.dumps({"round": 2, "server_accuracy": 0.5}) + "\n")
    rows = load(folder).rounds
    assert rows["round"].tolist() == [0, 1, 2]
    assert rows["server_accuracy"].iloc[-1] == 0.5


def test_clients_from_one_file_or_from_parts(tmp_path, make_run) -> None:
    folder = make_run(tmp_path / "run", rounds=4)
    whole = load(folder).clients
    path = folder / "clients.parquet"
    frame = pd.read_parquet(path)
    path.unlink()
    path.mkdir()
    for number, part in frame.groupby("round"):
        part.to_parquet(path / f"{number:05d}.parquet")
    frame[frame["round"] == 4].to_parquet(path / "99999.parquet")  # written again on resume
    pd.testing.assert_frame_equal(load(folder).clients, whole)
    last = load(folder).last_clients
    assert last["round"].unique().tolist() == [4]
    assert len(last) == 10


def test_labels_are_classes(single: Path) -> None:
    runs = load(single)
    rows = runs.labels[runs.labels["run"] == "FedAvg-a0.3-s0"]
    file = pd.read_parquet(single / "FedAvg-a0.3-s0/labels.parquet")
    assert rows["class"].tolist() == file["label"].tolist()
    assert set(rows["label"]) == {"FedAvg"}


@pytest.mark.parametrize("content", ["[1]", "{", '{"a": 1}'])
def test_a_damaged_config_is_named(tmp_path, make_run, content: str) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json: "):
        load(folder)


def test_folders_without_runs_are_named(tmp_path) -> None:
    message = f"{tmp_path}: no run here (a run folder has config.json and rounds.jsonl)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load(tmp_path)
    message = f"{tmp_path / 'none'}: there is no such folder"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load(tmp_path / "none")
    with pytest.raises(ValueError, match=r"^paths: give at least one run folder"):
        load()


def test_runs_keep_their_rows_when_the_metrics_are_all_null(tmp_path, make_run) -> None:
    folder = make_run(tmp_path / "run", rounds=0, status="running")
    rows = load(folder).rounds
    assert rows["client_accuracy"].isna().all()
    assert rows["client_accuracy"].dtype == float


def test_a_run_without_an_attack_has_no_attackers(tmp_path, make_run) -> None:
    for kind in (None, "sign-flip"):
        attack = {"attack": {"kind": kind, "fraction": 0.2}}
        make_run(tmp_path / str(kind), rounds=1, experiment=attack)
    table = load(tmp_path).table
    assert table["attack.fraction"].to_dict() == {"None": 0.0, "sign-flip": 0.2}
