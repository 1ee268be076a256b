"""Ask the hosts of a cluster what they have, before a run begins and as others join."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from simulation.engines.policy import POLICY
from simulation.engines.ray.cluster import ResourceError
from simulation.engines.ray.machines import Machine, common, differences, kinds, this_machine

log = logging.getLogger("sunflower.cluster")

ACCELERATOR = "accelerator_type:"
"""Begins the name of the resource by which Ray tells the kind of a node's GPUs."""


class Inspection:
    """What the hosts that hold workers have.

    Args:
        library: the backend.
        cpus: what one worker needs: nodes with less are not asked.
    """

    def __init__(self, library: str, cpus: float) -> None:
        self._library, self._cpus = library, cpus
        self._asked: dict[str, tuple[Any, Mapping[str, Any]]] = {}
        self._machines: dict[str, Machine] = {}
        self._told: str | None = None
        self._checked = False
        self.wanted: dict[str, str] = {}

    def ask(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Ask nodes that have not been asked, as ``ray.nodes`` describes them."""
        for node in nodes:
            name = node["NodeID"]
            if name in self._asked or node["Resources"].get("CPU", 0.0) < self._cpus:
                continue
            where = NodeAffinitySchedulingStrategy(name, soft=False)
            task = ray.remote(this_machine).options(
                num_cpus=0, max_retries=0, scheduling_strategy=where, name="sunflower versions"
            )
            self._asked[name] = (task.remote(self._library, node["NodeManagerAddress"]), node)

    def check(self, seconds: float = POLICY.hosts_seconds) -> None:
        """Wait for the answers, once; those that come later are only warned of.

        Raises:
            ResourceError: where hosts have other versions than most, or lack a library.
        """
        if self._checked:
            return
        self._checked = True
        began = time.monotonic()
        refs = [ref for name, (ref, _) in self._asked.items() if name not in self._machines]
        ray.wait(refs, num_returns=len(refs), timeout=seconds) if refs else None
        self._gather()
        late = [node for name, (_, node) in self._asked.items() if name not in self._machines]
        if late:
            hosts = ", ".join(sorted(node["NodeManagerAddress"] for node in late))
            waited = time.monotonic() - began
            log.warning("%s has not told its versions within %.0f s", hosts, waited)
        machines = list(self._machines.values())
        ours = this_machine("", "this machine")
        # What computes is asked of those that compute: the driver needs no backend.
        if wrong := differences([*machines, ours]):
            more = f" and {len(wrong) - 3} hosts more" if len(wrong) > 3 else ""
            raise ResourceError(
                "resources.address must be that of a cluster whose hosts have the same versions, "
                f"got one where {'; '.join(wrong[:3])}{more}"
            )
        self.wanted = common([*machines, ours])

    def remark(self) -> str | None:
        """Return what is to be said of processors; None where it was said, or they are alike."""
        self._gather()
        found = kinds(list(self._machines.values()))
        if found is None or found == self._told:
            return None
        self._told = found
        return f"hosts with unlike processors may give other last bits: {found}"

    def _gather(self) -> None:
        missing = [ref for name, (ref, _) in self._asked.items() if name not in self._machines]
        done = set(ray.wait(missing, num_returns=len(missing), timeout=0)[0]) if missing else set()
        for name, (ref, node) in self._asked.items():
            if ref in done:
                with suppress(RayError):  # The node has gone, or cannot start a process.
                    self._machines[name] = replace(
                        ray.get(ref, timeout=POLICY.pull_first), accelerators=_accelerators(node)
                    )


def _accelerators(node: Mapping[str, Any]) -> tuple[str, ...]:
    named = (name for name in node["Resources"] if name.startswith(ACCELERATOR))
    return tuple(sorted(name.removeprefix(ACCELERATOR) for name in named))
