"""What a strategy decides of clients' local training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClientConfig:
    """Settings of local training that a message decides; None leaves one to the experiment.

    Args:
        learning_rate: of the clients' optimiser.
        epochs: local epochs.
        batch_size: examples of a step.
    """

    learning_rate: float | None = None
    epochs: int | None = None
    batch_size: int | None = None

    def __bool__(self) -> bool:
        """Tell whether anything is decided."""
        return self != AS_CONFIGURED


AS_CONFIGURED = ClientConfig()
"""Nothing is decided: clients train as the experiment says."""
