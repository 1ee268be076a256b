"""The double of a pool answers for every client once, whoever merges."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.scale import answering, measure
from simulation.engines.cohort import train_cohort


@pytest.mark.parametrize(("workers", "parameters"), [(4, 10), (1_000, 200_000)])
def test_every_client_comes_back_once(workers: int, parameters: int) -> None:
    engine = answering(300, workers, parameters)
    found = train_cohort(engine, 1, range(300), np.zeros(parameters, np.float32), {})
    assert found.rows["client"].tolist() == list(range(300))
    assert (found.rows["examples"] == engine.partition.train_sizes).all()


def test_what_is_measured() -> None:
    found = measure(200, 8, 1_000, 1)
    assert found["calls"] > 8 and found["peak_mb"] > 0
    assert (found["clients"], found["workers"]) == (200, 8)
