"""Ray itself: start it here or join a running cluster, and count what it offers."""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
from collections.abc import Sequence
from typing import Any

from simulation.config.errors import ConfigError
from simulation.config.sections import Resources
from simulation.engines.policy import POLICY
from simulation.engines.ray.agent import Agent, agent_of
from simulation.engines.ray.joining import why_not
from simulation.engines.ray.limits import Answer
from simulation.engines.ray.private import AT_LOOPBACK, LATE, OTHER_VERSION, lean, loopback
from simulation.engines.ray.quiet import without_remarks
from simulation.engines.ray.shipping import runtime_env
from simulation.engines.ray.watch import host_and_port
from simulation.worker.faults import WorkerError

log = logging.getLogger("sunflower.cluster")

ATTEMPTS = 2
"""Starts of Ray."""

_NUMBERS = itertools.count(1)
"""Numbers of the workers that this process makes: Ray wants no name twice."""


LEFT_BEHIND = threading.Event()
"""Set where a cluster was lost: Ray is still in this process, and its own end would wait for it."""


class ResourceError(ConfigError):
    """Resources asked for that no node has."""


class Cluster:
    """A Ray cluster, joined or started for as long as this object is open.

    Args:
        resources: what each worker needs, and where the cluster is.
        ship: files and folders with modules that the nodes of a cluster must have.

    Raises:
        ResourceError: when no node can hold one worker, or the address does not answer.
        WorkerError: when Ray does not start here within its time.
    """

    def __init__(self, resources: Resources, ship: Sequence[str] = ()) -> None:
        with without_remarks():
            import ray

        # Ray would report usage over the network, and warn about variables we set on purpose.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self._owner = not ray.is_initialized()
        self._address = address = address_of(resources)
        if self._owner:
            self._init(ray, resources, address, ship)
        self._resources = resources
        self._alive, self._free = Answer(alive), Answer(ray.available_resources)
        self.nodes = alive()
        self.grows = address is not None or len(self.nodes) > 1
        try:
            self.workers = kinds_of_workers(resources, [n["Resources"] for n in self.nodes])
        except ResourceError:
            self.close()
            raise

    @property
    def memory(self) -> list[float]:
        """Memory of each node that can hold workers, in bytes, object store included."""
        cpus = self._resources.client_cpus
        return [
            node["Resources"].get("memory", 0.0) + node["Resources"].get("object_store_memory", 0.0)
            for node in self.nodes
            if node["Resources"].get("CPU", 0.0) >= cpus and "memory" in node["Resources"]
        ]

    @property
    def head(self) -> tuple[str, int] | None:
        """Host and port that the cluster's head listens at; None where that is not known."""
        import ray

        if self._address is not None and self._address.startswith("ray://"):
            return host_and_port(self._address)
        return host_and_port(ray.get_runtime_context().gcs_address)

    @property
    def here(self) -> str:
        """This machine's node; "" where it is none."""
        import ray

        if self._address is not None and self._address.startswith("ray://"):
            return ""
        return str(ray.get_runtime_context().get_node_id())

    def agent(self) -> Agent:
        """Return Ray's agent on this machine, where it is a node."""
        return agent_of(self.here, self.nodes) if self.here else Agent(None)

    def look(self, seconds: float) -> list[dict[str, Any]] | None:
        """Ask the head for the nodes there are; None where it does not answer in time."""
        found = self._alive.within(seconds)
        if found is not None:
            self.nodes = found
        return found

    def room(self) -> list[float]:
        """Return the GPUs of each worker that the last nodes seen can hold; nothing if none can."""
        try:
            return kinds_of_workers(self._resources, [n["Resources"] for n in self.nodes])
        except ResourceError:
            return []

    def lacking(self, gpus: float = 0.0) -> str | None:
        """Return what one more worker waits for; None where there is room, or nobody answers.

        Args:
            gpus: what it needs of them, besides its CPUs.
        """
        free = self._free.within(POLICY.glance / 10)
        if free is None:
            return None
        needs = {"CPU": self._resources.client_cpus, "GPU": gpus}
        short = [(kind, need) for kind, need in needs.items() if free.get(kind, 0.0) < need]
        if not short:
            return None
        texts = []
        for kind, need in short:
            every = sum(node["Resources"].get(kind, 0.0) for node in self.nodes)
            texts.append(f"it needs {need:g} {kind}s, and {free.get(kind, 0.0):g} of {every:g}")
        return f"{', '.join(texts)} are free: other runs have the rest"

    def share(self, gpus: float) -> dict[str, Any]:
        """Return the options of a new worker's actor: what it holds, and its name in Ray."""
        # Ray keeps actors without GPUs away from nodes with some, as long as others have room.
        return {
            "name": f"sunflower worker {next(_NUMBERS)}",
            "num_cpus": self._resources.client_cpus,
            "num_gpus": gpus,
        }

    def _init(
        self, ray: Any, resources: Resources, address: str | None, ship: Sequence[str]
    ) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is not None:
            if (reason := why_not(address)) is not None:
                raise ResourceError(
                    f"resources.address must be that of a running Ray cluster, "
                    f"got {address!r} ({reason})"
                )
            try:
                ray.init(address=address, runtime_env=runtime_env(ship) or None, **quiet)
            except (ConnectionError, ValueError, RuntimeError) as error:
                if OTHER_VERSION in str(error):
                    raise ResourceError(
                        "resources.address must be that of a cluster with the same Ray and "
                        f"Python, got {address!r} ({' '.join(str(error).split())})"
                    ) from None
                raise ResourceError(
                    f"resources.address must be that of a running Ray cluster, "
                    f"got {address!r} ({str(error).splitlines()[0]})"
                ) from None
            return
        cpus = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        if resources.client_cpus > cpus:
            raise ResourceError(
                f"resources.client_cpus must be at most the CPUs of a node ({cpus:g}), "
                f"got {resources.client_cpus:g}"
            )
        wanted = (resources.workers or 0) * resources.client_cpus
        if wanted > cpus:
            log.warning("%g CPUs for workers on a machine of %g: they will share", wanted, cpus)
        local = {"address": "local", "include_dashboard": False, **AT_LOOPBACK}
        count = max(1, round(max(cpus, wanted)))
        with loopback(), lean():
            for attempt in range(ATTEMPTS):
                try:
                    ray.init(num_cpus=count, **local, **quiet)
                    return
                except Exception as error:  # Ray raises no class of its own here.
                    if LATE not in str(error):
                        raise
                    if attempt + 1 == ATTEMPTS:
                        raise WorkerError(
                            f"Ray did not start within its time, {ATTEMPTS} times; "
                            "is this machine busy with something else?"
                        ) from None
                    log.warning("Ray did not start within its time; trying once more")

    def close(self, gone: bool = False) -> None:
        """Leave the cluster; stop it if it was started here.

        Args:
            gone: whether its head is out of reach, which Ray would wait for.
        """
        import ray

        if not self._owner:
            return
        if gone:
            atexit.unregister(ray.shutdown)
            LEFT_BEHIND.set()
        else:
            ray.shutdown()


