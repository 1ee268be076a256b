"""The command line: what it runs, what it shows, how it ends."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from examples.demo import REFERENCE, against_reference
from simulation.cli import commands
from simulation.config.experiment import Experiment, parse
from simulation.datasets import registry
from simulation.listeners.listener import Listener
from simulation.listeners.terminal import WINDOW, Rate, Screen
from simulation.listeners.text import describe
from simulation.records.reading import read_json, read_rounds
from simulation.rounds.driver import RoundError
from simulation.runs import run
from simulation.version import __version__
from strategies import catalog

TINY = ["--dataset", "fashion-mnist-mini", "--model", "logistic", "--clients", "4"]
TINY += ["--rounds", "2", "--engine", "inline"]
FLAGS = ["--dataset", "--data-dir", "--model", "--partition", "--alpha", "--clients", "--cohort"]
FLAGS += ["--rounds", "--local-epochs", "--batch-size", "--learning-rate", "--strategy", "--seed"]
FLAGS += ["--engine", "--workers", "--client-cpus", "--client-gpus", "--address", "--out"]
FLAGS += ["--resume", "--set"]
HEAVY = {"tensorflow", "keras", "ray", "flwr", "numpy", "pandas", "matplotlib", "pydantic"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_again: None) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sunflower(*args: str) -> Result:
    return CliRunner().invoke(commands.main, list(args))


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh process has loaded after running ``code``."""
    code += "; import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    environment = {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_loads_nothing_heavy() -> None:
    loaded = modules_after(
        "from typer.testing import CliRunner; from simulation.cli import main;"
        "assert CliRunner().invoke(main, ['run', '--help']).exit_code == 0"
    )
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_the_driver_loads_neither_tensorflow_nor_ray_before_it_must() -> None:
    loaded = modules_after(
        "import simulation.runs.run, simulation.listeners.terminal, simulation.studies.study"
    )
    assert loaded & {"tensorflow", "jax", "keras", "ray", "matplotlib", "pandas"} == set()


def test_help_names_every_command_and_option() -> None:
    listed = sunflower("--help").stdout
    for command in ("run", "compare", "report", "strategies", "datasets"):
        assert f" {command} " in listed
        assert sunflower(command, "--help").exit_code == 0
    shown = sunflower("run", "--help").stdout
    for flag in FLAGS:
        assert f" {flag} " in shown


def test_version() -> None:
    result = sunflower("--version")
    assert (result.exit_code, result.stdout) == (0, f"sunflower {__version__}\n")


def test_lists() -> None:
    shown = sunflower("strategies").stdout
    for name in catalog.names():
        assert f" {name} " in shown
        assert catalog.entry(name).citation.arxiv in shown
    shown = sunflower("datasets").stdout
    for name, _ in registry.names():
        assert f" {name} " in shown


# What is run.


