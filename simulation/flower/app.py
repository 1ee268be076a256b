"""The pool of Ray actors as a Flower app sees it: its ServerApp's grid, its ClientApp's workers."""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from simulation.engines.engine import Engine
from simulation.engines.inline import InlineEngine
from simulation.engines.policy import POLICY
from simulation.engines.ray import shipping
from simulation.engines.ray.engine import RayEngine
from simulation.flower import private
from simulation.flower.app_hooks import AppError
from simulation.flower.app_replies import Diverged
from simulation.flower.client_app import answer
from simulation.flower.grid import MessageGrid

if TYPE_CHECKING:
    from simulation.config.app import AppRun
    from simulation.flower.app_replies import Kept, Replies
    from simulation.flower.recorder import Recorder


EXECUTOR = "simulation.flower.app:AppExecutor"
"""What does the work in the actors."""

SHARES = 4
"""Calls for each worker that messages are cut into, at least: the last ones keep nobody waiting."""

LOOKS, LOOKS_PATIENCE = 20, 15.0
"""So many looks for clients in a row, over so many seconds, and nothing sent: a wait for ever."""


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
    threads: ClassVar[int] = 1
    shelf: ClassVar[None] = None


class AppExecutor:
    """A worker's share of the work: the app's ClientApp, imported once."""

    def __init__(self, setup: AppSetup, data: None, partition: Sequence[int]) -> None:
        if setup.backend is not None:
            os.environ["KERAS_BACKEND"] = setup.backend
        self._setup, self._population = setup, len(partition)
        load_error, _ = private.load_errors()
        self._app = private.app_loader()(setup.component, load_error, setup.folder)
        if not isinstance(self._app, ClientApp):
            raise load_error(
                f"clientapp must be a ClientApp, got {type(self._app).__name__} "
                f"for {setup.component}"
            )
        if setup.experiment.reuse and "keras" in sys.modules:
            from simulation.training.tensorflow import keras_twins

            keras_twins.install()
        # What was imported stays: collections (Keras' clear_session makes one) skip it.
        gc.collect()
        gc.freeze()

    @staticmethod
    def prepare(threads: int, gpus: float, library: str) -> None:
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


