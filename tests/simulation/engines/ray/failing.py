"""An executor some of whose clients fail, as the experiment's name says: ``raise:3 hang:5``."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from simulation.flower.executor import MessageExecutor

HOARD: list[Any] = []


class Failing(MessageExecutor):
    """Clients raise, send NaN or a wrong shape, hang, eat all memory, or kill their process."""

    def train_clients(self, clients: Sequence[int], *given: Any, **more: Any) -> list[Any]:
        named = [p.split(":") for p in (self.setup.experiment.name or "").split() if ":" in p]
        todo = {client: what for what, client in named}
        how = {client: todo[str(client)] for client in clients if str(client) in todo}
        for client, what in how.items():
            if what == "raise":
                raise KeyError(f"client {client} has no such thing")
            if what == "memory":
                np.empty(2**50)
            while what == "exhaust":
                HOARD.append(np.ones(2**24))
                time.sleep(0.02)
            if what == "hang":
                time.sleep(3600)
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        trained = super().train_clients(clients, *given, **more)
        return [self._spoil(t, how.get(t.update.client)) for t in trained]

    def _spoil(self, trained: Any, what: str | None) -> Any:
        delta = trained.update.delta
        if what == "nan":
            delta = np.where(np.arange(delta.size) == 7, np.nan, delta).astype(np.float32)
        if what == "shape":
            delta = delta[:-1]
        return replace(trained, update=replace(trained.update, delta=delta))


class Stillborn(Failing):
    """Its process ends before it is ready."""

    def __init__(self, *given: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Idle:
    """Its process is ready at once, as it loads nothing and trains nobody."""

    def __init__(self, *given: Any) -> None: ...

    @staticmethod
    def prepare(*given: Any) -> None: ...

    def info(self) -> Any:
        return SimpleNamespace(lanes=1)
