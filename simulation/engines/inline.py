"""The engine without Ray: everything in this process, one call after the other.

For tests and debugging: breakpoints work, and the bits are those of the Ray engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from simulation.datasets.dataset import Dataset
from simulation.engines.engine import EngineGrid
from simulation.population.partition import AnyPartition
from simulation.records.client_states import StateError, told
from simulation.training.tensorflow.process import prepare_tensorflow
from simulation.worker.executor import Executor
from simulation.worker.setup import Setup


class _Ticket:
    """A call that is carried out when its result is asked for."""

    def __init__(self, name: str, call: Callable[[], Any], done: Callable[[], None] | None) -> None:
        self.name = name
        self._call: Callable[[], Any] | None = call
        self._done = done
        self._value: Any = None

    def value(self) -> Any:
        if self._call is not None:
            try:
                self._value, self._call = self._call(), None
            except StateError as error:
                raise told(str(error)) from error
            if self._done is not None:
                self._done()
        return self._value


class InlineGrid(EngineGrid):
    """Run every call in this process."""

    def start(self, setup: Setup, data: Dataset, partition: AnyPartition) -> None:
        """Build the executor (imports TensorFlow here)."""
        prepare_tensorflow(setup.threads)
        self.setup, self.data, self.partition = setup, data, partition
        self._executor = Executor(setup, data, partition)
        _ = self.run

    def info(self) -> Any:
        """Return the model's layout and initial weights."""
        return self._executor.info()

    def share(self, value: Any) -> Any:
        """Return the value itself."""
        return value

    def submit(
        self,
        call: str,
        *args: Any,
        first: bool = False,
        later: bool = False,
        done: Callable[[], None] | None = None,
        cost: float = 1.0,
        attempts: int | None = None,
    ) -> _Ticket:
        """Note the call."""
        return _Ticket(call, lambda: getattr(self._executor, call)(*args), done)

    def result(self, ticket: _Ticket, timeout: float | None = None) -> Any:
        """Carry out the call."""
        value = ticket.value()
        # A training result comes with what the clients keep: see Executor.train.
        return value[0] if ticket.name == "train" else value

    def values_of(self, tickets: Sequence[_Ticket]) -> list[Any]:
        """Return the values themselves."""
        return [self.result(ticket) for ticket in tickets]

    def kept(self, ticket: _Ticket) -> Any:
        """Return what the call says of its clients' states."""
        return ticket.value()[1]

    def close(self) -> None:
        """Nothing to release."""
