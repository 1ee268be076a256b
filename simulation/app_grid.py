"""The pool of Ray actors as a Flower app sees it: its ServerApp's grid, its ClientApp's workers."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.client_app import LoadClientAppError
from flwr.supercore.object_ref import load_app

from simulation import ship
from simulation.client_app import answer
from simulation.engine import MESSAGES
from simulation.grid import RayGrid

if TYPE_CHECKING:
    from simulation.app import AppRun
    from simulation.hearing import Hearing

SHARES = 4
"""Calls for each worker that messages are cut into, at least: the last ones keep nobody waiting."""


@dataclass(frozen=True)
class AppSetup:
    """What a worker needs for a user's app.

    Args:
        experiment: the app's run.
        folder: where its modules are.
        component: ``module:name`` of its ClientApp.
        run_config: its run configuration.
        backend: Keras' backend; None leaves it to Keras.
    """

    experiment: AppRun
    folder: str
    component: str
    run_config: Mapping[str, Any]
    backend: str | None = None


class AppExecutor:
    """A worker's share of the work: the app's ClientApp, imported once."""

    def __init__(self, setup: AppSetup, data: None, partition: Sequence[int]) -> None:
        if setup.backend is not None:
            os.environ["KERAS_BACKEND"] = setup.backend
        self._setup, self._population = setup, len(partition)
        self._app = load_app(setup.component, LoadClientAppError, setup.folder)
        if not isinstance(self._app, ClientApp):
            raise LoadClientAppError(
                f"clientapp must be a ClientApp, got {type(self._app).__name__} "
                f"for {setup.component}"
            )
        if setup.experiment.reuse and "keras" in sys.modules:
            from simulation import reuse

            reuse.install()
        # What was imported stays: collections (Keras' clear_session makes one) skip it.
        gc.collect()
        gc.freeze()

    @staticmethod
    def prepare(threads: int, gpus: float) -> None:
        """Leave Keras' backend to the app, and whether its operations are deterministic.

        TensorFlow raises an error where they have to be and a random one has no seed.
        """
        for name in ("KERAS_BACKEND", "TF_DETERMINISTIC_OPS"):
            os.environ.pop(name, None)

    def answer(
        self, messages: Sequence[Message], states: Sequence[RecordDict | None]
    ) -> list[tuple[Message, RecordDict | None]]:
        """Run the ClientApp on messages; return each reply and the node's state."""
        return [
            answer(self._app, message, state, self._population, self._setup.run_config)
            for message, state in zip(messages, states, strict=True)
        ]


class AppGrid(RayGrid):
    """The pool for messages alone; any number of threads may send (old-style apps do).

    ``hearing``, if set, hears every message and reply.
    """

    hearing: Hearing | None = None

    def __init__(self, run: AppRun) -> None:
        along = ship.packages(folders=[run.app.resolve()])
        super().__init__(run.resources, executor="simulation.app_grid:AppExecutor", ship=along)
        self._lock = threading.RLock()
        self._sent: dict[str, Message] = {}

    def begin(self, setup: AppSetup, clients: int) -> None:
        """Give the workers their app."""
        inputs: Any = (setup, None, range(clients))  # an app has data and clients of its own
        self.start(*inputs)

    def together(self, messages: int) -> int:
        """Return how many of some messages travel in one call: few, where there are few."""
        return max(1, min(MESSAGES, messages // (SHARES * max(1, self.workers))))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages; return their ids."""
        batch = list(messages)
        with self._lock:
            self.refresh()
            if self.hearing is not None:
                self.hearing.sent(batch)
                self.round = self.hearing.round
            names = list(super().push_messages(batch))
            self._sent.update(zip(names, batch, strict=True))
        return names

    def _pull(self, message_ids: Iterable[str], timeout: float | None) -> list[Message]:
        """Return the replies that come in time to messages that have none yet."""
        replies = super()._pull([name for name in message_ids if name in self._sent], timeout)
        with self._lock:
            for reply in replies:
                message = self._sent.pop(reply.metadata.reply_to_message_id)
                if self.hearing is not None:
                    self.hearing.came(message, reply)
        return replies