def address_of(resources: Resources) -> str | None:
    """Return the address of the cluster to join: given, or Ray's own setting; None starts one.

    ``ray job submit`` and ``ray up`` set ``RAY_ADDRESS`` for what they start.
    """
    set_by_ray = os.environ.get("RAY_ADDRESS")
    if resources.address is not None or not set_by_ray or set_by_ray.startswith("http"):
        return resources.address
    return set_by_ray


def alive() -> list[dict[str, Any]]:
    """Return Ray's description of every node that is part of the cluster."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def kinds_of_workers(resources: Resources, nodes: list[dict[str, float]]) -> list[float]:
    """Return the GPUs of each worker to start: one for each share, at most as many as asked for.

    With ``cpu_nodes`` the nodes that have no GPU hold workers of none, which come last.

    Raises:
        ResourceError: naming the resource that no node has enough of.
    """
    needs = {"CPU": ("client_cpus", resources.client_cpus)}
    needs["GPU"] = ("client_gpus", resources.gpus)
    for kind, (field, need) in needs.items():
        most = max((node.get(kind, 0.0) for node in nodes), default=0.0)
        if need > most:
            raise ResourceError(
                f"resources.{field} must be at most the {kind}s of a node ({most:g}), got {need:g}"
            )
    found: list[float] = []
    for node in nodes:
        shares = [node.get(k, 0.0) / need for k, (_, need) in needs.items() if need > 0]
        found += int(min(shares) + 1e-6) * [resources.gpus]
    if resources.cpu_nodes:
        without = [node.get("CPU", 0.0) for node in nodes if not node.get("GPU")]
        found += sum(int(cpus / resources.client_cpus + 1e-6) for cpus in without) * [0.0]
    if resources.workers is not None and resources.workers > len(found):
        raise ResourceError(
            f"resources.workers must be at most what the cluster has room for ({len(found)}), "
            f"got {resources.workers}"
        )
    return found[: resources.workers]
