"""This process's connections to a host that was out of reach: closed, so that new ones are made.

TCP tries again after longer and longer times: after a silence of 30 s it may say nothing for 20
more, and where the other side has given up, for minutes. A new connection speaks at once; Ray makes
one for its next message, and tells of those that were under way on the old one.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

import psutil


def close_connections(host: str) -> int:
    """Close every TCP connection that this process has made to a host; return how many.

    Those that the host has made to us stay: Ray's head takes the end of its own for our death.

    Args:
        host: its IP address.
    """
    closed, all_of_them = 0, psutil.Process().net_connections("tcp")
    served = {one.laddr.port for one in all_of_them if one.status == psutil.CONN_LISTEN}
    for one in all_of_them:
        if one.fd < 0 or not one.raddr or _plain(one.raddr.ip) != _plain(host):
            continue
        if one.laddr.port in served:
            continue
        with suppress(OSError), socket.socket(fileno=os.dup(one.fd)) as sock:
            # The number may be that of another file by now.
            if _plain(sock.getpeername()[0]) == _plain(host):
                sock.shutdown(socket.SHUT_RDWR)
                closed += 1
    return closed


def _plain(address: str) -> str:
    """Return an address without what tells that a socket is for IPv6 too."""
    return address.removeprefix("::ffff:")
