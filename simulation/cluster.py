"""Ray itself: start it here or join a running cluster, and count what it offers."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from simulation.experiment import ConfigError, Resources

log = logging.getLogger("sunflower.cluster")

LOOPBACK = "127.0.0.1"

NO_CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for systems on which it has clusters of several machines or not."""


class ResourceError(ConfigError):
    """Resources asked for that no node has."""


class Cluster:
    """A Ray cluster, joined or started for as long as this object is open.

    Args:
        resources: what each worker needs, and where the cluster is.

    Raises:
        ResourceError: when no node can hold one worker, or the address does not answer.
    """

    def __init__(self, resources: Resources) -> None:
        import ray

        # Ray would report usage over the network, and warn about variables we set on purpose.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        self._owner = not ray.is_initialized()
        if self._owner:
            self._init(ray, resources)
        self._resources = resources
        self.nodes = alive()
        self.grows = resources.address is not None or len(self.nodes) > 1
        try:
            self.workers = count_workers(resources, [n["Resources"] for n in self.nodes])
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

    def room(self) -> int:
        """Return how many workers the nodes that are there now can hold; 0 if none can."""
        try:
            return count_workers(self._resources, [n["Resources"] for n in alive()])
        except ResourceError:
            return 0

    def _init(self, ray: Any, resources: Resources) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if resources.address is not None:
            try:
                ray.init(address=resources.address, **quiet)
            except (ConnectionError, ValueError, RuntimeError) as error:
                if "ersion mismatch" in str(error):
                    raise ResourceError(
                        "resources.address must be that of a cluster with the same Ray and "
                        f"Python, got {resources.address!r} ({' '.join(str(error).split())})"
                    ) from None
                raise ResourceError(
                    f"resources.address must be that of a running Ray cluster, "
                    f"got {resources.address!r} ({str(error).splitlines()[0]})"
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
        with loopback():
            ray.init(
                address="local",
                num_cpus=max(1, round(max(cpus, wanted))),
                include_dashboard=False,
                _node_ip_address=LOOPBACK,
                **quiet,
            )

    def close(self) -> None:
        """Leave the cluster; stop it if it was started here."""
        import ray

        if self._owner:
            ray.shutdown()


@contextmanager
def loopback() -> Iterator[None]:
    """Let a Ray that is started meanwhile listen on the loopback address only.

    On Linux, Ray replaces 127.0.0.1 by an address that other machines reach; not so where it has
    no support for clusters, which is what this switch tells it. (A Ray of its own needs none.)
    """
    from ray._private import ray_constants

    before = os.environ.get(NO_CLUSTER), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[NO_CLUSTER], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[1]
        if before[0] is None:
            del os.environ[NO_CLUSTER]
        else:
            os.environ[NO_CLUSTER] = before[0]


def alive() -> list[dict[str, Any]]:
    """Return Ray's description of every node that is part of the cluster."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def count_workers(resources: Resources, nodes: list[dict[str, float]]) -> int:
    """Return how many workers to start: one for each share, at most as many as asked for.

    Raises:
        ResourceError: naming the resource that no node has enough of.
    """
    needs = {"CPU": ("client_cpus", resources.client_cpus)}
    needs["GPU"] = ("client_gpus", resources.client_gpus)
    for kind, (field, need) in needs.items():
        most = max((node.get(kind, 0.0) for node in nodes), default=0.0)
        if need > most:
            raise ResourceError(
                f"resources.{field} must be at most the {kind}s of a node ({most:g}), got {need:g}"
            )
    room = 0
    for node in nodes:
        shares = [node.get(k, 0.0) / need for k, (_, need) in needs.items() if need > 0]
        room += int(min(shares) + 1e-6)
    if resources.workers is not None and resources.workers > room:
        raise ResourceError(
            f"resources.workers must be at most what the cluster has room for ({room}), "
            f"got {resources.workers}"
        )
    return resources.workers or room
