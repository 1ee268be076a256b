"""What a worker needs besides the data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulation.config.compression import encoding_of
from simulation.config.experiment import Experiment
from simulation.config.given import Given
from simulation.records.client_states import StateFolder
from strategies.client_rule import ClientRule
from strategies.protocols import Reducer

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp


@dataclass(frozen=True)
class Setup:
    """Everything that a worker needs besides the data.

    Args:
        experiment: the experiment.
        rule: the strategy's client rule.
        reducer: how updates are folded on the worker; None when only messages are used.
        app: a ``ClientApp`` that answers messages; Sunflower's own when None.
        threads: TensorFlow threads of a worker.
        shelf: where workers put what clients keep; None: it comes back with the results.
        given: functions and files that workers get by value.
        grouped: whether the run trains in lanes that it shares with others.
    """

    experiment: Experiment
    rule: ClientRule = field(default_factory=ClientRule)
    reducer: Reducer | None = None
    app: ClientApp | None = None
    threads: int = 1
    shelf: StateFolder | None = None
    given: Given = field(default_factory=Given)
    grouped: bool = False

    @property
    def keeps_slots(self) -> bool:
        """Whether the optimiser goes on from round to round, as it does in the baselines."""
        return self.experiment.mode != "federated"

    @property
    def keeps_error(self) -> bool:
        """Whether clients keep what they have not sent of their updates."""
        encoding = encoding_of(self.experiment)
        return encoding is not None and encoding.feedback

    @property
    def keeps_state(self) -> bool:
        """Whether clients keep anything from round to round."""
        return self.rule.keeps or self.keeps_slots or self.keeps_error
