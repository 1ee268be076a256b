"""Calls of several runs that travel to one worker as one, which carries them out together.

Where that takes workers down, hangs or cannot be done, each call goes its own way as those of runs
alone do: who is at fault is found out there, and the others are done all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from simulation.engines.calls import AgentLost, ClusterLost, Joint
from simulation.engines.ray.pool import Pool
from simulation.engines.ray.slots import PoolRun, Ticket

log = logging.getLogger("sunflower.grid")

ATTEMPTS = 2
"""Workers that a joint call may take down before its calls go one by one."""


class JointCalls:
    """Carries out what the runs of a group ask for at the same time.

    Args:
        pool: of the runs.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._owner: PoolRun | None = None

    def carry_out(self, asked: Mapping[Any, Ticket]) -> dict[Any, None]:
        """See calls through, or on their way by themselves: their tickets tell how they went."""
        parts = tuple(asked.values())
        if self._owner is None or self._owner.failure is not None:
            self._owner = PoolRun((), parts[0].owner.faults)
        calls = [part.call for part in parts if part.call is not None]
        joint = Joint(
            calls=tuple((part.owner.number, part.call) for part in parts if part.call is not None),
            cost=sum(call.cost for call in calls),
            clients=sum(call.clients for call in calls),
            examples=sum(call.examples for call in calls),
        )
        title = f"{parts[0].title} of {len(parts)} runs"
        ticket = Ticket(self._owner, joint, None, ATTEMPTS, title, parts=parts)
        self._pool.submit(ticket)
        try:
            self._pool.wait(ticket)
            failure = ticket.failure
        except (AgentLost, ClusterLost):
            raise
        except Exception as error:
            failure = error
        if failure is not None:
            log.warning("%s go one by one: %s", title, failure)
            for part in parts:
                if not part.over:
                    self._pool.submit(part)
        return dict.fromkeys(asked)
