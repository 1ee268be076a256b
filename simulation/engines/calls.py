"""Calls of workers: how they went, and how they fail."""

from __future__ import annotations

from dataclasses import dataclass

from simulation.records.client_states import StateError, told
from simulation.worker.faults import ClientError, WorkerError


class Poisoned(RuntimeError):
    """A call took down as many workers as it may.

    Args:
        text: how.
        final: whether it had all attempts (the parts of a split unit have one).
    """

    def __init__(self, text: str, final: bool = True) -> None:
        super().__init__(text)
        self.final = final


class ValueLost(RuntimeError):
    """A value went down with the node that held it, and must be made again."""


BAD_INPUT = ("ModelError", "PluginError", "ConfigError")
"""Errors that say what is wrong with what the user has given."""


@dataclass(frozen=True)
class Status:
    """How a call went: when it ran (seconds since the epoch), the error if it failed, where."""

    started: float
    ended: float
    error: str | None = None
    trace: str = ""
    node: str = ""

    @property
    def kind(self) -> str:
        """Name of the error's class."""
        return (self.error or "").partition(": ")[0]

    @property
    def exception(self) -> Exception | None:
        """The error as the driver raises it."""
        if self.error is None:
            return None
        text = self.error.partition(": ")[2]
        if self.kind == ClientError.__name__:
            return ClientError(text)
        if self.kind == StateError.__name__:
            return told(text)
        if self.kind in BAD_INPUT:
            return ValueError(text)
        return WorkerError(f"{self.error}\n{self.trace}")
