"""What a client keeps from round to round, and how it is put into one vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.training.backend import ModelError
from simulation.training.measured import TrainedClient
from simulation.worker.setup import Setup
from strategies.direction import SECOND
from strategies.personal import frozen_weights, local_entries
from strategies.spec import Spec, Vector


@dataclass(frozen=True)
class ClientState:
    """What a client keeps.

    Args:
        own: the client rule's vectors [T], by name.
        local: weights of which the client has its own [L]; None where there are none.
        slots: the optimiser's state, where it goes on from round to round.
        error: what the client has not sent so far [T], where updates are encoded.
    """

    own: Mapping[str, Vector] = field(default_factory=dict)
    local: Vector | None = None
    slots: Vector | None = None
    error: Vector | None = None


def state_after(trained: TrainedClient) -> ClientState:
    """Return what a client keeps after training."""
    return ClientState(trained.own, trained.local, trained.slots, trained.error)


class StateLayout:
    """Where the parts of a client's state are in its vector, and in the model.

    Args:
        setup: of the run.
        spec: layout of the model.

    Raises:
        ModelError: for a client rule that names weights which the model does not have.
    """

    def __init__(self, setup: Setup, spec: Spec) -> None:
        rule = setup.rule
        try:
            kept = local_entries(spec, rule.kept) if rule.kept else None
            for one in (*rule.phases, *(() if rule.tuned is None else (rule.tuned,))):
                frozen_weights(spec, one.frozen)
        except ValueError as error:
            raise ModelError(str(error)) from error
        self.kept: NDArray[np.int64] | None = kept
        self._rule, self._size = rule, spec.trainable_size
        self._sizes = {name: rule.size(name, self._size) for name in rule.own}
        self._keeps_slots, self._keeps_error = setup.keeps_slots, setup.keeps_error

    def pack(self, state: ClientState) -> Vector:
        """Return a state as one vector: own vectors, error, slots, weights that stay."""
        parts = [state.own[name] for name in self._sizes]
        if self._keeps_error:
            parts.append(np.zeros(self._size) if state.error is None else state.error)
        parts += [part for part in (state.slots, state.local) if part is not None]
        return np.concatenate(parts).astype(np.float32)

    def unpack(self, vector: Vector) -> ClientState:
        """Return the state that a vector holds."""
        local = None
        if self.kept is not None:
            vector, local = vector[: -len(self.kept)], vector[-len(self.kept) :]
        own = dict[str, Vector]()
        for name, size in self._sizes.items():
            own[name], vector = vector[:size], vector[size:]
        error = None
        if self._keeps_error:
            error, vector = vector[: self._size], vector[self._size :]
        return ClientState(own, local, vector if self._keeps_slots else None, error)

    def fresh(self, received: Any) -> Mapping[str, Vector] | None:
        """Return what a client keeps before its first round; None: nothing but zeros.

        Args:
            received: the weights of its first round [P].
        """
        way = self._rule.direction
        if way is None or not way.lasts:
            return None
        own = {name: np.zeros(size, np.float32) for name, size in self._sizes.items()}
        numbers = np.array(list(way.numbers.values()), np.float32)
        own[SECOND] = np.concatenate([np.asarray(received)[: self._size], numbers])
        return own

    def personal(self, model: Vector, state: ClientState | None) -> Vector:
        """Put the weights of which a client has its own into ``model`` [P], and return it."""
        if self.kept is not None and state is not None and state.local is not None:
            model[self.kept] = state.local
        return model

    def keep_local(self, trained: TrainedClient, start: Vector) -> TrainedClient:
        """Take the weights that stay on the client out of its update.

        Where the client has a second model, all of the update is sent.
        """
        if self.kept is None or trained.local is not None:
            return trained
        delta = trained.update.delta.copy()
        kept = start[self.kept] + delta[self.kept]
        delta[self.kept] = 0.0
        return replace(trained, update=replace(trained.update, delta=delta), local=kept)
