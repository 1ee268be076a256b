"""A client that eats all memory: Ray kills its worker, the client is named, the rest goes on."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

RUN = """
from simulation.config.experiment import parse
from tests.simulation.conftest import SMALL
from tests.simulation.engines.ray.test_pool_faults import make

options = {"faults.attempts": 2, "faults.on_client_error": "skip"}
grid = make(parse(SMALL), "exhaust:3", **options)
total, rows = grid.train(1, range(12), grid.info().initial, {})
print(*rows["client"].tolist())
print(*grid.lost, sep="; ")
grid.close()
"""


@pytest.mark.soak
def test_a_client_that_exhausts_memory_is_named() -> None:
    """The machine's memory ends, for Ray, 3 GB above what is in use now."""
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + 3 * 2**30) / memory.total
    ran = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**os.environ, "RAY_memory_usage_threshold": f"{min(0.95, limit):.4f}"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ran.returncode == 0, ran.stderr
    rows, lost = ran.stdout.splitlines()[-2:]
    assert rows.split() == [str(client) for client in range(12) if client != 3]
    assert lost == "round 1, client 3: its worker ran out of memory (2 times)"
