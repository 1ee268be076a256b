"""The memory that a process keeps for its next round."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ROUNDS = 20
FAULTS = f"""
import resource, sys
import numpy as np
from simulation.training.process import keep_memory

def rounds():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({ROUNDS}):
        models = [np.ones(2**17) for _ in range(64)]
        del models
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

rounds()
given_back = rounds()
keep_memory()
rounds()
print(given_back, rounds())
"""
"""64 arrays of 1 MiB a round; how many pages were asked for, without and with memory kept."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide themselves")
def test_what_a_round_frees_is_there_for_the_next() -> None:
    found = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True
    )
    given_back, kept = map(int, found.stdout.split())
    pages = ROUNDS * 64 * 2**20 // 4096
    assert kept < pages / 20 < pages / 2 < given_back
