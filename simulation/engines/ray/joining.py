"""Why a cluster cannot be joined at an address: found out within seconds, and told in one line."""

from __future__ import annotations

import logging
import os
import socket
import time

import psutil

from simulation.engines.policy import POLICY
from simulation.engines.ray.watch import ANSWERS, REFUSES, Address, host_and_port, probe

log = logging.getLogger("sunflower.cluster")

CLIENT = "ray://"
"""Begins the address of a cluster that is used through one port, by a machine that is no node."""


def why_not(address: str, seconds: float = POLICY.join_seconds) -> str | None:
    """Return why a cluster cannot be joined; None where nothing speaks against it.

    Args:
        address: as Ray takes it.
        seconds: how long the network may take to answer.
    """
    place = host_and_port(address)
    if place is None:  # "auto", or something that Ray has to say something about.
        return None
    host, port = place
    end = time.monotonic() + seconds
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return f"the name {host!r} is not known here: {error.strerror}"
    how = probe([place], seconds)[place]
    if how == REFUSES:
        return f"nobody listens at {host}:{port}: is Ray's head running there, and is it this port?"
    if how != ANSWERS:
        return (
            f"nothing answers at {host}:{port} within {seconds:g} s: the host is off, or a "
            "firewall drops what is sent there"
        )
    if not _speaks(place, end - time.monotonic()):
        return f"what listens at {host}:{port} is no Ray: it gave no answer within {seconds:g} s"
    return None if address.startswith(CLIENT) else _why_no_node(place)


def _speaks(place: Address, seconds: float) -> bool:
    """Tell whether a port speaks gRPC, as Ray's do."""
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return True  # It would want our certificate; Ray will see.
    import grpc  # type: ignore[import-untyped, unused-ignore]  # Flower needs it too

    target = f"[{place[0]}]:{place[1]}" if ":" in place[0] else f"{place[0]}:{place[1]}"
    with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=max(0.1, seconds))
        except grpc.FutureTimeoutError:
            return False
    return True


def _why_no_node(place: Address) -> str | None:
    """Return why this machine is no node of the cluster; None if it may be one."""
    clusters = clusters_here()
    host, port = place
    if not clusters:
        return (
            "this machine is no node of that cluster: start one with "
            f"'ray start --address={host}:{port}', or give {CLIENT}{host}:10001"
        )
    if place not in clusters and not any(_same(place, other) for other in clusters):
        names = ", ".join(f"{h}:{p}" for h, p in sorted(clusters))
        log.warning("Ray runs on this machine for %s; %s:%d is tried", names, host, port)
    return None


def clusters_here() -> set[Address]:
    """Return the heads' addresses of the clusters that this machine is a node of.

    Ray looks for its nodes in the same place: the arguments of processes named ``raylet``.
    """
    found = set()
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] != "raylet":
            continue
        for word in process.info["cmdline"] or ():
            name, _, value = word.partition("=")
            place = host_and_port(value) if name == "--gcs-address" else None
            if place is not None:
                found.add(place)
    return found


def _same(one: Address, other: Address) -> bool:
    """Tell whether two addresses lead to the same port of the same host, as far as is known."""
    if one[1] != other[1]:
        return False
    try:
        ours, theirs = (
            {info[4][0] for info in socket.getaddrinfo(*place, type=socket.SOCK_STREAM)}
            for place in (one, other)
        )
    except OSError:
        return False
    # A loopback address is one of this machine, as the other may be.
    return bool(ours & theirs) or any(str(a).startswith("127.") or a == "::1" for a in ours)
