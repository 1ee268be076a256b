"""Shipped profiles of devices: orders of magnitude, not measurements.

How far apart phones are, and what they draw while training, follows the three tiers of phones in
the experiments of Kim and Wu (2021), "AutoFL", arXiv 2107.08147: training on a high-end phone is a
few times as fast as on a low-end one, at 3 to 6 watts. Links are of the order of a mobile uplink of
a few Mbit/s (low), LTE or home Wi-Fi (mid), good Wi-Fi (high), and a wired network of 1 Gbit/s
(server). Examples a second are those of a network of some 200,000 weights on small images; for
another model, or for figures of a certain device, give a file (``devices.path``).
"""

from __future__ import annotations

from typing import NamedTuple


class Profile(NamedTuple):
    """A kind of device.

    Args:
        examples_per_second: that it trains on.
        up: bytes a second that it sends.
        down: bytes a second that it receives.
        latency: seconds that a message takes besides.
        idle_watts: power while it waits for a message.
        compute_watts: power while it trains.
        network_watts: power while it sends or receives.
    """

    examples_per_second: float
    up: float
    down: float
    latency: float
    idle_watts: float
    compute_watts: float
    network_watts: float


FIELDS = tuple(Profile.__annotations__)
"""The names of a profile's figures, in their order."""

TABLE = {
    "phone-low": Profile(60.0, 0.25e6, 1e6, 0.10, 0.5, 3.0, 1.0),
    "phone-mid": Profile(150.0, 1e6, 4e6, 0.05, 0.5, 4.0, 1.0),
    "phone-high": Profile(400.0, 3e6, 12e6, 0.03, 0.5, 5.0, 1.0),
    "laptop": Profile(2000.0, 5e6, 20e6, 0.02, 5.0, 30.0, 2.0),
    "server": Profile(20000.0, 125e6, 125e6, 0.001, 100.0, 400.0, 10.0),
}
"""The profiles by name."""
