"""Parts are merged where they were made, and the tree says how, whoever has made them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.engines.calls import Merge, Poisoned, ValueLost
from simulation.engines.gathering import Gathering
from simulation.engines.policy import POLICY
from simulation.worker import tree


class Hosts:
    """Stands for an engine: tickets are (host, value), or errors.

    Args:
        here: the driver's node.
        lost: whether what is asked for by a merge is gone.
    """

    far = False

    def __init__(self, here: str = "", lost: bool = False) -> None:
        self.here, self.lost = here, lost
        self.merges: list[tuple[str, int]] = []
        self.told: list[Any] = []

    def values_of(self, tickets: Sequence[Any]) -> list[Any]:
        for ticket in tickets:
            if isinstance(ticket, Exception):
                raise ticket
        if self.lost and len(tickets) > 1:
            raise ValueLost("gone")
        return [value for _, value in tickets]

    def place_of(self, ticket: Any) -> str:
        return str(ticket[0])

    def submit(self, call: Merge) -> Any:
        assert call.home is not None
        self.merges.append((call.home.node, len(call.inputs)))
        return (call.home.node, _value(call.shape, call.inputs))

    def expect(self, tickets: Sequence[Any], size: int) -> None:
        self.told += tickets


def _value(shape: Any, leaves: Sequence[Any]) -> str:
    if not isinstance(shape, tuple):
        return str(leaves[shape])
    return "(" + "+".join(_value(child, leaves) for child in shape) + ")"


def gathered(places: Sequence[Any], engine: Hosts) -> tuple[str, str]:
    """Return how the driver's sum came about, and how it should."""
    leaves = [[place] for place in range(len(places))]  # Lists, as each must be an object.
    root = tree.tree([tree.tree(leaves[i : i + 7], 4) for i in range(0, len(leaves), 7)], 2)
    tickets = {
        id(leaf): place if isinstance(place, Exception) else (place, f"{leaf[0]}")
        for leaf, place in zip(leaves, places, strict=True)
    }
    gathering = Gathering(engine, tickets, 8)  # type: ignore[arg-type]
    gathering.gather(root)

    def total(node: Any, whole: bool) -> str:
        if not isinstance(node, tuple):
            return str(node[0])
        count, first = gathering.merged.get(id(node), (0, None)) if whole else (0, None)
        parts = [first[1][1:-1]] if first else []
        return "(" + "+".join(parts + [total(child, whole) for child in node[count:]]) + ")"

    return total(root, True), total(root, False)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.sampled_from(["", "a"]))
def test_the_tree_stays_whoever_has_done_what(places: list[str], here: str) -> None:
    engine = Hosts(here)
    found, right = gathered(places, engine)
    assert found == right
    # Nothing goes twice, and the driver's own host has nothing merged.
    assert all(node != here and count <= max(4 * POLICY.merge_inputs, 4)
               for node, count in engine.merges)  # fmt: skip


def test_a_host_sends_one_sum() -> None:
    engine = Hosts()
    found, right = gathered(["a"] * 28 + ["b"] * 28, engine)
    assert found == right
    assert [host for host, _ in engine.told] == ["a", "b"]


@pytest.mark.parametrize(
    ("helped", "sums"),
    [
        ("b......", 5),
        ("...b...", 3),
        ("......b", 3),
        (".....bb", 4),
        ("....bbb", 2),
        ("bbbb...", 2),
    ],
)
def test_help_costs_few_sums(helped: str, sums: int) -> None:
    """What one host has of a node's first children is one sum; here are nodes of 4 and 3 calls."""
    engine = Hosts()
    found, right = gathered(helped.replace(".", "a"), engine)
    assert found == right
    assert len(engine.told) == sums


def test_calls_scattered_at_random_send_more() -> None:
    places = ["a", "b"] * 28
    random.Random(1).shuffle(places)
    engine = Hosts()
    found, right = gathered(places, engine)
    assert found == right and len(engine.told) > 10


def test_a_call_that_failed_is_left_to_the_driver() -> None:
    places: list[Any] = ["a"] * 28
    places[9] = Poisoned("it took down 2 workers")
    engine = Hosts()
    found, right = gathered(places, engine)
    assert found == right and engine.merges


@pytest.mark.parametrize("lost", [True])
def test_what_was_lost_is_left_to_the_driver(lost: bool) -> None:
    engine = Hosts(lost=lost)
    found, right = gathered(["a"] * 56, engine)
    assert found == right and not engine.merges
