"""Ray itself: start it here or join a running cluster, and count what it offers."""

from __future__ import annotations

import logging
import os
from typing import Any

from simulation.experiment import ConfigError, Resources

log = logging.getLogger("sunflower.cluster")


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
        self.nodes = [n for n in ray.nodes() if n["Alive"]]
        try:
            self.workers = count_workers(resources, [n["Resources"] for n in self.nodes])
        except ResourceError:
            self.close()
            raise

    def _init(self, ray: Any, resources: Resources) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if resources.address is not None:
            try:
                ray.init(address=resources.address, **quiet)
            except (ConnectionError, ValueError, RuntimeError) as error:
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
        ray.init(
            address="local",
            num_cpus=max(1, round(max(cpus, wanted))),
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            **quiet,
        )

    def close(self) -> None:
        """Leave the cluster; stop it if it was started here."""
        import ray

        if self._owner:
            ray.shutdown()


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
