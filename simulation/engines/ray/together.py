"""Calls of several runs that travel to one worker as one, which carries them out together.

Where that takes workers down, hangs or cannot be done, each call goes its own way as those of runs
alone do: who is at fault is found out there, and the others are done all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from simulation.engines.calls import AgentLost, Call, ClusterLost, Joint
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
            packed=self._packed(calls),
        )
        title = f"{parts[0].title} of {len(parts)} runs"
        ticket = Ticket(self._owner, joint, None, ATTEMPTS, title, parts=parts)
        self._pool.submit(ticket)
        try:
            self._pool.wait(ticket)
            failure = ticket.failure
            if failure is None and joint.packed:
                self._unpack(ticket)
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

    def _packed(self, calls: Sequence[Call]) -> bool:
        """Tell whether values come as one: on one machine, where all models are small.

        A small model travels with the call as it is: see :meth:`RayEngine.share`.
        """
        small = all(isinstance(getattr(call, "model", None), np.ndarray) for call in calls)
        return small and not self._pool.cluster.grows

    @staticmethod
    def _unpack(ticket: Ticket) -> None:
        """Fetch the values of all parts, and give each its own."""
        assert ticket.refs is not None
        try:
            values = ray.get(ticket.refs[1])
        except RayError:
            for part in ticket.parts:  # Done, but of no use to anybody.
                part.status = None
            raise
        pairs = zip(values[::2], values[1::2], strict=True)
        for part, pair in zip(ticket.parts, pairs, strict=True):
            part.values = pair
        ticket.refs = None
