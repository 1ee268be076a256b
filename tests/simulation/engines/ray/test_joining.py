"""Addresses at which there is no cluster to join: said within seconds, and why."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from simulation.config.sections import Resources
from simulation.engines.ray import joining
from simulation.engines.ray.cluster import Cluster, ResourceError
from simulation.engines.ray.joining import why_not
from simulation.engines.ray.watch import ANSWERS, REFUSES, SILENT, host_and_port, probe


@pytest.fixture
def closed() -> int:
    """A port at which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[Any] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept())
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield int(server.getsockname()[1])


@pytest.fixture
def full() -> Iterator[int]:
    """A port whose queue of connections is full: what is sent there gets no answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = int(server.getsockname()[1])
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        time.sleep(0.1)
        yield port
        for sock in waiting:
            sock.close()


@pytest.fixture
def grpc_port() -> Iterator[int]:
    """A port that speaks gRPC, as Ray's head does."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None)


def test_ports_are_told_apart(closed: int, mute: int, full: int) -> None:
    ports = {closed: REFUSES, mute: ANSWERS, full: SILENT}
    began = time.monotonic()
    found = probe([("127.0.0.1", port) for port in ports], 1.0)
    assert found == {("127.0.0.1", port): how for port, how in ports.items()}
    assert time.monotonic() - began < 3


def test_nobody_listens(closed: int) -> None:
    assert why_not(f"127.0.0.1:{closed}") == (
        f"nobody listens at 127.0.0.1:{closed}: is Ray's head running there, and is it this port?"
    )


def test_a_firewall_swallows_what_is_sent(full: int) -> None:
    assert why_not(f"127.0.0.1:{full}", 1.0) == (
        f"nothing answers at 127.0.0.1:{full} within 1 s: the host is off, or a firewall drops "
        "what is sent there"
    )


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_what_listens_is_no_ray(prefix: str, mute: int) -> None:
    assert why_not(f"{prefix}127.0.0.1:{mute}", 1.0) == (
        f"what listens at 127.0.0.1:{mute} is no Ray: it gave no answer within 1 s"
    )


def test_a_name_that_is_not_known() -> None:
    reason = why_not("no-such-host.invalid:6379")
    assert reason is not None and reason.startswith("the name 'no-such-host.invalid' is not known")


def test_this_machine_is_no_node(grpc_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "clusters_here", set)
    assert why_not(f"127.0.0.1:{grpc_port}") == (
        "this machine is no node of that cluster: start one with 'ray start "
        f"--address=127.0.0.1:{grpc_port}', or give ray://127.0.0.1:10001"
    )
    assert why_not(f"ray://127.0.0.1:{grpc_port}") is None


def test_a_node_of_that_cluster_may_join(grpc_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "clusters_here", lambda: {("127.0.0.1", grpc_port)})
    assert why_not(f"127.0.0.1:{grpc_port}") is None


def test_a_node_of_another_cluster_is_warned(
    grpc_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(joining, "clusters_here", lambda: {("192.0.2.7", 6379)})
    assert why_not(f"127.0.0.1:{grpc_port}") is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"Ray runs on this machine for 192.0.2.7:6379; 127.0.0.1:{grpc_port} is tried"


def test_where_ray_looks_for_its_nodes(ray_cluster: Any) -> None:
    """The Ray of the tests is a node on this machine."""
    place = host_and_port(ray_cluster.get_runtime_context().gcs_address)
    assert place in joining.clusters_here()
    assert why_not(f"{place[0]}:{place[1]}") is None  # type: ignore[index]


def test_what_is_no_address_is_left_to_ray() -> None:
    assert why_not("auto") is None and why_not("nonsense") is None
    assert host_and_port("ray://[::1]:10001") == ("::1", 10001)


def test_the_reason_is_in_the_error(closed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ResourceError) as failed:
        Cluster(Resources(address=f"127.0.0.1:{closed}"))
    assert str(failed.value) == (
        f"resources.address must be that of a running Ray cluster, got '127.0.0.1:{closed}' "
        f"(nobody listens at 127.0.0.1:{closed}: is Ray's head running there, and is it this port?)"
    )


@pytest.mark.slow
def test_the_command_ends_with_one_line_and_status_2(closed: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "simulation.cli", "run", "--address", f"127.0.0.1:{closed}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 2, ran.stderr
    *_, last = ran.stderr.splitlines()
    assert last.startswith("sunflower: resources.address must be") and "nobody listens" in last
