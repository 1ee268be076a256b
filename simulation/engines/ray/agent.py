"""Ray's agent on this machine, its process ``raylet``: without it nothing that runs here goes on.

Where it dies, Ray ends this process some 15 s later, in the middle of whatever it does. It is found
out before.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import psutil

from simulation.engines.policy import POLICY

SOCKET = "--raylet_socket_name="
"""Begins the agent's argument that tells it from others on this machine."""


class Agent:
    """Look whether a process is there, now and then.

    Args:
        process: the agent's; None where it is not known, as for ``ray://``.
    """

    def __init__(self, process: psutil.Process | None) -> None:
        self._process, self._looked, self._gone = process, time.monotonic(), False

    @property
    def gone(self) -> bool:
        """Whether it has died."""
        now = time.monotonic()
        if self._process is not None and not self._gone and now - self._looked > POLICY.glance / 2:
            self._looked = now
            with suppress(psutil.AccessDenied):
                try:
                    status = self._process.status()
                except psutil.NoSuchProcess:
                    status = psutil.STATUS_DEAD
                self._gone = status in (psutil.STATUS_DEAD, psutil.STATUS_ZOMBIE)
        return self._gone


def agent_of(node: str, nodes: Iterable[Mapping[str, Any]]) -> Agent:
    """Return the agent of this process's node.

    Args:
        node: its id.
        nodes: all, as ``ray.nodes`` describes them.
    """
    sockets = [one.get("RayletSocketName") for one in nodes if one["NodeID"] == node]
    wanted = [f"{SOCKET}{socket}" for socket in sockets if socket]
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "raylet" and set(wanted) & set(process.info["cmdline"] or ()):
            return Agent(process)
    return Agent(None)
