"""Bad input: one clear line, exit status 2, nothing heavy started, no folder left behind."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from click import NoSuchOption
from typer.testing import CliRunner, Result

from simulation.cli import commands
from simulation.config.experiment import Experiment
from simulation.config.sections import Resources, Training
from simulation.engines.ray.cluster import ResourceError, kinds_of_workers
from simulation.runs import run
from strategies import catalog

MINI = ["--dataset", "fashion-mnist-mini"]
STRATEGIES = ", ".join(catalog.names())
KINDS = (
    "iid, dirichlet, inner-dirichlet, pathological, shards, quantity, pachinko, on-demand, "
    "natural, file"
)
KEYS = ", ".join(Experiment.model_fields)
COHORT = "cohort must be a number of clients (>= 1) or a fraction in (0, 1]"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet_again: None) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUNFLOWER_CACHE", str(tmp_path.parent / "cache"))
    return tmp_path


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if an engine is started: neither Ray nor TensorFlow may be touched."""

    def started(*_: object) -> None:
        pytest.fail("an engine was started")

    monkeypatch.setattr(run, "engine_for", started)


def sunflower(*args: str) -> Result:
    return CliRunner().invoke(commands.main, list(args))


def assert_refused(result: Result, *lines: str) -> None:
    assert result.stderr.splitlines() == [f"sunflower: {line}" for line in lines]
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)


