"""Partitions that are kept in the cache folder."""

import logging

import numpy as np
import pytest

from simulation.population import laws, partition
from simulation.population.on_demand import OnDemand
from simulation.population.partition import make
from tests.simulation.population.test_partition import DEALT, deal, labels, same


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUNFLOWER_CACHE", str(tmp_path))


def cached_files(tmp_path):
    return sorted((tmp_path / "partitions").glob("*"))


@pytest.mark.parametrize("kind", DEALT)
def test_a_cache_hit_gives_equal_arrays_without_dealing(kind, tmp_path, monkeypatch):
    y = labels()
    options = {"groups": (0, 1) * 5} if kind == "pachinko" else {}
    first = make(kind, y, 20, 1, **options)
    assert len(cached_files(tmp_path)) == 1

    def never(*_, **__):
        raise AssertionError("dealt again")

    monkeypatch.setattr(partition if options else laws, kind.replace("-", "_"), never)
    again = make(kind, y, 20, 1, **options)
    assert same(first, again)
    assert (again.indices.dtype, again.train.dtype) == (np.int32, np.int32)


def test_every_argument_that_matters_has_its_own_file(tmp_path):
    y = labels()
    other = y.copy()
    other[:2] = (other[:2] + 1) % 10
    base = {"kind": "dirichlet", "y": y, "clients": 20, "seed": 1}
    changes = [
        {},
        {"y": other},
        {"clients": 21},
        {"seed": 2},
        {"alpha": 0.7},
        {"validation": 0.2},
        {"kind": "inner-dirichlet"},
    ]
    for number, change in enumerate(changes, 1):
        values = {**base, **change}
        make(
            values.pop("kind"), values.pop("y"), values.pop("clients"), values.pop("seed"), **values
        )
        assert len(cached_files(tmp_path)) == number
    make("dirichlet", y, 20, 1, alpha=0.5, shards_per_client=9)  # the default, and of no matter
    assert len(cached_files(tmp_path)) == len(changes)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def garbage(path):
    path.write_text("not an archive")


def empty(path):
    path.write_bytes(b"")


def other_rows(path):
    np.savez(path, indices=np.zeros(6000, np.int32), offsets=[0, 6000], train=[5400])


def pickled(path):
    np.savez(path, indices=np.array([{}], dtype=object), offsets=[0, 1], train=[1])


@pytest.mark.parametrize("damage", [truncated, flipped, garbage, empty, other_rows, pickled])
def test_a_damaged_file_is_made_again(damage, tmp_path, caplog):
    y = labels()
    first = make("iid", y, 20, 1)
    (path,) = cached_files(tmp_path)
    whole = np.load(path)["indices"]
    damage(path)
    with caplog.at_level(logging.WARNING, "sunflower.data"):
        assert same(first, make("iid", y, 20, 1))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"cache: {path} is damaged (")
    assert message.endswith("); making the partition again")
    assert np.array_equal(np.load(path)["indices"], whole)


def test_no_temporary_file_is_left(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(partition.np, "savez", broken)
    assert len(make("iid", labels(), 20, 1)) == 20
    assert cached_files(tmp_path) == []


def test_old_files_go(tmp_path, monkeypatch):
    monkeypatch.setattr(partition, "_KEPT", 3)
    for seed in range(5):
        make("iid", labels(), 20, seed)
    assert len(cached_files(tmp_path)) == 3


def test_on_demand_and_uncached_write_nothing(tmp_path):
    assert isinstance(make("on-demand", labels(), 20, 1), OnDemand)
    deal("iid", labels(), 20)
    assert cached_files(tmp_path) == []
