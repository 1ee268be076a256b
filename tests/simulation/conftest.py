from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from simulation.config.experiment import Experiment, parse
from simulation.config.sections import Resources
from simulation.training import trainers

FAILING = "tests.simulation.engines.ray.failing:Failing"
SMALL: dict[str, Any] = {
    "dataset": "fashion-mnist-mini",
    "model": "mlp",
    "clients": 12,
    "rounds": 2,
    "partition": {"alpha": 0.5},
    "resources": {"engine": "inline"},
}


@pytest.fixture
def small() -> Experiment:
    """Twelve unequal clients, two rounds, in this process."""
    return parse(SMALL)


@pytest.fixture(scope="session", autouse=True)
def compiled() -> Iterator[None]:
    """Keep the graphs of more runs than usual: those of many tests are of the same kinds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers, "KEPT_TRAINERS", 64)
        yield


@contextmanager
def local_ray() -> Iterator[Any]:
    """Start a Ray of this machine alone, of four logical CPUs."""
    import ray

    from simulation.engines.ray.private import lean

    # "local": while a test beside this one has a cluster of nodes, Ray would join that otherwise.
    with lean():
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """One Ray for all tests that need it."""
    with local_ray() as ray:
        yield ray


@pytest.fixture(scope="session")
def pool(ray_cluster: Any) -> Iterator[Any]:
    """Two workers for all tests, whose TensorFlow is loaded once; Ray has CPUs left for others.

    Clients fail on them as the experiment's name says (:class:`Failing`).
    """
    from simulation.engines.ray.pool import Pool

    made = Pool(Resources(workers=2, client_cpus=0.5), FAILING)
    yield made
    made.close()


@pytest.fixture
def lent(pool: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Let runs that would start workers have those of ``pool``, which outlive them."""
    monkeypatch.setattr(pool, "close", lambda: None)
    for module in ("pool", "engine"):
        monkeypatch.setattr(f"simulation.engines.ray.{module}.Pool", lambda *_, **__: pool)
    yield pool
    pool._stopping = False  # A study that fails tells all that wait for workers to stop.


@pytest.fixture
def quiet_again() -> Iterator[None]:
    """Give loggers back what the command line takes from them."""
    names = ("flwr", "py.warnings", "ray")
    before = {n: (list((log := logging.getLogger(n)).handlers), log.propagate) for n in names}
    yield
    logging.captureWarnings(False)
    for name, (handlers, propagate) in before.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = handlers, propagate