BAD_OPTIONS = [
    # Unknown names and keys, with the nearest right one.
    (
        ["--strategy", "fedpro"],
        f"strategy must be one of {STRATEGIES}, got 'fedpro'; did you mean 'fedprox'?",
    ),
    (
        ["--model", "cn"],
        "model must be one of cnn, lenet, mlp, logistic, module:function, got 'cn'; "
        "did you mean 'cnn'?",
    ),
    (
        ["--dataset", "fashion-mnits"],
        "dataset must be one of fashion-mnist, fashion-mnist-mini, mnist, cifar10, cifar100, "
        "emnist, synthetic(ALPHA,BETA), module:function, a path, hf:NAME, "
        "got 'fashion-mnits'; did you mean 'fashion-mnist'?",
    ),
    (
        ["--partition", "dirichlett"],
        f"partition.kind must be one of {KINDS}, got 'dirichlett'; did you mean 'dirichlet'?",
    ),
    (
        ["--engine", "rray"],
        "resources.engine must be one of ray, flower, inline, got 'rray'; did you mean 'ray'?",
    ),
    (["--set", "round=3"], "round: unknown key; did you mean 'rounds'?"),
    (
        ["--set", "training.learning-rate=1"],
        "training.learning-rate: unknown key; did you mean 'training.learning_rate'?",
    ),
    (["--set", "batch_size=8"], "batch_size: unknown key; did you mean 'training.batch_size'?"),
    (["--set", "zzz=1"], f"zzz: unknown key; known keys: {KEYS}"),
    (
        ["--strategy", "fedprox", "--set", "strategy.muu=1"],
        "strategy: option of fedprox must be one of mu, learning_rate, weights, got 'muu'; "
        "did you mean 'mu'?",
    ),
    # Wrong types and ranges.
    (["--rounds", "0"], "rounds must be >= 1, got 0"),
    (["--rounds", "ten"], "rounds must be a whole number, got 'ten'"),
    (["--clients", "2.5"], "clients must be a whole number, got 2.5"),
    (
        ["--batch-size", "true"],
        "training.batch_size must be a whole number >= 1, or 'all', got True",
    ),
    (
        ["--batch-size", "every"],
        "training.batch_size must be a whole number >= 1, or 'all', got 'every'",
    ),
    (["--local-epochs", "0"], "training.local_epochs must be a number > 0, got 0"),
    (["--local-epochs", "-0.5"], "training.local_epochs must be a number > 0, got -0.5"),
    (["--set", "training.local_steps=1.5"], "training.local_steps must be a whole number, got 1.5"),
    (
        ["--local-epochs", "2", "--set", "training.local_steps=5"],
        "training.local_epochs must be left out where training.local_steps says how much clients "
        "train, got 2",
    ),
    (
        ["--strategy", "fedsgd", "--set", "training.local_steps=5"],
        "training.local_steps must be left out with FedSGD, whose clients take one step on all of "
        "their examples, got 5",
    ),
    (["--learning-rate", "0"], "training.learning_rate must be > 0, got 0"),
    (["--learning-rate", "nan"], "training.learning_rate must be finite, got nan"),
    (["--set", "training.momentum=1"], "training.momentum must be < 1, got 1"),
    (["--set", "evaluation.server=3"], "evaluation.server must be true or false, got 3"),
    (["--set", "training=3"], "training must be a table, got 3"),
    (["--set", "rounds.x=3"], "rounds must be a whole number, got {'x': 3}"),
    (["--seed", "-1"], "seed must be >= 0, got -1"),
    (["--strategy", "fedprox", "--set", "strategy.mu=-1"], "strategy: mu must be >= 0, got -1"),
    (["--alpha", "0"], "partition.alpha must be > 0, got 0"),
    (
        ["--partition", "iid", "--alpha", "0.3"],
        "partition.alpha must be left out for the partition 'iid', got 0.3",
    ),
    (
        ["--client-cpus", "0"],
        "resources: client_cpus or client_gpus must be greater than 0, got 0 for both",
    ),
    (
        ["--set", "resources.cpu_nodes=true"],
        "resources: cpu_nodes must be left out unless client_gpus and client_cpus are greater "
        "than 0, got 0 and 1",
    ),
    (["--set", "training.momentum"], "--set must be KEY=VALUE, got 'training.momentum'"),
    # Clients and cohorts that cannot be.
    (
        [*MINI, "--clients", "6001"],
        "clients must be at most the number of training examples (6000), got 6001",
    ),
    (
        ["--clients", "20", "--cohort", "0.04"],
        "cohort must select at least 1 client, got 0.04 of 20",
    ),
    (["--clients", "20", "--cohort", "21"], "cohort must be at most clients (20), got 21"),
    (["--cohort", "1.5"], f"{COHORT}, got 1.5"),
    (["--cohort", "inf"], f"{COHORT}, got inf"),
    # When a run ends, and which models stay.
    (["--set", "stop.accuracy=1.5"], "stop.accuracy must be <= 1, got 1.5"),
    (["--set", "stop.patience=0"], "stop.patience must be >= 1, got 0"),
    (
        ["--set", "stop.target=0.9"],
        "stop.metric must be given with stop.target, which is one of it, got 0.9",
    ),
    (
        ["--set", "stop.metric=f1"],
        "stop.metric must be left out without stop.target or stop.patience, which go by it, "
        "got 'f1'",
    ),
    (
        ["--set", "stop.min_delta=0.1"],
        "stop.min_delta must be left out without stop.patience, got 0.1",
    ),
    (
        ["--set", "stop.on=clients"],
        "stop.on must be left out where no target and no patience is given, got 'clients'",
    ),
    (
        ["--set", "stop.on=client", "--set", "stop.patience=1"],
        "stop.on must be one of server, clients, got 'client'; did you mean 'clients'?",
    ),
    (
        ["--set", "stop.accuracy=0.9", "--set", "evaluation.server=false"],
        "stop.on must be 'clients' where evaluation.server is false, got 'server'",
    ),
    (
        [f"--set={s}" for s in ("stop.loss=1", "stop.on=clients", "partition.validation=0")],
        "stop.on must be 'server' where clients measure nothing (evaluation.clients, "
        "partition.validation, mode), got 'clients'",
    ),
    (["--set", "save.metric=loss"], "save.metric must be left out without save.best, got 'loss'"),
    (
        ["--rounds", "3", "--set", "save.every=4"],
        "save.every must be at most rounds (3), got 4",
    ),
    (
        ["--set", "mode=local", "--set", "save.best=true"],
        "save must be left out with the mode 'local', which has no model but the clients', "
        "got 'best'",
    ),
    # Files and folders.
    (["missing.toml"], "missing.toml: no such file"),
    (["--resume"], "--resume must come with --out, the run folder to go on in"),
    (["--resume", "--out", "nothing"], "resume: nothing holds no run"),
    (
        ["--data-dir", "nothing"],
        "data_dir must hold the files of Fashion-MNIST: no train-images-idx3-ubyte[.gz] in nothing",
    ),
    # The user's own functions.
    (["--model", "a:b:c"], "model must be module:function, got 'a:b:c'"),
    (
        ["--model", "not_here:build"],
        "model must name a module that imports, got 'not_here:build' "
        "(ModuleNotFoundError: No module named 'not_here')",
    ),
    (
        ["--strategy", "not_here:build"],
        "strategy must name a module that imports, got 'not_here:build' "
        "(ModuleNotFoundError: No module named 'not_here')",
    ),
    # Misuse of the command itself.
    # Click's own words, which are others in each release.
    (["--round", "3"], NoSuchOption("--round", None, ["--out", "--rounds"]).format_message()),
    (["a.toml", "b.toml"], "Got unexpected extra argument (b.toml)"),
]


