"""The check before the first round: what a run needs at least, and what the nodes have."""

from __future__ import annotations

from typing import Any

import pytest

from simulation.config.experiment import parse
from simulation.config.sections import Resources
from simulation.engines.ray import cluster
from simulation.runs import memory
from simulation.runs.memory import MemoryShort
from simulation.worker.setup import Setup
from strategies import WeightedMean, catalog
from strategies.families import robust as robust_family

GIB = 2**30


@pytest.mark.parametrize("name", catalog.names())
def test_reducers_that_keep_updates_are_known(name: str) -> None:
    algorithm: Any = catalog.build(name)
    # The weights of AFL are not told before all updates are there.
    keeps = name in robust_family.FAMILY or name == "afl"
    assert memory.keeps_updates(algorithm.reducer, algorithm.client.uploads) == keeps


def test_a_run_that_fits_and_one_that_does_not() -> None:
    experiment = parse({"clients": 1000, "cohort": 100})
    setup = Setup(experiment, reducer=WeightedMean())
    each = memory.BASE + 10**8 * (6 * 4 + 3 * 8)
    memory.check(10**8, 4, [4.0 * each], experiment, setup)
    memory.check(10**8, 4, [], experiment, setup)
    with pytest.raises(MemoryShort) as caught:
        memory.check(10**8, 4, [4.0 * each - 1], experiment, setup)
    assert str(caught.value) == (
        f"memory of the nodes must be at least {4 * each / GIB:.1f} GiB "
        f"(4 workers x {each / GIB:.1f} GiB), got {4 * each / GIB:.1f} GiB; "
        "use fewer workers, a smaller cohort or a smaller model"
    )


def test_updates_that_are_kept_count_and_states_do_not() -> None:
    experiment = parse({"clients": 1000, "cohort": 100})
    median: Any = catalog.build("median")
    scaffold: Any = catalog.build("scaffold")
    kept = Setup(experiment, median.client, median.reducer)
    assert memory.shared_bytes(10**6, experiment, kept) == 4 * 10**6 * 100
    states = Setup(experiment, scaffold.client, scaffold.reducer)
    assert memory.shared_bytes(10**6, experiment, states) == 0  # they are in files


def test_another_version_of_ray_or_python_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray._private.utils import check_version_info

    def init(**_: Any) -> None:
        check_version_info({"ray_version": "2.0.0", "python_version": "3.8.1"}, "this machine")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster, "why_not", lambda address: None)  # There is no such host.
    with pytest.raises(cluster.ResourceError) as caught:
        cluster.Cluster(Resources(address="head:6379"))
    assert str(caught.value).startswith(
        "resources.address must be that of a cluster with the same Ray and Python, "
        "got 'head:6379' (Version mismatch: The cluster was started with: Ray: 2.0.0 "
        "Python: 3.8.1 This process on this machine was started with: Ray: "
    )
