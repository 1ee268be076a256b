"""What is used of Ray beyond its public interface, each with the reason.

A Ray of our own is started on the loopback address and without processes that nobody talks to,
for which Ray has no public options; functions of a script go to workers as Ray sends its own. And
some errors of Ray tell themselves apart by their text alone. Seen in Ray 2.51 to 2.55.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from simulation.config.libraries import Library, LibraryError

log = logging.getLogger("sunflower.cluster")

RAY = Library("Ray", "ray", "2.51 to 2.55")

LOOPBACK = "127.0.0.1"

AT_LOOPBACK = {"_node_ip_address": LOOPBACK}
"""Argument of ``ray.init``: the address of a Ray that is started. Ray refuses names it lost."""

CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for systems on which it has clusters of several machines or not."""

SPARE = ("start_log_monitor", "start_monitor", "start_api_server")
"""Methods of Ray's ``Node`` that start processes which a Ray of our own can do without."""

LATE = "timed out during startup"
"""Of Ray's error where its processes took too long: it is a plain ``Exception``.

Without byte code the first start is slow.
"""

OTHER_VERSION = "ersion mismatch"
"""Of Ray's ``RuntimeError`` where a cluster has another Ray or Python."""

LOW_MEMORY = "running low on memory"
"""Of the error of an actor that Ray has ended to save its node, often an ``ActorDiedError``."""


@RAY.uses("ray.cloudpickle", "to hand functions of a script to workers")
def pickled(function: Any) -> bytes:
    """Return a function with all that it uses of its script: ``pickle.loads`` gives it back.

    Ray's copy of cloudpickle is no part of its reference. With the package of that name, workers
    would have to have it too, and of the same version.
    """
    from ray import cloudpickle

    return bytes(cloudpickle.dumps(function))


@RAY.uses(
    "ray._private.ray_constants.ENABLE_RAY_CLUSTER",
    "to start a Ray that other machines cannot reach",
)
def cluster_constants() -> Any:
    """Return the module with Ray's switch ``ENABLE_RAY_CLUSTER``, read from the environment once.

    On Linux, Ray replaces 127.0.0.1 by an address that other machines reach; not so where it has
    no support for clusters, which is what this switch tells it. Nothing public does.
    """
    from ray._private import ray_constants

    if not isinstance(ray_constants.ENABLE_RAY_CLUSTER, bool):
        raise AttributeError("ENABLE_RAY_CLUSTER is no switch any longer")
    return ray_constants


@contextmanager
def loopback() -> Iterator[None]:
    """Let a Ray that is started meanwhile listen on the loopback address only.

    A Ray of its own needs no clusters, on which Ray insists otherwise.
    """
    constants = cluster_constants()
    before = os.environ.get(CLUSTERS), constants.ENABLE_RAY_CLUSTER
    os.environ[CLUSTERS], constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before[1]
        if before[0] is None:
            del os.environ[CLUSTERS]
        else:
            os.environ[CLUSTERS] = before[0]


@RAY.uses(
    f"{', '.join(SPARE)} of ray._private.node.Node", "to start Ray without processes of no use here"
)
def starters() -> tuple[type[Any], dict[str, Any]]:
    """Return the class that starts Ray's processes, and its methods of :data:`SPARE`.

    The log monitor brings workers' output to a driver that wants it, the autoscaler's monitor asks
    for more nodes, and the API server is what the dashboard talks to. Ray has no switch for them.
    """
    from ray._private.node import Node

    kept = {name: vars(Node).get(name) for name in SPARE}
    gone = [name for name, method in kept.items() if not callable(method)]
    if gone:
        raise AttributeError(f"Node has no {', '.join(gone)}")
    return Node, kept


@contextmanager
def lean() -> Iterator[None]:
    """Let a Ray that is started meanwhile do without processes that are of no use here.

    To start them takes 2 CPU seconds, and Ray waits for the last. A Ray that starts them in another
    way is none the worse: it is said, and all of them start.
    """
    try:
        node, kept = starters()
    except LibraryError as error:
        log.warning("%s; Ray starts these too, which takes longer", error)
        yield
        return
    for name in kept:
        setattr(node, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, method in kept.items():
            setattr(node, name, method)
