"""The laws of cutting and merging: nothing lost, nothing twice, and the pool does not matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.engines import schedule
from simulation.engines.policy import POLICY
from simulation.worker import tree

cohorts = st.lists(st.integers(1, 5000), min_size=1, max_size=300)


def cut(sizes: list[int]) -> list[np.ndarray]:
    cost = schedule.weights(np.array(sizes))
    return schedule.cut(range(len(sizes)), cost)


@given(cohorts)
def test_every_client_is_in_one_chunk(sizes: list[int]) -> None:
    ids = np.concatenate(cut(sizes))
    assert sorted(ids.tolist()) == list(range(len(sizes)))


@given(cohorts)
def test_no_chunk_of_several_clients_exceeds_its_share(sizes: list[int]) -> None:
    cost = schedule.weights(np.array(sizes))
    left = cost.sum()
    for chunk in cut(sizes):
        own = cost[chunk].sum()
        assert len(chunk) == 1 or own <= left * POLICY.chunk_share * (1 + 1e-9)
        left -= own


@given(cohorts, st.permutations(range(20)))
def test_order_of_the_cohort_does_not_matter(sizes: list[int], order: list[int]) -> None:
    sizes = (sizes * 20)[:20]
    cost = schedule.weights(np.array(sizes))
    one = schedule.cut(range(20), cost)
    other = schedule.cut(order, cost[order])
    assert [c.tolist() for c in one] == [c.tolist() for c in other]


@given(cohorts, st.integers(1, 200))
def test_units_are_the_tree_cut_at_some_height(sizes: list[int], workers: int) -> None:
    chunks = cut(sizes)
    root = tree.tree(chunks, POLICY.merge_arity)
    assert [id(c) for c in tree.leaves(root)] == [id(c) for c in chunks]
    cost = schedule.weights(np.array(sizes))
    units = schedule.units([root], lambda c: float(cost[c].sum()), workers)
    below = [id(leaf) for unit in units for leaf in tree.leaves(unit)]
    assert below == [id(c) for c in chunks]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.integers(1, 50))
def test_any_pool_merges_in_the_same_order(values: list[float], workers: int) -> None:
    root = tree.tree(values, POLICY.merge_arity)

    def total(node: object) -> float:
        if isinstance(node, tuple):
            return tree.fold((total(child) for child in node), lambda a, b: a + b)
        return float(node)  # type: ignore[arg-type]

    handed = {id(unit): total(unit) for unit in schedule.units([root], lambda _: 1.0, workers)}

    def gathered(node: object) -> float:
        if id(node) in handed:
            return handed[id(node)]
        return tree.fold((gathered(c) for c in node), lambda a, b: a + b)  # type: ignore[attr-defined]

    assert gathered(root) == total(root)


def leaf_cost(cost: np.ndarray) -> Callable[[Any], float]:
    return lambda leaf: float(cost[leaf].sum())


@given(cohorts, st.sampled_from([1, 8, 32]))
def test_a_grown_tree_has_every_client_once(sizes: list[int], least: int) -> None:
    cost = schedule.weights(np.array(sizes))
    root = schedule.grow(range(len(sizes)), cost, least)
    assert sorted(tree.clients_below(root)) == list(range(len(sizes)))


@given(cohorts, st.permutations(range(40)))
def test_a_grown_tree_does_not_depend_on_the_order(sizes: list[int], order: list[int]) -> None:
    sizes = (sizes * 40)[:40]
    cost = schedule.weights(np.array(sizes))
    one, other = schedule.grow(range(40), cost), schedule.grow(order, cost[order])
    assert tree.clients_below(one) == tree.clients_below(other)


@given(cohorts)
def test_branches_differ_by_a_client_at_most(sizes: list[int]) -> None:
    cost = schedule.weights(np.array(sizes))
    found = [float(cost[branch].sum()) for branch in schedule.deal(range(len(sizes)), cost)]
    assert len(found) in (1, 2, 4, POLICY.branches)
    assert max(found) - min(found) <= cost.max() * (1 + 1e-12)


@given(cohorts, st.lists(st.floats(0.1, 10), min_size=1, max_size=9))
def test_hosts_have_all_of_the_tree_in_order(sizes: list[int], parts: list[float]) -> None:
    cost = schedule.weights(np.array(sizes))
    root = schedule.grow(range(len(sizes)), cost)
    dealt = schedule.homes(root, leaf_cost(cost), parts)
    below = [id(leaf) for nodes in dealt for node in nodes for leaf in tree.leaves(node)]
    assert len(dealt) == len(parts) and below == [id(leaf) for leaf in tree.leaves(root)]
    units = schedule.units([n for nodes in dealt for n in nodes], leaf_cost(cost), 3)
    assert [id(leaf) for unit in units for leaf in tree.leaves(unit)] == below


@pytest.mark.parametrize("hosts", [1, 2, 4, 8])
@given(seed=st.integers(0, 2**32), count=st.integers(150, 400))
def test_equal_hosts_have_one_node_of_the_tree_each(hosts: int, seed: int, count: int) -> None:
    sizes = np.random.default_rng(seed).integers(1, 500, count)
    cost = schedule.weights(sizes)
    root = schedule.grow(range(len(sizes)), cost)
    dealt = schedule.homes(root, leaf_cost(cost), [1.0] * hosts)
    assert [len(nodes) for nodes in dealt] == [1] * hosts


def test_a_host_twice_as_fast_has_twice_as_much() -> None:
    cost = schedule.weights(np.full(300, 60))
    dealt = schedule.homes(schedule.grow(range(300), cost), leaf_cost(cost), [2.0, 1.0, 1.0])
    shares = [sum(len(tree.clients_below(node)) for node in nodes) / 300 for nodes in dealt]
    assert np.allclose(shares, [0.5, 0.25, 0.25], atol=0.02)


def test_few_workers_are_handed_few_units() -> None:
    sizes = [60] * 1000
    root = tree.tree(cut(sizes), POLICY.merge_arity)
    cost = schedule.weights(np.array(sizes))
    count = [len(schedule.units([root], lambda c: float(cost[c].sum()), w)) for w in (2, 64)]
    assert count[0] < 100 < count[1]
