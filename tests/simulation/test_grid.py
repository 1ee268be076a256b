"""The pool of Ray actors when things go wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from simulation.config.experiment import Experiment
from simulation.engines.ray.engine import EVEN, HAND_OVER, PIECE, RayGrid
from simulation.population.deal import prepare
from simulation.worker.faults import WorkerError
from simulation.worker.setup import Setup
from strategies import WeightedMean


@pytest.fixture
def grid(small: Experiment, ray_cluster: Any) -> Iterator[RayGrid]:
    resources = small.resources.model_copy(update={"engine": "ray", "workers": 2})
    made = RayGrid(resources)
    made.start(Setup(small, reducer=WeightedMean()), *prepare(small))
    yield made
    made.close()


def test_a_killed_worker_is_replaced_and_its_clients_train_again(grid: RayGrid) -> None:
    model = grid.info().initial
    everyone = range(12)
    total, rows = grid.train(1, everyone, model, {})
    victims = [grid.cluster_pid(seat) for seat in range(2)]
    done = []

    def kill(kind: str, clients: int, examples: int) -> None:
        if not done:
            done.append(clients)
            os.kill(victims[0], signal.SIGKILL)

    grid.progress = kill
    again, rows_again = grid.train(1, everyone, model, {})
    assert done
    np.testing.assert_array_equal(again.delta, total.delta)
    assert rows_again["client"].tolist() == rows["client"].tolist() == list(everyone)
    assert grid.cluster_pid(0) != victims[0] or grid.cluster_pid(1) != victims[1]


def test_an_exception_in_a_worker_names_itself(grid: RayGrid) -> None:
    with pytest.raises(WorkerError, match="IndexError: client must be between 0 and 11, got 99"):
        grid.result(grid.submit("train", 1, np.array([99]), grid.info().initial, {}, [None]))


def test_a_reply_that_does_not_come_in_time(grid: RayGrid) -> None:
    model = grid.info().initial
    ticket = grid.submit("train", 1, np.arange(12), model, {}, [None] * 12)
    with pytest.raises(TimeoutError):
        grid.result(ticket, timeout=0.0)
    assert grid.result(ticket)[1]["client"].size == 12


def test_portions_are_worth_a_hand_over(grid: RayGrid) -> None:
    total = 2000.0
    assert grid.grain(total) == 0.0  # nothing is known of the pace
    seats = grid.pool.seats
    model = grid.info().initial
    first, _ = grid.train(1, range(12), model, {})
    for pace in (100.0, 1e9):  # cost a second
        grid._tenant.worked = {seat: (2.0, 2.0 * pace) for seat in seats}
        least = min(PIECE * pace, total / (len(seats) * EVEN))
        assert grid.grain(total) == pytest.approx(least)
        assert grid.seconds(total) == pytest.approx(total / (2 * pace))
        again, _ = grid.train(1, range(12), model, {})
        np.testing.assert_array_equal(first.delta, again.delta)
    # One driver hands out to all: a hundred workers get larger portions.
    grid.pool.seats = seats * 50
    grid._tenant.worked = {seat: (2.0, 2.0) for seat in seats}
    assert HAND_OVER * 100 > PIECE
    assert grid.grain(1e6) == pytest.approx(HAND_OVER * 100)
    grid.pool.seats = seats
