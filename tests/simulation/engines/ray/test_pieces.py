"""Results that come in pieces with a worker's answers."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from simulation.engines.policy import POLICY
from simulation.engines.ray.actor import Worker
from simulation.engines.ray.pieces import Apart, Pieces, bring


class Holder:
    """What a worker does with its values."""

    take_apart, pieces, keep = Worker.take_apart, Worker.pieces, Worker.keep

    def __init__(self) -> None:
        self._coming: dict[bytes, list[bytes]] = {}
        self._fetched: list[tuple[bytes, Any]] = []

    def kept(self) -> list[tuple[bytes, Any]]:
        return self._fetched

    def make(self, size: int) -> Any:
        return {"part": np.arange(size, dtype=np.float64), "clients": [1, 2]}


@pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
def test_a_value_comes_in_pieces(size: int, ray_cluster: Any) -> None:
    """Of one piece, of some, and of more than come with one answer."""
    holder = ray_cluster.remote(Holder).options(num_cpus=0).remote()
    ref = holder.make.remote(size)
    pieces, end = Pieces(holder, ref), time.monotonic() + 60
    while not pieces.done():
        assert time.monotonic() < end
        time.sleep(0.01)
    found = pieces.result()
    np.testing.assert_array_equal(found["part"], np.arange(size, dtype=np.float64))
    assert found["clients"] == [1, 2]


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_a_value_is_brought_in_pieces(size: int, ray_cluster: Any) -> None:
    holder = ray_cluster.remote(Holder).options(num_cpus=0).remote()
    model = np.arange(size, dtype=np.float64)
    ref = ray_cluster.put(model)
    bring(holder, ref)
    ((key, found),) = ray_cluster.get(holder.kept.remote())
    assert key == ref.binary()
    np.testing.assert_array_equal(found, model)


def test_pieces_are_small_enough_and_none_is_missing() -> None:
    value = np.random.default_rng(0).bytes(5 * POLICY.piece_bytes)
    apart = Apart(value)
    pieces = [piece for i in range(len(apart)) for piece in apart.some(i, 1)]
    assert len(pieces) == 6 and max(map(len, pieces)) == POLICY.piece_bytes
    assert apart.some(0, 6) == pieces and value in b"".join(pieces)


def test_pieces_of_a_worker_that_is_gone_never_come(ray_cluster: Any) -> None:
    holder = ray_cluster.remote(Holder).options(num_cpus=0).remote()
    ref = holder.make.remote(1)
    ray_cluster.get(ref)
    ray_cluster.kill(holder)
    pieces = Pieces(holder, ref)
    with pytest.raises(ray_cluster.exceptions.RayActorError):
        pieces._count.result(60)
    assert not pieces.done()