@pytest.mark.parametrize(("args", "line"), BAD_OPTIONS, ids=lambda v: " ".join(v)[:40])
def test_a_bad_option_is_told_in_a_line(
    args: list[str], line: str, folder: Path, no_engine: None
) -> None:
    assert_refused(sunflower("run", *args), line)
    assert list(folder.iterdir()) == []


def test_every_problem_has_its_line(folder: Path, no_engine: None) -> None:
    result = sunflower("run", "--rounds", "0", "--alpha", "-1", "--set", "clints=3")
    assert_refused(
        result,
        "rounds must be >= 1, got 0",
        "partition.alpha must be > 0, got -1",
        "clints: unknown key; did you mean 'clients'?",
    )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("rounds = ", "bad.toml: not valid TOML: Invalid value (at end of document)"),
        (
            "[training]\nlr = 1\nbatch_size = 0",
            "training.batch_size must be a whole number >= 1, or 'all', got 0",
        ),
        ("strategy = 3", "strategy must be a table, got 3"),
        ('partition = "irid"', f"partition.kind must be one of {KINDS}, got 'irid'; "),
    ],
)
def test_a_bad_file(text: str, line: str, folder: Path, no_engine: None) -> None:
    Path("bad.toml").write_text(text)
    result = sunflower("run", "bad.toml")
    if "lr" in text:
        keys = ", ".join(Training.model_fields)
        assert_refused(result, line, f"training.lr: unknown key; known keys: {keys}")
    elif "irid" in text:
        assert_refused(result, f"{line}did you mean 'iid'?")
    else:
        assert_refused(result, line)
    assert [path.name for path in folder.iterdir()] == ["bad.toml"]


def test_bytes_that_are_no_text(folder: Path, no_engine: None) -> None:
    Path("bad.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnicodeDecodeError) as reason:
        Path("bad.toml").read_text(encoding="utf-8")
    assert_refused(sunflower("run", "bad.toml"), f"bad.toml: cannot be read ({reason.value})")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("def other(): ...", "a function, got 'own_model:build' (build is not in own_model)"),
        (
            "def build(:",
            "a module that imports, got 'own_model:build' "
            "(SyntaxError: invalid syntax (own_model.py, line 1))",
        ),
    ],
)
def test_a_model_that_cannot_be_found(text: str, rule: str, folder: Path, no_engine: None) -> None:
    Path("own_model.py").write_text(text)
    assert_refused(sunflower("run", "--model", "own_model:build"), f"model must name {rule}")
    assert [path.name for path in folder.iterdir()] == ["own_model.py"]


