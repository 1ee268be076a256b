"""Clusters of hosts: a head and a desk for the driver, without CPUs, and two workers' hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hosts.network import network, why_not
from tests.hosts.runs import LONG, PATIENT, QUICK, HostCluster, Outcome


@pytest.fixture(scope="session")
def can_make_networks() -> None:
    """Skip all, with one line, where this machine makes no networks."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)


@pytest.fixture
def lasting(whole: HostCluster) -> HostCluster:
    """The cluster of tests that leave it as it was, after what the last one did to it."""
    whole.recover()
    return whole


@contextmanager
def cluster(
    folder: Path, *more: str, settings: Mapping[str, str] | None = None
) -> Iterator[HostCluster]:
    """Start Ray on hosts; ``more`` are hosts on which it does not run yet."""
    with network(("head", "desk", "one", "two", *more)) as made:
        started = HostCluster(made, folder, settings)
        started.start()
        yield started


@pytest.fixture(scope="session")
def whole(
    can_make_networks: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HostCluster]:
    """A cluster for all tests that leave it as it was."""
    with cluster(tmp_path_factory.mktemp("hosts")) as started:
        yield started


@pytest.fixture
def fresh(can_make_networks: None, tmp_path: Path) -> Iterator[HostCluster]:
    """A cluster for one test."""
    with cluster(tmp_path, "spare") as started:
        yield started


@pytest.fixture
def quick(can_make_networks: None, tmp_path: Path) -> Iterator[HostCluster]:
    """A cluster for one test, whose Ray gives silent connections up soon."""
    with cluster(tmp_path, settings=QUICK) as started:
        yield started


@pytest.fixture
def patient(can_make_networks: None, tmp_path: Path) -> Iterator[HostCluster]:
    """The same, whose head waits longer for a silent host."""
    with cluster(tmp_path, settings=PATIENT) as started:
        yield started


@pytest.fixture(scope="session")
def calm(whole: HostCluster) -> Outcome:
    """The run that nothing happens to."""
    return whole.run("calm")


@pytest.fixture(scope="session")
def long_calm(whole: HostCluster) -> Outcome:
    """The longer run that nothing happens to."""
    whole.recover()
    return whole.run("long-calm", rounds=LONG)
