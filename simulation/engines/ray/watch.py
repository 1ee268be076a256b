"""Who answers on a cluster's network: asked by connections of our own, beside those of Ray.

Ray counts a node as dead after a minute, and waits for a lost answer longer than that. A port that
takes a new connection says at once that its host is there, whatever became of older connections.
"""

from __future__ import annotations

import errno
import math
import selectors
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import psutil

from simulation.engines.policy import POLICY
from simulation.engines.ray.connections import close_connections

Address = tuple[str, int]

ANSWERS, REFUSES, SILENT = "answers", "refuses", "silent"
"""What became of a connection: made, refused by a host that is there, or nothing was heard."""

AT_A_TIME = 128
"""Connections that are tried at a time: a process may have few files open."""


def probe(addresses: Iterable[Address], seconds: float) -> dict[Address, str]:
    """Try to connect to ports, many at a time; tell what became of each.

    Args:
        addresses: hosts and ports.
        seconds: how long they have to answer.
    """
    wanted = list(dict.fromkeys(addresses))
    found: dict[Address, str] = {}
    for start in range(0, len(wanted), AT_A_TIME):
        found |= _probe(wanted[start : start + AT_A_TIME], seconds)
    return found


def _probe(addresses: Sequence[Address], seconds: float) -> dict[Address, str]:
    found: dict[Address, str] = {}
    with ExitStack() as stack:
        waiting = stack.enter_context(selectors.DefaultSelector())
        for address in addresses:
            try:
                family, _, _, _, place = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
            except OSError:
                found[address] = SILENT
                continue
            sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setblocking(False)
            started = sock.connect_ex(place)
            if started in (0, errno.EINPROGRESS):
                waiting.register(sock, selectors.EVENT_WRITE, address)
            else:
                found[address] = _meaning(started)
        end = time.monotonic() + seconds
        while waiting.get_map() and (left := end - time.monotonic()) > 0:
            for key, _ in waiting.select(left):
                sock = key.fileobj  # type: ignore[assignment]
                found[key.data] = _meaning(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                waiting.unregister(sock)
        for key in waiting.get_map().values():
            found[key.data] = SILENT
    return found


def _meaning(code: int) -> str:
    if code == 0:
        return ANSWERS
    return REFUSES if code in (errno.ECONNREFUSED, errno.ECONNRESET) else SILENT


def host_and_port(text: str) -> Address | None:
    """Return the parts of ``host:port``; None if it is none."""
    host, _, port = text.removeprefix("ray://").rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdecimal() else None


class Watch:
    """Ask the ports of a cluster's head and nodes every second, by a thread of its own.

    What has never answered, as behind a gateway, is not counted as silent.

    Args:
        head: where the head listens.
    """

    def __init__(self, head: Address | None) -> None:
        self.head = head
        self.nodes: dict[str, Address] = {}  # by node id: where its raylet listens
        self._answered: dict[Address, float] = {}
        self._last_silence: dict[Address, float] = {}
        self._refused: set[Address] = set()
        self._cut_off = -math.inf  # when no other host answered for the last time
        interfaces = psutil.net_if_addrs().values()
        self._own = {one.address for addresses in interfaces for one in addresses}
        self._asked = time.monotonic()
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="sunflower watch", daemon=True).start()

    def know(self, nodes: Iterable[dict[str, Any]]) -> None:
        """Take note of the nodes that there are, as ``ray.nodes`` describes them."""
        self.nodes = {
            node["NodeID"]: (node["NodeManagerAddress"], node["NodeManagerPort"]) for node in nodes
        }

    def name(self, node: str) -> str:
        """Return what to call a node: its address."""
        address = self.nodes.get(node)
        return address[0] if address else "a node"

    def silence(self, node: str) -> float:
        """Return for how many seconds a node has not answered; 0 if it does, or never did."""
        address = self.nodes.get(node)
        return 0.0 if address is None else self._silence(address)

    def last_silence(self, node: str) -> float:
        """Return when a node was silent for the last time; minus infinity if it never was."""
        address = self.nodes.get(node)
        return -math.inf if address is None else self._last_silence.get(address, -math.inf)

    def was_silent(self, node: str, seconds: float) -> bool:
        """Tell whether a node was silent within so many seconds."""
        return time.monotonic() - self.last_silence(node) < seconds

    @property
    def head_silence(self) -> float:
        """For how many seconds the cluster's head has not answered."""
        return 0.0 if self.head is None else self._silence(self.head)

    def head_answers(self) -> bool:
        """Tell whether the cluster's head answers now; also where it never did."""
        if self.head is None or self.head not in self._answered:
            return True
        tries = (probe([self.head], POLICY.probe_seconds)[self.head] for _ in range(2))
        return ANSWERS in tries

    @property
    def head_lost(self) -> str | None:
        """What to say where the head has been silent for too long; None while it has not."""
        silence = self.head_silence
        if self.head is None or silence < POLICY.head_silent:
            return None
        # Where no other node answers either, it is this machine's link.
        alone = self._asked - self._cut_off < POLICY.head_silent
        if alone and silence < POLICY.all_silent:
            return None
        place = f"{self.head[0]}:{self.head[1]}"
        if self.head in self._refused:
            return (
                f"the cluster's head has gone: its host is there, and nothing listens at {place} "
                f"since {silence:.0f} s"
            )
        who = "no node answers" if alone else f"nothing answers at {place}"
        return f"the cluster's head is out of reach: {who} since {silence:.0f} s"

    def _silence(self, address: Address) -> float:
        answered = self._answered.get(address)
        if answered is None:
            return 0.0
        silence = self._asked - answered
        return silence if silence > 2 * POLICY.glance else 0.0

    def _run(self) -> None:
        while not self._closed.wait(POLICY.glance):
            with suppress(OSError):  # as when no file is free: nothing is known of this second
                self.look()

    def look(self) -> None:
        """Ask all of them now."""
        wanted = [*self.nodes.values(), *([self.head] if self.head else [])]
        asked = time.monotonic()
        found = probe(wanted, POLICY.probe_seconds)
        now, renewed = time.monotonic(), set[str]()
        for address, how in found.items():
            if how == ANSWERS:
                away = self._silence(address) >= POLICY.silent_after
                self._answered[address] = now
                if away and address[0] not in renewed:
                    renewed.add(address[0])
                    close_connections(address[0])
            elif address in self._answered:
                self._last_silence[address] = now
        self._note_cut(found, now)
        self._refused = {address for address, how in found.items() if how == REFUSES}
        # Where this process itself did not run for a while, nobody was silent.
        self._asked = now if now - asked < 2 * POLICY.probe_seconds + POLICY.glance else asked

    def _note_cut(self, found: dict[Address, str], now: float) -> None:
        """Note whether no host but this one and the head's answers, though some did before."""
        near = {*self._own, self.head[0] if self.head else ""}
        others = [address for address in found if address in self._answered]
        others = [address for address in others if address[0] not in near]
        if others and all(found[address] == SILENT for address in others):
            self._cut_off = now

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
