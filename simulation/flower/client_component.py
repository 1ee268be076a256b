"""The component ``clientapp`` of the Flower app that this repository is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flwr.app import (
    Context,
)

if TYPE_CHECKING:
    from simulation.worker.executor import Executor
from simulation.flower.client_app import client_app


def _of_run(context: Context) -> Executor:
    from simulation.flower.executor import executor_of  # it imports this module

    return executor_of(context)


app = client_app(_of_run)
"""The component ``clientapp`` of the Flower app that this repository is."""
