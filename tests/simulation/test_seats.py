"""A worker's line of calls."""

import pytest

from simulation.seats import OPEN, Seat, Tenant, Ticket


@pytest.mark.parametrize(
    ("name", "attempts", "most", "taken"),
    [("train", 0, 3, False), ("train", 2, 3, True), ("train", 0, 1, True), (OPEN, 0, 1, False)],
)
def test_no_call_waits_behind_one_that_the_next_death_of_its_worker_would_damn(
    name: str, attempts: int, most: int, taken: bool
) -> None:
    seat = Seat(None)
    assert not seat.taken
    seat.line.append(Ticket(Tenant(()), name, most=most, attempts=attempts))
    assert seat.taken is taken