class Asked(Exception):
    """Carries what ``simulate`` was called with."""

    def __init__(self, experiment: Experiment, out: Path, resume: bool) -> None:
        super().__init__()
        self.experiment, self.out, self.resume = experiment, out, resume


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs the command line and returns what it asked to simulate."""

    def simulate(experiment: Experiment, *, out: Path, resume: bool, listener: Listener) -> None:
        raise Asked(experiment, out, resume)

    monkeypatch.setattr(run, "simulate", simulate)

    def ask(*args: str) -> Asked:
        result = sunflower("run", *args)
        assert isinstance(result.exception, Asked), result.output
        return result.exception

    return ask


def test_every_option_arrives(asked: Any) -> None:
    found = asked(
        *["--dataset", "a:b", "--data-dir", "d", "--model", "c:d", "--alpha", "0.3"],
        *["--clients", "50", "--cohort", "0.5", "--rounds", "7", "--local-epochs", "3"],
        *["--batch-size", "8", "--learning-rate", "1e-2", "--strategy", "fedprox"],
        *["--seed", "9", "--engine", "flower", "--workers", "2", "--client-cpus", "0.5"],
        *["--client-gpus", "0.25", "--address", "auto", "--out", "here"],
        *["--set", "strategy.mu=0.5", "--set", "training.momentum=0.9"],
        *["--set", "training.optimizer=adam"],
    )
    assert found.experiment == parse(
        {
            "dataset": "a:b",
            "data_dir": "d",
            "model": "c:d",
            "partition": {"kind": "dirichlet", "alpha": 0.3},
            "clients": 50,
            "cohort": 0.5,
            "rounds": 7,
            "training": {
                "local_epochs": 3,
                "batch_size": 8,
                "learning_rate": 0.01,
                "momentum": 0.9,
                "optimizer": "adam",
            },
            "strategy": {"name": "fedprox", "mu": 0.5},
            "seed": 9,
            "resources": {
                "engine": "flower",
                "workers": 2,
                "client_cpus": 0.5,
                "client_gpus": 0.25,
                "address": "auto",
            },
        }
    )
    assert (found.out, found.resume) == (Path("here"), False)


def test_the_command_line_beats_the_file(asked: Any) -> None:
    Path("e.toml").write_text(
        'clients = 8\nrounds = 3\nstrategy = "fedadam"\n[partition]\nalpha = 9.0\n'
    )
    assert asked("e.toml").experiment == parse(
        {"clients": 8, "rounds": 3, "strategy": "fedadam", "partition": {"alpha": 9}}
    )
    found = asked("e.toml", "--rounds", "5", "--partition", "iid", "--set", "clients=6")
    assert found.experiment == parse({"clients": 6, "rounds": 5, "strategy": "fedadam"})


def test_a_value_with_the_look_of_a_number_stays_a_name(asked: Any) -> None:
    assert asked("--data-dir", "7").experiment.data_dir == Path("7")


def test_runs_without_out_get_folders_of_their_own(asked: Any, folder: Path) -> None:
    first = asked(*TINY).out
    assert first.parent == Path("runs")
    first.mkdir(parents=True)
    assert asked(*TINY).out not in (first, first.parent)


# How it ends.


def test_a_run_from_start_to_resume(folder: Path) -> None:
    result = sunflower("run", *TINY, "--out", "mine")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    records = read_rounds(Path("mine"))
    assert [describe(r, 2) for r in records] == [line for line in lines if "round " in line][-3:]
    assert "FedAvg: 2 rounds of 4 of 4 clients on 1 worker" in lines
    summary = read_json(Path("mine/summary.json"))
    assert summary is not None
    assert any(f"{summary['final']['server_accuracy']:.2%}" in line for line in lines)
    for name in ("rounds.jsonl", "clients.parquet", "summary.json", "model.keras"):
        assert (Path("mine") / name).exists()
        assert any(line.startswith(f"mine/{name} ") for line in lines)

    again = sunflower("run", *TINY, "--out", "mine")
    text = (
        "out: mine exists already and is never overwritten; "
        "go on in it with --resume, or choose another"
    )
    assert (again.exit_code, again.stderr) == (2, f"sunflower: {text}\n")

    changed = sunflower("run", "--resume", "--out", "mine", "--seed", "3")
    text = "resume: mine is a run of another experiment: seed was 0, is 3"
    assert (changed.exit_code, changed.stderr) == (2, f"sunflower: {text}\n")
    fewer = sunflower("run", "--resume", "--out", "mine", "--rounds", "1")
    text = "rounds must be at least those that mine has done (2), got 1"
    assert (fewer.exit_code, fewer.stderr) == (2, f"sunflower: {text}\n")
    more = sunflower("run", "--resume", "--out", "mine", "--rounds", "3")
    assert (more.exit_code, more.stderr) == (0, "")
    assert [r["round"] for r in read_rounds(Path("mine"))] == [0, 1, 2, 3]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes the line of round 1 raise an error."""

    def breaking(error: BaseException) -> None:
        whole = Screen.line

        def line(self: Screen, record: Mapping[str, Any]) -> None:
            whole(self, record)
            if record["round"] == 1:
                raise error

        monkeypatch.setattr(Screen, "line", line)

    return breaking


