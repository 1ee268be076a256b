"""The seam between training backends and all that uses them.

A backend computes; what it computes is decided once for all of them (:mod:`.plan`): which rows a
step takes, how many steps a client does, which seeds it has. Nothing outside of a backend's own
package knows which library it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from simulation.datasets.inputs import Inputs
from simulation.records.rows import Rows
from simulation.training.measured import Measured, ModelInfo, TrainedClient
from simulation.training.plan import Job, Plan
from strategies.client_rule import ClientRule
from strategies.spec import Spec, Vector

if TYPE_CHECKING:
    from simulation.config.experiment import Experiment
    from simulation.datasets.dataset import Dataset

DEFAULT = "tensorflow"
"""The backend that computes where nothing else is said."""


class ModelError(ValueError):
    """A model that cannot be built or does not fit the data."""


class ModelMetrics(Protocol):
    """The metrics that a model reports beside loss and accuracy."""

    names: tuple[str, ...]
    size: int
    """S: how many numbers their variables are."""

    def results(self, states: NDArray[Any]) -> NDArray[Any]:
        """Return the values of ``names`` [K, M] for variables [K, S]."""

    def columns(self, states: NDArray[Any], prefix: str = "") -> Rows:
        """Return a column for each metric, and one of their variables [K, S]."""


class Trainer(Protocol):
    """Trains and measures clients of one experiment with one model."""

    spec: Spec
    plan: Plan
    initial_slots: Vector
    sgd: tuple[float, bool] | None
    """Momentum of the clients' SGD, and whether it is Nesterov's; None for other optimisers."""
    learning_rate: float | None
    """Of the clients' optimiser; None where it follows a schedule."""

    @property
    def info(self) -> ModelInfo:
        """The model's layout and initial weights."""

    @property
    def metrics(self) -> ModelMetrics:
        """The model's own metrics."""

    @property
    def optimizer(self) -> str:
        """What the optimiser is called."""

    def of(self, experiment: Experiment, rule: ClientRule) -> Trainer:
        """Return a trainer of another run of the same kind, which shares what was compiled."""

    def phase(self, place: int, rule: ClientRule) -> Trainer:
        """Return a trainer of the same model for a phase of local training, which has a rule.

        Args:
            place: of the phase among those of the client rule, from 0.
            rule: what is trained, and how.
        """

    @property
    def lanes(self) -> int:
        """How many clients are trained side by side; where it is 1, each for itself."""

    @property
    def most(self) -> int:
        """How many clients one call of :meth:`train` takes, at most."""

    def group(self, sizes: Sequence[int], chunk: int) -> int:
        """Return how many of some clients, from the first on, one call of :meth:`train` takes.

        A backend whose bits depend on who is trained beside whom stays within the chunk.

        Args:
            sizes: examples of each client.
            chunk: how many of them, from the first on, are of the same chunk.
        """

    def place(self, model: Vector) -> Any:
        """Put a model [P] where training reads it, once for many calls."""

    def train(self, model: Any, job: Job) -> list[TrainedClient]:
        """Train the clients of a job, each from ``model`` (or what :meth:`place` returned)."""

    def evaluate(
        self, model: Vector, x: Inputs, y: NDArray[Any], rows: NDArray[Any],
        sizes: Sequence[int] | None = None, batch: int = 500,
        weights: NDArray[Any] | None = None,
    ) -> Measured:  # fmt: skip
        """Measure a model on rows of the data, in segments of ``sizes``."""

    def save(self, model: Vector) -> bytes:
        """Return a model of weights [P] as the bytes of a ``.keras`` file."""


Asked = tuple[Trainer, Any, Job]
"""A run's trainer, its model [P] or what it has placed, and a job."""

Outcome = list[TrainedClient] | Exception
"""What :meth:`Trainer.train` gives, or what it raises."""


def outcome_of(train: Callable[[], list[TrainedClient]]) -> Outcome:
    """Return what training gives, or what it raises."""
    try:
        return train()
    except Exception as error:
        return error


def done_or_raise(outcome: Outcome) -> list[TrainedClient]:
    """Return what training gave; raise what it raised."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def one_by_one(asked: Sequence[Asked]) -> list[Outcome]:
    """Train jobs of several runs, one after the other."""
    return [outcome_of(partial(trainer.train, model, job)) for trainer, model, job in asked]


class Backend(Protocol):
    """A library that trains: how its processes are set up, and its trainers."""

    def environment(self, threads: int, gpus: float) -> dict[str, str]:
        """Return the environment of a training process; set before the library is imported."""

    def prepare(self, threads: int, gpus: float) -> None:
        """Make this process ready: import the library, bound it, make it deterministic."""

    def trainer(
        self, experiment: Experiment, rule: ClientRule, data: Dataset, weighted: bool
    ) -> Trainer:
        """Return a new trainer.

        Raises:
            ModelError: when the model cannot be built or does not fit the data.
        """

    def train_together(self, asked: Sequence[Asked]) -> list[Outcome]:
        """Train jobs of several runs; what one of them raises is no other's."""


def backend(name: str = DEFAULT) -> Backend:
    """Return a backend by name; its library is imported when it prepares a process."""
    found: Backend = import_module(f"simulation.training.{name}.backend")
    return found