def test_a_model_that_does_not_fit_the_labels(folder: Path) -> None:
    Path("narrow_model.py").write_text(
        "import keras\n"
        "def build():\n"
        "    return keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(),\n"
        "                             keras.layers.Dense(3)])\n"
    )
    result = sunflower("run", *MINI, "--engine", "inline", "--model", "narrow_model:build")
    assert_refused(
        result, "model output must have at least 10 units (classes of the dataset), got 3"
    )
    assert list(Path("runs").glob("*")) == []


def test_data_of_the_users_that_does_not_fit(folder: Path, no_engine: None) -> None:
    np.savez("rows.npz", x=np.zeros((4, 2), np.float32), y=np.zeros(3, np.int64))
    Path("own_data.py").write_text(
        "import numpy as np\n"
        "def load():\n"
        "    rows = np.load('rows.npz')\n"
        "    return (rows['x'], rows['y']), (rows['x'], rows['y'])\n"
    )
    assert_refused(
        sunflower("run", "--dataset", "own_data:load", "--clients", "2"),
        "dataset own_data:load: x_train and y_train must have the same length, at least 1, "
        "got 4 and 3",
    )
    assert list(Path("runs").glob("*")) == []


def test_files_that_are_no_dataset(folder: Path, no_engine: None) -> None:
    refused = sunflower("run", "--dataset", "none.npz")
    assert_refused(refused, "dataset must be a file or a folder that exists, got 'none.npz'")
    np.savez("mine.npz", x=np.zeros((20, 3)), y=np.zeros(20, int))
    refused = sunflower("run", "--dataset", "mine.npz", "--set", "data.label=y")
    assert_refused(refused, "data.label must be left out for data without columns, got 'mine.npz'")
    refused = sunflower("run", "--dataset", "mine.npz", "--set", "data.test=0.01")
    assert_refused(
        refused,
        "dataset mine.npz: data.test must leave rows for training and for testing, got 0.01 of 20",
    )
    refused = sunflower("run", *MINI, "--set", "data.test=0.5")
    assert_refused(
        refused,
        "data must be left out for a dataset that is no file, got 'fashion-mnist-mini'",
    )


def test_a_damaged_file(folder: Path, no_engine: None) -> None:
    data = folder / "data"
    data.mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (data / f"{name}-ubyte.gz").write_bytes(b"no")
    first = data / "train-images-idx3-ubyte.gz"
    assert_refused(
        sunflower("run", "--data-dir", str(data)),
        f"data_dir must hold the files of Fashion-MNIST: {first} cannot be decompressed "
        "(Not a gzipped file (b'no'))",
    )


