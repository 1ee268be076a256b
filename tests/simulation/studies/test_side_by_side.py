"""Several runs on one pool: the bits of each are those of a run by itself; Ctrl-C ends them all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from simulation.config.experiment import Experiment, parse
from simulation.records.reading import is_complete, read_json, read_rounds
from simulation.runs.run import Listener, simulate
from simulation.studies.campaign import carry_out
from simulation.studies.side_by_side import CALLS, SPARE, runs_at_once, side_by_side
from simulation.training.trainers import essence, kind_of
from simulation.worker.faults import ClientError
from strategies import catalog

SMALL: dict[str, Any] = {
    "dataset": "fashion-mnist-mini",
    "model": "logistic",
    "clients": 6,
    "cohort": 3,
    "rounds": 3,
    "partition": {"alpha": 0.5},
    "evaluation": {"every": 3},
}
RAY = {"engine": "ray", "workers": 2}
KINDS: dict[str, dict[str, Any]] = {
    "fedavg": {"seed": 1},
    "scaffold": {"strategy": "scaffold"},
    "fedprox": {"strategy": {"name": "fedprox", "mu": 1.0}, "seed": 2},
    "pooled": {"mode": "centralised", "model": "mlp", "rounds": 1},
}


def plan(**more: Any) -> dict[str, Experiment]:
    return {name: parse({**SMALL, **kind, **more}) for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def apart(tmp_path_factory: Any) -> dict[str, str]:
    """The weights of every run by itself, without Ray."""
    out = tmp_path_factory.mktemp("apart")
    done = {
        name: simulate(one, out=out / name)
        for name, one in plan(resources={"engine": "inline"}).items()
    }
    return {name: result.summary["weights_sha256"] for name, result in done.items()}


def test_runs_on_one_pool_give_the_bits_of_runs_apart(
    apart: dict[str, str], tmp_path: Path, lent: Any
) -> None:
    seen: set[int] = set()

    @contextmanager
    def watch(name: str, experiment: Experiment, state: str) -> Iterator[Listener]:
        seen.add(threading.get_ident())
        yield Listener()

    outcome = carry_out(plan(resources=RAY), tmp_path, watch, at_once=3)
    assert outcome.complete == list(KINDS) and not outcome.failed
    assert len(seen) == 3
    for name in KINDS:
        summary = read_json(tmp_path / name / "summary.json") or {}
        assert summary["weights_sha256"] == apart[name]
        assert summary["busy_seconds"] > 0
        text = (tmp_path / name / "run.log").read_text()
        assert text.count("2 workers") == 1  # its own lines, and nobody else's


@pytest.mark.soak
def test_a_failure_leaves_the_others_alone_and_ctrl_c_leaves_all_resumable(
    apart: dict[str, str], tmp_path: Path, ray_cluster: Any
) -> None:
    runs = plan(resources=RAY)
    runs["bad"] = runs["fedavg"].replace(**{"training.learning_rate": 1e38, "seed": 9})
    lines: list[str] = []

    class Stop(Listener):
        def line(self, record: Any) -> None:
            lines.append(str(record["round"]))
            if len(lines) == 6:
                raise KeyboardInterrupt  # as the main thread would have it, and all others with it

    @contextmanager
    def watch(name: str, experiment: Experiment, state: str) -> Iterator[Listener]:
        yield Stop()

    with pytest.raises(KeyboardInterrupt):
        carry_out(runs, tmp_path, watch, at_once=3)
    left = [n for n in KINDS if not is_complete(tmp_path / n, runs[n].digest())]
    assert left
    outcome = carry_out(runs, tmp_path, at_once=2)
    assert outcome.complete == list(KINDS)
    assert isinstance(outcome.failed["bad"], ClientError)  # its updates are not finite
    for name in KINDS:
        summary = read_json(tmp_path / name / "summary.json") or {}
        assert summary["weights_sha256"] == apart[name]
        rounds = [record["round"] for record in read_rounds(tmp_path / name)]
        assert rounds == list(range(runs[name].rounds + 1))


def test_as_many_runs_at_once_as_keep_the_workers_busy() -> None:
    def runs(cohort: int, count: int = 40) -> list[Experiment]:
        return [parse({"clients": 1000, "cohort": cohort}) for _ in range(count)]

    assert runs_at_once(runs(1000), workers=4) == 1 + SPARE
    assert runs_at_once(runs(10), workers=50) == CALLS * 50 // 10 + SPARE
    assert runs_at_once(runs(10, count=3), workers=50) == 3
    pooled = [parse({"mode": "centralised"})] * 20
    assert runs_at_once(pooled, workers=2) == CALLS * 2 + SPARE


def test_an_error_of_one_thread_ends_all() -> None:
    stopped, done = threading.Event(), []

    def attempt(name: str) -> None:
        if name == "bad":
            raise OSError("full")
        done.append(name)
        assert stopped.wait(10)
        raise KeyboardInterrupt

    with pytest.raises(OSError, match="full"):
        side_by_side(["good", "bad", "never"], attempt, 2, stopped.set)
    assert done == ["good"]


def test_bad_input_that_only_a_worker_finds_ends_the_study(
    tmp_path: Path, lent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def counted(*given: Any, **more: Any) -> Any:
        made.append(given)
        return lent

    monkeypatch.setattr("simulation.engines.ray.pool.Pool", counted)
    changes = {"resources": RAY, "training": {"loss": "nonsense"}}
    with pytest.raises(ValueError, match=r"training\.loss must be a Keras loss by name"):
        carry_out(plan(**changes), tmp_path)
    assert len(made) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_decides_a_graph() -> None:
    from simulation.datasets.registry import load

    data = load("fashion-mnist-mini")

    def kind(changes: dict[str, Any]) -> Any:
        one = parse({**SMALL, **changes})
        algorithm = catalog.build(one.strategy.name, **one.strategy.options)
        return kind_of(one, algorithm.client, data)

    plain = kind({})
    for same in (
        {"seed": 7},
        {"partition": {"alpha": 9.0}},
        {"strategy": "fedadam"},
        {"training": {"local_epochs": 3}},
        {"training": {"batch_size": 7}},
    ):
        assert kind(same) == plain
    for other in (
        {"model": "mlp"},
        {"strategy": "fedprox"},
        {"strategy": "scaffold"},
        {"training": {"learning_rate": 0.3}},
        {"training": {"momentum": 0.9}},
    ):
        assert kind(other) != plain
    near, far = ({"strategy": {"name": "fedprox", "mu": mu}} for mu in (0.1, 10.0))
    assert kind(near) == kind(far)  # mu travels as data


def test_functions_are_known_by_what_they_do() -> None:
    def scaled(factor: float) -> Any:
        return lambda g: factor * g

    import cloudpickle

    copy = cloudpickle.loads(cloudpickle.dumps(scaled(2.0)))
    assert copy is not scaled(2.0) and essence(copy) == essence(scaled(2.0))
    assert essence(scaled(2.0)) != essence(scaled(3.0))
    thing = object()
    assert essence(scaled(thing)) == essence(scaled(thing))  # type: ignore[arg-type]
    assert essence(scaled(thing)) != essence(scaled(object()))  # type: ignore[arg-type]
