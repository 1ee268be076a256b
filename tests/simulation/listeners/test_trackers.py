"""Trackers: real runs, and what their own libraries read back."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner, Result

from simulation import ConfigError, Experiment, Listener, simulate
from simulation.cli import commands
from simulation.config.experiment import parse
from simulation.listeners.trackers import choice, numbers
from simulation.runs.run import Result as Run

TINY = {
    "dataset": "fashion-mnist-mini",
    "model": "logistic",
    "clients": 4,
    "rounds": 3,
    "resources": {"engine": "inline"},
}
BOTH = ["tensorboard", "mlflow"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_again: None) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    return tmp_path


class Memory(Listener):
    """A tracker of the user's own; remembers what it heard."""

    heard: list[tuple[Any, ...]] = []  # noqa: RUF012 - shared with the test

    def __init__(self, mark: str = "") -> None:
        self.mark = mark

    def opened(self, path: Path) -> None:
        self.heard.append(("opened", path, (path / "config.json").exists()))

    def begin(self, experiment: Experiment, workers: int, done: int) -> None:
        self.heard.append(("begin", experiment.label, workers, done, self.mark))

    def clients(self, kind: str, clients: int, examples: int) -> None:
        self.heard.append((kind, clients, examples))

    def line(self, record: Mapping[str, Any]) -> None:
        self.heard.append(("line", dict(record)))

    def end(self, summary: Mapping[str, Any]) -> None:
        self.heard.append(("end", summary["status"]))


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that two trackers follow."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        return simulate(parse({**TINY, "track": BOTH}), out=folder / "run")


def expected(run: Run) -> dict[str, list[tuple[int, float]]]:
    """Return the numbers of ``rounds.jsonl`` as (round, value) by name."""
    series: dict[str, list[tuple[int, float]]] = {}
    for record in run.rounds:
        for name, value in numbers(record).items():
            series.setdefault(name, []).append((record["round"], value))
    return series


def test_tensorboard_reads_back_every_number(tracked: Run) -> None:
    read = EventAccumulator(str(tracked.path / "tensorboard"))
    read.Reload()
    wanted = expected(tracked)
    assert {"server_accuracy", "train_loss", "update_norm", "drift"} <= set(wanted)
    assert set(read.Tags()["scalars"]) == set(wanted)
    for name, series in wanted.items():
        found = [(event.step, event.value) for event in read.Scalars(name)]
        assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in series]