class AppGrid(MessageGrid):
    """A grid for a user's app; any number of threads may send (old-style apps do).

    ``hearing``, if set, hears every message and reply. ``kept_replies``, if set, keeps the replies
    and answers what was asked in an earlier part of the run.

    Args:
        engine: with executors for apps; started by :meth:`begin`.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.hearing: Recorder | None = None
        self.kept_replies: Replies | None = None
        self.diverged: Diverged | None = None
        self._lock = threading.RLock()
        self._sent: dict[str, tuple[Message, str]] = {}
        self._known: dict[str, Kept] = {}
        self._server = self.round = 0
        self._asked: list[float] = []

    def begin(self, setup: AppSetup, clients: int) -> None:
        """Give the workers their app."""
        inputs: Any = (setup, None, range(clients))  # an app has data and clients of its own
        self.engine.start(*inputs)

    def close(self) -> None:
        """Release every resource."""
        self.engine.close()

    def listen(self, hearing: Recorder) -> None:
        """Let messages be heard from now on; the ServerApp runs in this thread."""
        self.hearing, self._server = hearing, threading.get_ident()

    def together(self, messages: int) -> int:
        """Return how many of some messages travel in one call: few, where there are few."""
        return max(1, min(POLICY.messages, messages // (SHARES * max(1, self.engine.workers))))

    def get_node_ids(self) -> Iterable[int]:
        """Return the clients' numbers.

        Raises:
            AppError: when the app looks for more clients again and again, as it would for ever.
        """
        if threading.get_ident() == self._server and not self._sent:
            self._asked.append(time.monotonic())
            if (
                len(self._asked) >= LOOKS
                and self._asked[-1] - self._asked[-LOOKS] >= LOOKS_PATIENCE
            ):
                raise AppError(
                    "clients must be as many as the app waits for, which has looked for more "
                    f"{len(self._asked)} times, got {len(self.engine.partition)}"
                )
        return super().get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages; return their ids."""
        batch = list(messages)
        with self._lock:
            if self.diverged is not None:  # An old server takes errors of its threads for clients'.
                raise self.diverged
            self._asked.clear()
            if self.hearing is not None:
                self.hearing.sent(batch)
                self.round = self.hearing.round
            self.engine.begin_round(self.round)
            digests = self._digests(batch)
            known = [self._again(m, d) for m, d in zip(batch, digests, strict=True)]
            new = [m for m, kept in zip(batch, known, strict=True) if kept is None]
            fresh = iter(super().push_messages(new))
            names = []
            for message, digest, kept in zip(batch, digests, known, strict=True):
                if kept is not None:
                    private.set_message_id(message, f"k{next(self._numbers)}")
                name = next(fresh) if kept is None else message.metadata.message_id
                if kept is not None:
                    self._known[name] = kept
                self._sent[name] = message, digest
                names.append(name)
        return names

    def _digests(self, batch: Sequence[Message]) -> list[str]:
        if self.kept_replies is None:
            return [""] * len(batch)
        found: dict[int, str] = {}
        for message in batch:  # Most strategies send one content to all.
            if id(message.content) not in found:
                found[id(message.content)] = self.kept_replies.digest(message.content)
        return [found[id(message.content)] for message in batch]

    def _again(self, message: Message, digest: str) -> Kept | None:
        if self.kept_replies is None:
            return None
        try:
            return self.kept_replies.again(self.round, message, digest)
        except Diverged as error:
            self.diverged = error
            raise

    def check_all_asked(self) -> None:
        """Raise Diverged when an app has not asked what it asked before."""
        if self.diverged is not None:
            raise self.diverged
        if self.kept_replies is not None and self.kept_replies.left:
            raise Diverged(
                f"the app has ended without {self.kept_replies.left} of the questions that it "
                "asked before: what its server draws at random must come from a seed of its own"
            )

    def _pull(self, message_ids: Iterable[str], timeout: float | None) -> list[Message]:
        """Return the replies that come in time to messages that have none yet."""
        asked = [name for name in message_ids if name in self._sent]
        known = {name: self._read(name) for name in asked if name in self._known}
        replies = super()._pull([name for name in asked if name not in known], timeout)
        there = known | {reply.metadata.reply_to_message_id: reply for reply in replies}
        with self._lock:
            for name, reply in there.items():
                message, digest = self._sent.pop(name)
                if self.kept_replies is not None and name not in known:
                    state = self._node_states.get(message.metadata.dst_node_id)
                    self.kept_replies.add(self.round, message, digest, reply, state)
                if self.hearing is not None:
                    self.hearing.came(message, reply)
        return [there[name] for name in asked if name in there]

    def _read(self, name: str) -> Message:
        """Return the reply of an earlier part of the run, and put its client's state back."""
        message, _ = self._sent[name]
        reply, state = self._known.pop(name).read(message)
        if state is not None:
            self._node_states[message.metadata.dst_node_id] = state
        return reply


class InlineExecutor(AppExecutor):
    """An executor in the server's process: one call at a time, with generators of its own.

    What the server draws would else depend on what clients have drawn in between.
    """

    def __init__(self, setup: AppSetup, data: None, partition: Sequence[int]) -> None:
        super().__init__(setup, data, partition)
        self._alone = threading.Lock()
        self._generators = random.Random().getstate(), np.random.RandomState().get_state()

    @staticmethod
    def prepare(threads: int, gpus: float, library: str) -> None:
        """Leave the process as it is: it is the app's server's."""

    def answer(
        self, messages: Sequence[Message], states: Sequence[RecordDict | None]
    ) -> list[tuple[Message, RecordDict | None]]:
        """Run the ClientApp on messages; return each reply and the node's state."""
        with self._alone:
            servers = random.getstate(), np.random.get_state()
            self._set(self._generators)
            try:
                return super().answer(messages, states)
            finally:
                self._generators = random.getstate(), np.random.get_state()
                self._set(servers)

    @staticmethod
    def _set(generators: tuple[Any, Any]) -> None:
        random.setstate(generators[0])
        np.random.set_state(generators[1])


def grid_for(run: AppRun) -> AppGrid:
    """Return the grid on the engine that an app's run asks for."""
    if run.resources.engine == "inline":
        return AppGrid(InlineEngine(executor=InlineExecutor))
    along = shipping.packages(folders=[run.app.resolve()])
    # Which library an app uses only the app knows: its workers get what they always got.
    resources = run.resources.model_copy(update={"backend": "tensorflow"})
    return AppGrid(RayEngine(resources, executor=EXECUTOR, ship=along))
