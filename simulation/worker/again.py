"""Clients whose first training went wrong, trained again: who of them fails, and why.

Training is deterministic: those that are well give the same bits again. Where clients are trained
side by side, their places beside each other stay what they were.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from simulation.config.scheduling import server_round
from simulation.records.client_states import Handle
from simulation.training.measured import TrainedClient
from simulation.worker import faults
from simulation.worker.faults import ClientError, Lost
from simulation.worker.group_trainer import ClientTrainer, RoundInputs
from strategies.reducing import bound, fold_all


class Failure(NamedTuple):
    """Why a client gives no update, and the traceback where it raised."""

    reason: str
    trace: str = ""

    @classmethod
    def now(cls, error: BaseException) -> Failure:
        """Return the failure of the error that is being handled."""
        return cls(faults.reason_of(error), f"\n{traceback.format_exc()}")


class Again:
    """Clients of a chunk that are trained again.

    ``groups``: the clients that one call trains, as it did the first time: beside each other, they
    are folded together too.

    Args:
        trainer: of the process.
        clients: the chunk.
        states: what each kept from its last round.
        inputs: round, model and what is shared.
        gone: who is lost, and why; who fails is added.
    """

    def __init__(
        self,
        trainer: ClientTrainer,
        clients: Sequence[int],
        states: Sequence[Handle | None],
        inputs: RoundInputs,
        gone: dict[int, str],
    ) -> None:
        self._trainer, self._inputs, self._gone = trainer, inputs, gone
        self._states = dict(zip(clients, states, strict=True))
        self._trained: dict[int, TrainedClient] = {}
        self._reducer = bound(trainer.setup.reducer, inputs.shared)
        self.groups: list[Sequence[int]] = []
        while clients:
            size = 1 if trainer.lanes == 1 else trainer.limit(clients)
            self.groups.append(clients[:size])
            clients = clients[size:]

    def examined(self, client: int) -> tuple[TrainedClient | None, Failure]:
        """Return what a client's training gives; None and why where it gives nothing of use."""
        try:
            if client not in self._trained:
                (group,) = (group for group in self.groups if client in group)
                self._train([client], group if len(group) > 1 else None)
            trained = self._trained.pop(client)
            reason = faults.update_flaw(trained.update, self._trainer.size)
        except Exception as error:
            return None, Failure.now(error)
        return (trained, Failure("")) if reason is None else (None, Failure(reason))

    def lose(self, client: int, failure: Failure) -> None:
        """Note a client that is lost.

        Raises:
            ClientError: if none may be.
        """
        self._gone[client] = failure.reason
        experiment = self._trainer.setup.experiment
        if experiment.faults.on_client_error == "fail":
            lost = Lost(server_round(experiment, self._inputs.round), client, failure.reason)
            raise ClientError(f"{lost}{failure.trace}")

    def fold(
        self, total: Any, good: Sequence[TrainedClient]
    ) -> tuple[Any, tuple[int, Failure] | None]:
        """Fold clients of a group; return the total, and who cannot be folded and why, if any."""
        assert self._reducer is not None
        if not good:
            return total, None
        try:
            return fold_all(self._reducer, total, [one.update for one in good]), None
        except Exception as error:
            whole = Failure.now(error)
        for one in good:
            try:
                self._reducer.lift(one.update)
            except Exception as error:
                return total, (one.update.client, Failure.now(error))
        return total, (good[-1].update.client, whole)

    def train_together(self, group: Sequence[int]) -> None:
        """Train a group in one call, if that works: otherwise each one is trained by itself."""
        if len(group) > 1:
            with suppress(Exception):  # Whose fault it is, each one by itself tells.
                self._train([client for client in group if client not in self._gone], group)

    def _train(self, clients: Sequence[int], group: Sequence[int] | None) -> None:
        states = [self._trainer.read(self._states[client]) for client in clients]
        more = {} if group is None else {"beside": group}
        done = self._trainer.train_clients(clients, self._inputs, states, **more)
        self._trained.update(zip(clients, done, strict=True))
