"""What a strategy decides of clients' local training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from simulation.config.local_work import LocalWork, local_work
from strategies.phases import Phase

if TYPE_CHECKING:
    from simulation.config.sections import Training


@dataclass(frozen=True)
class ClientConfig:
    """Settings of local training that a message decides; None leaves one to the experiment.

    Args:
        learning_rate: of the clients' optimiser.
        epochs: local epochs.
        batch_size: examples of a step.
        steps: local steps, in the place of epochs.
    """

    learning_rate: float | None = None
    epochs: float | None = None
    batch_size: int | None = None
    steps: int | None = None

    def work(self, training: Training) -> LocalWork:
        """Return what clients do: as is decided here, else as the experiment says."""
        usual = local_work(training)
        batch = self.batch_size or usual.batch
        if self.steps is not None:
            return LocalWork(batch=batch, count=self.steps)
        if self.epochs is None:
            return replace(usual, batch=batch)
        return LocalWork(self.epochs, batch)

    def of_phase(self, phase: Phase) -> ClientConfig:
        """Return what is decided of a phase, which may have work and a rate of its own."""
        rate = self.learning_rate if phase.learning_rate is None else phase.learning_rate
        found = replace(self, learning_rate=rate)
        if phase.epochs is None and phase.steps is None:
            return found
        return replace(found, epochs=phase.epochs, steps=phase.steps)

    def works(self, training: Training, phases: Sequence[Phase]) -> list[LocalWork]:
        """Return what clients do in each phase; one training's work without any."""
        return [one.work(training) for one in map(self.of_phase, phases)] or [self.work(training)]

    def __bool__(self) -> bool:
        """Tell whether anything is decided."""
        return self != AS_CONFIGURED


AS_CONFIGURED = ClientConfig()
"""Nothing is decided: clients train as the experiment says."""
