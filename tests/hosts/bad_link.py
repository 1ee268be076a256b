"""A link that loses, delays or slows down what travels on it: ``python -m tests.hosts.bad_link``.

A process of its own between two network devices. The kernel's ``netem`` does the same, where it has
been built; this works on every Linux.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import selectors
import struct
import time
from collections import deque
from dataclasses import dataclass, field

FRAME = 65_536
"""Bytes of a frame at most."""

QUEUE = 1000
"""Frames that wait in each direction at most, as in ``netem``; others are lost."""

MAKE_DEVICE, ETHERNET, BARE = 0x400454CA, 0x0002, 0x1000
"""The kernel's numbers for TUNSETIFF, IFF_TAP and IFF_NO_PI (linux/if_tun.h)."""


@dataclass
class Direction:
    """What travels one way.

    Args:
        out: the device's file that frames go to.
        loss: part of the frames that are lost.
        delay: seconds that each takes.
        rate: bits a second; 0: no limit.
        chance: says which are lost.
    """

    out: int
    loss: float
    delay: float
    rate: float
    chance: random.Random
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)
    _free: float = 0.0  # when the last frame has left the near end

    def take(self, frame: bytes, now: float) -> None:
        """Let a frame wait for its time, or lose it."""
        if len(self.waiting) >= QUEUE or self.chance.random() < self.loss:
            return
        self._free = max(now, self._free)
        if self.rate:
            self._free += 8 * len(frame) / self.rate
        self.waiting.append((self._free + self.delay, frame))

    def send(self, now: float) -> float | None:
        """Send what is due; return when the next one is; None where none waits."""
        while self.waiting and self.waiting[0][0] <= now:
            os.write(self.out, self.waiting.popleft()[1])
        return self.waiting[0][0] if self.waiting else None


def device(name: str) -> int:
    """Make a network device whose other end is a file; return the file."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, MAKE_DEVICE, struct.pack("16sH22x", name.encode(), ETHERNET | BARE))
    return file


def forward(ends: dict[int, Direction]) -> None:
    """Carry frames, for ever: from each file to where its direction leads."""
    with selectors.DefaultSelector() as ready:
        for end in ends:
            ready.register(end, selectors.EVENT_READ)
        due: list[float] = []
        while True:
            wait = max(0.0, min(due) - time.monotonic()) if due else None
            for key, _ in ready.select(wait):
                direction = ends[key.fd]
                try:
                    while True:
                        direction.take(os.read(key.fd, FRAME), time.monotonic())
                except BlockingIOError:
                    pass
            now = time.monotonic()
            due = [when for one in ends.values() if (when := one.send(now)) is not None]


def main() -> None:
    """Make two devices, say so, and carry frames between them until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs=2)
    for option in ("--loss", "--delay", "--rate"):
        parser.add_argument(option, type=float, default=0.0)
    given = parser.parse_args()
    one, other = map(device, given.names)
    how = (given.loss, given.delay, given.rate)
    ends = {
        one: Direction(other, *how, random.Random(1)),
        other: Direction(one, *how, random.Random(2)),
    }
    print("ready", flush=True)
    forward(ends)


if __name__ == "__main__":
    main()
