"""Data is loaded and dealt by one thread at a time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from simulation.config.experiment import Experiment
from simulation.datasets import registry
from simulation.population.deal import prepare


def test_threads_load_one_after_the_other(small: Experiment) -> None:
    there, most, turn = 0, 0, threading.Lock()

    def load(*arguments: Any) -> Any:
        nonlocal there, most
        with turn:
            there += 1
            most = max(most, there)
        time.sleep(0.02)  # Long enough for the others to come, had they been let in.
        try:
            return registry.load(*arguments)
        finally:
            with turn:
                there -= 1

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda seed: prepare(small.replace(seed=seed), load), range(4)))
    assert most == 1
    assert len(found) == 4