def test_a_folder_that_is_taken(folder: Path, no_engine: None) -> None:
    (folder / "taken").mkdir()
    (folder / "taken/notes.txt").write_text("mine")
    assert_refused(
        sunflower("run", "--out", "taken"),
        "out: taken exists already and is never overwritten; choose another",
    )
    assert [p.name for p in (folder / "taken").iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be(folder: Path, no_engine: None) -> None:
    (folder / "file").write_text("mine")
    assert_refused(
        sunflower("run", "--out", "file/run"),
        f"out must be a folder, got file/run ({folder / 'file'} is a file)",
    )


def test_more_cpus_than_any_node_has(folder: Path) -> None:
    import ray

    here = float(len(os.sched_getaffinity(0)))
    if ray.is_initialized():  # by other tests of this process
        here = max(node["Resources"].get("CPU", 0.0) for node in ray.nodes())
    assert_refused(
        sunflower("run", *MINI, "--client-cpus", "5000"),
        f"resources.client_cpus must be at most the CPUs of a node ({here:g}), got 5000",
    )
    assert list(folder.iterdir()) == []


def test_an_address_where_nothing_answers(folder: Path, no_engine: None) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for command in ("run", "compare"):
            assert_refused(
                sunflower(command, *MINI, "--address", address),
                "resources.address must be that of a running Ray cluster, "
                f"got {address!r} (nobody listens at {address}: is Ray's head running there, "
                "and is it this port?)",
            )
    assert list(folder.iterdir()) == []


NODES = [{"CPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}]


@pytest.mark.parametrize(
    ("resources", "text"),
    [
        ({"client_cpus": 9}, "resources.client_cpus must be at most the CPUs of a node (8), got 9"),
        ({"client_gpus": 2}, "resources.client_gpus must be at most the GPUs of a node (1), got 2"),
        (
            {"workers": 13},
            "resources.workers must be at most what the cluster has room for (12), got 13",
        ),
        (
            {"client_gpus": 0.5, "workers": 3},
            "resources.workers must be at most what the cluster has room for (2), got 3",
        ),
    ],
)
def test_resources_that_no_node_has(resources: dict[str, float], text: str) -> None:
    with pytest.raises(ResourceError) as error:
        kinds_of_workers(Resources(**resources), NODES)  # type: ignore[arg-type]
    assert str(error.value) == text


BAD_STUDIES = [
    (
        ["--strategies", "fedavg,fedpro"],
        f"strategy must be one of {STRATEGIES}, got 'fedpro'; did you mean 'fedprox'?",
    ),
    (
        ["--strategies", "fedavg,fedavg"],
        "strategies must name nothing twice, got ['fedavg', 'fedavg']",
    ),
    (["--seeds", "0,x"], "seeds.1 must be a whole number, got 'x'"),
    (["--seeds", "1,1"], "seeds must name nothing twice, got [1, 1]"),
    (["--set", "strategy.mu=1"], "strategy.mu must be left out of a study, got 1"),
    (["--rounds", "0"], "rounds must be >= 1, got 0"),
    (
        [*MINI, "--clients", "9000"],
        "clients must be at most the number of training examples (6000), got 9000",
    ),
    (["missing.toml"], "missing.toml: no such file"),
]


@pytest.mark.parametrize(("args", "line"), BAD_STUDIES, ids=lambda v: " ".join(v)[:40])
def test_a_bad_study(args: list[str], line: str, folder: Path, no_engine: None) -> None:
    assert_refused(sunflower("compare", *args), line)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("strategies = []", "strategies must have at least one entry, got []"),
        ('strategies = "fedavg"', "strategies must be a list of names and tables, got 'fedavg'"),
        (
            'baselines = ["centralized"]',
            "baselines.0 must be one of centralised, local, got 'centralized'; "
            "did you mean 'centralised'?",
        ),
        ("[sweep]\nclients = 5", "sweep.clients must be a list or a range, got 5"),
        (
            "[sweep]\nrounds = []",
            "sweep.rounds must have at least one value, got []",
        ),
        ("[sweep]\nclients = [0]", "clients must be >= 1, got 0"),
        ("[tune]\nlearning_rates = [-1]", "tune.learning_rates.0 must be > 0, got -1"),
        ("[tune]\nlearning_rates = []", "tune.learning_rates must have at least one entry, got []"),
        ("at_once = 0", "at_once must be >= 1, got 0"),
        ("sedes = [1]", "sedes: unknown key; did you mean 'seeds'?"),
        ("[experiment]\nseed = 3", "experiment.seed must be left out of a study, got 3"),
        ("[experiment]\nepochs = 3", f"epochs: unknown key; known keys: {KEYS}"),
        (
            'strategies = [{name = "fedprox", mu = -1}]',
            "strategy: mu must be >= 0, got -1",
        ),
    ],
)
def test_a_bad_study_file(text: str, line: str, folder: Path, no_engine: None) -> None:
    Path("study.toml").write_text(text)
    assert_refused(sunflower("compare", "study.toml"), line)
    assert [path.name for path in folder.iterdir()] == ["study.toml"]


def test_a_report_of_nothing(folder: Path) -> None:
    assert_refused(sunflower("report", "nothing"), "nothing: there is no such folder")
    (folder / "empty").mkdir()
    assert_refused(
        sunflower("report", "empty"),
        "empty: no run here (a run folder has config.json and rounds.jsonl)",
    )
    assert list((folder / "empty").iterdir()) == []
