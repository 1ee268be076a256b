"""The component ``clientapp`` of the Flower app that this repository is."""

from __future__ import annotations

from simulation.flower.client_app import client_app
from simulation.flower.executor import executor_of

app = client_app(executor_of)
"""The component ``clientapp`` of the Flower app that this repository is."""
