"""The laws of cutting and merging: nothing lost, nothing twice, and the pool does not matter."""

from __future__ import annotations

import numpy as np
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
    units = schedule.units(root, lambda c: float(cost[c].sum()), workers)
    below = [id(leaf) for unit in units for leaf in tree.leaves(unit)]
    assert below == [id(c) for c in chunks]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.integers(1, 50))
def test_any_pool_merges_in_the_same_order(values: list[float], workers: int) -> None:
    root = tree.tree(values, POLICY.merge_arity)

    def total(node: object) -> float:
        if isinstance(node, tuple):
            return tree.fold((total(child) for child in node), lambda a, b: a + b)
        return float(node)  # type: ignore[arg-type]

    handed = {id(unit): total(unit) for unit in schedule.units(root, lambda _: 1.0, workers)}

    def gathered(node: object) -> float:
        if id(node) in handed:
            return handed[id(node)]
        return tree.fold((gathered(c) for c in node), lambda a, b: a + b)  # type: ignore[attr-defined]

    assert gathered(root) == total(root)


def test_few_workers_are_handed_few_units() -> None:
    sizes = [60] * 1000
    root = tree.tree(cut(sizes), POLICY.merge_arity)
    cost = schedule.weights(np.array(sizes))
    count = [len(schedule.units(root, lambda c: float(cost[c].sum()), w)) for w in (2, 64)]
    assert count[0] < 100 < count[1]