def test_ctrl_c_says_how_to_go_on(broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        whole = Screen.line
        broken(KeyboardInterrupt())
        result = sunflower("run", *TINY, "--out", "my run")
        patch.setattr(Screen, "line", whole)
        again = "sunflower run --resume --out 'my run'"
        assert result.stderr == f"sunflower: interrupted; go on with: {again}\n"
        assert result.exit_code == 130
        assert (read_json(Path("my run/summary.json")) or {})["status"] == "interrupted"
        resumed = sunflower("run", "--resume", "--out", "my run")
    assert resumed.exit_code == 0, resumed.stderr
    assert [r["round"] for r in read_rounds(Path("my run"))] == [0, 1, 2]
    assert (read_json(Path("my run/summary.json")) or {})["status"] == "complete"


@pytest.mark.parametrize("kind", [RoundError, OSError, ValueError])
def test_a_failure_names_the_log(kind: type[Exception], broken: Any) -> None:
    broken(kind("something broke\nand more"))
    result = sunflower("run", *TINY, "--out", "mine")
    text = "sunflower: the run failed: something broke; see mine/run.log\n"
    assert (result.exit_code, result.stderr) == (1, text)
    log = Path("mine/run.log").read_text()
    assert "Traceback" in log and "and more" in log
    assert (read_json(Path("mine/summary.json")) or {})["status"] == "failed"


def test_ctrl_c_before_anything(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def simulate(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "simulate", simulate)
    result = sunflower("run", *TINY)
    text = "sunflower: interrupted before the first round\n"
    assert (result.exit_code, result.stderr) == (130, text)
    assert list(folder.iterdir()) == []


def test_compare_and_report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = ["compare", *TINY, "--strategies", "fedavg,fedadam", "--seeds", "0,1", "--out", "study"]
    monkeypatch.setattr("sys.argv", ["/bin/sunflower", *args])
    first = sunflower(*args)
    assert (first.exit_code, first.stderr) == (0, "")
    names = [f"{s}-seed{n}" for n in (0, 1) for s in ("fedavg", "fedadam")]
    told = Path("study/commands.txt").read_text()
    assert told == f"{shlex.join(['sunflower', *args])}\n"
    assert sorted(p.name for p in Path("study").iterdir()) == sorted([*names, "commands.txt"])
    for name in names:
        final = json.loads((Path("study") / name / "summary.json").read_text())["final"]
        (row,) = [line for line in first.stdout.splitlines() if f"│ {name} " in line]
        assert f"{final['server_accuracy']:.2%}" in row
    second = sunflower(*args)
    assert second.exit_code == 0
    assert second.stdout.splitlines()[0] == "4 runs: 4 complete in study"
    assert Path("study/commands.txt").read_text() == told

    Path("study/figures.toml").write_text('figures = ["accuracy"]\ntables = ["ranks", "cost"]\n')
    drawn = sunflower("report", "study", "--out", "paper")
    assert (drawn.exit_code, drawn.stderr) == (0, "")
    files = [Path(line) for line in drawn.stdout.splitlines()]
    assert files[0] == Path("paper/report.html")
    assert f'<pre id="make-runs">{told.strip()}</pre>' in files[0].read_text()
    assert all(file.stat().st_size > 0 for file in files)
    assert {".png", ".pdf", ".csv", ".tex"} <= {file.suffix for file in files}


def test_a_dry_run_prints_the_plan_and_starts_nothing(folder: Path) -> None:
    Path("study.toml").write_text(
        """
        strategies = ["fedavg", "fedprox"]
        seeds = [0, 1]
        baselines = ["centralised"]
        [sweep]
        partition.alpha = [0.1, 1.0]
        """
    )
    shown = sunflower("compare", "study.toml", *TINY, "--dry-run")
    assert (shown.exit_code, shown.stderr) == (0, "")
    first, *rest = shown.stdout.splitlines()
    assert first == "10 runs: 10 new; 20 rounds to go in runs/study"
    for name in ("fedavg-alpha-0.1-seed0", "fedprox-alpha-1-seed1", "centralised-seed1"):
        assert any(f"│ {name} " in line and " new " in line for line in rest)
    assert rest[-1].startswith("about ") and "an estimate" in rest[-1]
    assert [path.name for path in folder.iterdir()] == ["study.toml"]


def test_the_demo_sets_results_beside_the_reference(folder: Path) -> None:
    for run_name, accuracies in {"fedavg": (0.1, 0.81), "centralised": (0.11, 0.87)}.items():
        path = Path(f"{run_name}-seed7")
        path.mkdir()
        records = [{"round": n, "server_accuracy": a} for n, a in enumerate(accuracies)]
        (path / "rounds.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    table = against_reference(folder, 7)
    cells = zip(*(column.cells for column in table.columns), strict=True)
    federated, centralised = REFERENCE["federated", 1], REFERENCE["centralised", 0]
    assert list(cells) == [
        ("0", "10.0%", "", "11.0%", f"{centralised:.1%}"),
        ("1", "81.0%", f"{federated:.1%}", "87.0%", ""),
    ]


@pytest.mark.slow
def test_nothing_but_ours_is_on_the_screen(folder: Path) -> None:
    """A whole run with Ray in a process of its own: not a line of anybody else's."""
    args = [a for a in TINY if a not in ("--engine", "inline")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "simulation.cli",
            "run",
            *args,
            "--workers",
            "1",
            "--out",
            "mine",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    before_table = done.stdout[: done.stdout.index("Result")]
    expected = ["loading fashion-mnist-mini", "starting workers"]
    expected += [
        "inputs are multiplied by 1/255 on their way into the model, and so in the saved one"
    ]
    expected += ["FedAvg: 2 rounds of 4 of 4 clients on 1 worker"]
    expected += [describe(record, 2) for record in read_rounds(Path("mine"))]
    assert [line.rstrip() for line in before_table.splitlines()][:7] == expected


# The screen.


def test_rate_is_that_of_the_last_while() -> None:
    now = [0.0]
    rate = Rate(lambda: now[0])
    assert rate.value is None
    for second in range(1, 101):
        now[0] = second
        rate.add(10 if second <= 50 else 30)
    assert rate.value == pytest.approx(30.0)
    marks = [t for t, _ in rate._marks]
    assert marks[-1] - marks[0] <= WINDOW


LINE: dict[str, Any] = {"clients": 4, "examples": 900, "seconds": 1.0, "train_loss": 1.0}
LINE |= {"server_accuracy": 0.5, "server_loss": 1.0, "client_accuracy": None}


def test_bars_on_a_terminal() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120, highlight=False)
    experiment = parse({"clients": 4, "rounds": 3})
    with Screen(console) as screen:
        screen.stage("starting workers")
        screen.begin(experiment, 2, 0)
        (stage,) = screen._stages.tasks
        assert not stage.visible
        rounds, clients = screen._bars.tasks
        seen = []
        # The line of a round comes when the next round is trained already.
        for event in (3, 1, LINE | {"round": 0, "clients": None}, 3, 1, LINE | {"round": 1}, 2):
            if isinstance(event, int):
                screen.clients("train", event, 300)
            else:
                screen.line(event)
            seen.append((rounds.completed, clients.completed))
        assert seen == [(0, 3), (1, 0), (1, 0), (1, 3), (2, 0), (2, 0), (2, 2)]
        screen._display.refresh()
    shown = stream.getvalue()
    assert "images/s" in shown and "ETA" in shown and "2/3" in shown


def test_describe() -> None:
    record = dict.fromkeys(("server_accuracy", "server_loss", "client_accuracy", "train_loss"))
    assert describe({**record, "round": 0, "seconds": 0.0}, 10) == "round  0/10"
    full = {"server_accuracy": 0.5, "server_loss": 1.25, "client_accuracy": 0.25, "train_loss": 2.0}
    assert describe({**full, "round": 7, "seconds": 3.21}, 10) == (
        "round  7/10  accuracy 50.0%  loss 1.2500  on clients 25.0%  training loss 2.0000  3.2 s"
    )