def test_mlflow_reads_back_every_number(tracked: Run) -> None:
    client = MlflowClient((tracked.path.parent / "mlruns").as_uri())
    group = client.get_experiment_by_name("sunflower")
    (run,) = client.search_runs([group.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params["training.batch_size"] == "32"
    assert run.data.params["strategy.name"] == "fedavg"
    for name, series in expected(tracked).items():
        history = client.get_metric_history(run.info.run_id, name)
        assert [(m.step, m.value) for m in history] == series
    files = {f.path for f in client.list_artifacts(run.info.run_id)}
    assert files == {"config.json", "summary.json"}


def records_of(file: Path) -> Iterator[bytes]:
    """Yield the records of a W&B file: LevelDB's log format behind a header of 7 bytes."""
    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32_768 - at % 32_768
        if left < 7:  # the rest of a block is padding
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def test_wandb_reads_back_every_number(folder: Path) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    from wandb.proto.wandb_internal_pb2 import Record

    run = simulate(parse({**TINY, "track": "wandb"}), out="run")
    (file,) = Path("run").glob("wandb/offline-run-*/run-*.wandb")
    series: dict[str, list[tuple[int, float]]] = {}
    for data in records_of(file):
        record = Record.FromString(data)
        items = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.history.item}
        for name, value in items.items():
            series.setdefault(name, []).append((items["_step"], value))
    wanted = expected(run)
    assert {name: series.get(name) for name in wanted} == wanted


@pytest.mark.soak
def test_the_driver_of_a_tracked_run_never_loads_tensorflow(folder: Path) -> None:
    code = """
import sys
from simulation.config.experiment import parse
from simulation import simulate
simulate(parse({"dataset": "fashion-mnist-mini", "model": "logistic", "clients": 4, "rounds": 1,
                "track": ["tensorboard", "mlflow"]}), out="run")
print(*sorted({m.partition('.')[0] for m in sys.modules} & {"tensorflow", "keras", "torch"}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.stdout.split() == []
    assert list(Path("run/tensorboard").iterdir()) and Path("mlruns").is_dir()


def test_a_resumed_run_is_one_run_in_every_tracker(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = parse({**TINY, "track": ["tensorboard", "mlflow"]})

    class Stop(Listener):
        def line(self, record: Mapping[str, Any]) -> None:
            if record["round"] == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(wanted, out="run", listener=Stop())
    client = MlflowClient((folder / "mlruns").as_uri())
    group = [client.get_experiment_by_name("sunflower").experiment_id]
    assert [r.info.status for r in client.search_runs(group)] == ["KILLED"]
    run = simulate(wanted, out="run", resume=True)
    (found,) = client.search_runs(group)
    assert found.info.status == "FINISHED"
    history = client.get_metric_history(found.info.run_id, "server_accuracy")
    read = EventAccumulator("run/tensorboard")
    read.Reload()
    series = [(r["round"], r["server_accuracy"]) for r in run.rounds]
    assert [(m.step, m.value) for m in history] == series
    events = [(e.step, e.value) for e in read.Scalars("server_accuracy")]
    assert events == [(step, pytest.approx(value)) for step, value in series]


def test_ones_own_tracker_hears_everything() -> None:
    Memory.heard.clear()
    track = [{"name": f"{__name__}:Memory", "mark": "mine"}]
    run = simulate(parse({**TINY, "track": track}), out="run")
    heard = Memory.heard
    assert heard[0] == ("opened", Path("run"), True)
    assert heard[1] == ("begin", "FedAvg", 1, 0, "mine")
    assert [h[1] for h in heard if h[0] == "line"] == run.rounds
    assert sum(h[1] for h in heard if h[0] == "train") == 4 * 3
    assert heard[-1] == ("end", "complete")


class Failing(Listener):
    """A tracker whose server goes away."""

    def line(self, record: Mapping[str, Any]) -> None:
        if record["round"] == 2:
            raise OSError("the server is gone")


def test_a_tracker_that_fails_under_way_is_named_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Memory.heard.clear()
    both = [f"{__name__}:Failing", f"{__name__}:Memory"]
    run = simulate(parse({**TINY, "track": both}), out="run")
    assert run.summary["status"] == "complete"
    text = f"the tracker {__name__}:Failing failed and hears no more of this run: "
    assert text + "OSError: the server is gone" in caplog.text
    assert caplog.text.count("the server is gone") == 1
    assert len([h for h in Memory.heard if h[0] == "line"]) == 4


def test_tracking_changes_nothing_of_a_run(tracked: Run) -> None:
    plain = simulate(parse(TINY), out="plain")
    assert parse(TINY).digest() == parse({**TINY, "track": BOTH}).digest()
    assert plain.summary["weights_sha256"] == tracked.summary["weights_sha256"]
    assert [{**r, "seconds": 0} for r in plain.rounds] == [
        {**r, "seconds": 0} for r in tracked.rounds
    ]


def sunflower(*args: str) -> Result:
    return CliRunner().invoke(commands.main, list(args))


def test_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    Memory.heard.clear()
    args = ["--dataset", "fashion-mnist-mini", "--model", "logistic", "--clients", "4"]
    args += ["--rounds", "1", "--engine", "inline", "--out", "run"]
    done = sunflower("run", *args, "--track", f"tensorboard,{__name__}:Memory")
    assert (done.exit_code, done.stderr) == (0, "")
    assert list(Path("run/tensorboard").iterdir())
    assert Memory.heard[-1] == ("end", "complete")


NAMES = "tensorboard, mlflow, wandb, module:Class"
REFUSED = [
    ("tensorbord", f"track must be one of {NAMES}, got 'tensorbord'; did you mean 'tensorboard'?"),
    ({"name": "mlflow", "url": "x"}, "track.mlflow.url: unknown key; did you mean 'uri'?"),
    ({"name": "mlflow", "uri": 3}, "track.mlflow.uri must be text, got 3"),
    (
        {"name": "wandb", "mode": "loud"},
        "track.wandb.mode must be one of offline, online, got 'loud'",
    ),
    ("nothing_here:Class", "track must name a module that imports, got 'nothing_here:Class' "
     "(ModuleNotFoundError: No module named 'nothing_here')"),
    (
        f"{__name__}:expected",
        f"track must name a class that takes its options, got '{__name__}:expected' "
        "(TypeError: expected() missing 1 required positional argument: 'run')",
    ),
    ("builtins:dict", "track must name a class of simulation.Listener's, got 'builtins:dict' "
     "(a dict)"),
]  # fmt: skip


@pytest.mark.parametrize(("track", "text"), REFUSED, ids=lambda v: str(v)[:20])
def test_what_is_refused(track: Any, text: str, folder: Path) -> None:
    with pytest.raises(ValueError) as refused:
        simulate(parse({**TINY, "track": [track]}), out="run")
    assert str(refused.value) == text
    assert list(folder.iterdir()) == []


def test_an_extra_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as refused:
        simulate(parse({**TINY, "track": "wandb"}), out="run")
    assert str(refused.value) == (
        "track must name a tracker that is installed (pip install 'sunflower-fl[wandb]'), "
        "got 'wandb'"
    )
    assert not Path("run").exists()


def test_a_store_that_does_not_answer_is_bad_input(folder: Path) -> None:
    (folder / "file").write_text("")
    track = {"name": "mlflow", "uri": "file"}
    with pytest.raises(ConfigError, match=r"^track must name a tracker that works, got 'mlflow'"):
        simulate(parse({**TINY, "track": [track]}), out="run")
    assert not Path("run").exists()
