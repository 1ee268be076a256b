"""What workers are asked to do, as values: typed calls, how they went, and how they fail.

A call is a frozen dataclass that travels to a worker and is carried out there on the run's
executor. What an engine must know of it (how large it is, whom it is about) is part of it, so that
no engine knows any call in particular.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from simulation.records.client_states import StateError, as_driver_error
from simulation.records.rows import Rows
from simulation.training.client_config import AS_CONFIGURED, ClientConfig
from simulation.training.measured import Measured, ModelInfo
from simulation.worker.faults import ClientError, WorkerError
from simulation.worker.mixed import train_groups
from simulation.worker.tree import Tree
from strategies.spec import Vector

if TYPE_CHECKING:
    from simulation.records.client_states import Handle
    from simulation.worker.chunk import Part
    from simulation.worker.executor import Executor


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


class ClusterLost(WorkerError):
    """The cluster's head is out of reach, without which no cluster goes on."""


class AgentLost(WorkerError):
    """Ray's agent on the driver's machine has died, without which nothing here goes on."""


@dataclass(frozen=True)
class Home:
    """Where a call is best carried out: beside others whose values are merged with its own.

    Args:
        node: the host's node.
        spare: cost of calls of its own that the host may have waiting before others help.
    """

    node: str
    spare: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call. Fields that hold what :meth:`Engine.share` returned are read where it is carried out.

    Args:
        cost: its size, compared with other calls of its name: says when it counts as hung.
        clients: how many clients it is about.
        examples: how many examples it is about.
        inputs: handles from :meth:`Engine.values_of`, whose values ``run`` gets.
        zipped: whether its value is compressed for its way, where it is carried out alone.
        home: where it should be carried out; None: anywhere.
    """

    name: ClassVar[str] = "call"
    """What logs and Ray's dashboard call it."""
    kind: ClassVar[str | None] = None
    """Its kind of work in ``timeline.parquet``; None where it belongs to no round."""
    first: ClassVar[bool] = False
    """Whether it goes before all that is queued."""
    low_priority: ClassVar[bool] = False
    """Whether it yields to all other work."""
    tells_speed: ClassVar[bool] = False
    """Whether cost and time together say how fast a worker is."""
    keeps_states: ClassVar[bool] = False
    """Whether ``run`` returns a pair: the value, and what is told of the clients' states."""
    meets: ClassVar[bool] = False
    """Whether runs of a group carry out theirs together."""

    cost: float = 1.0
    clients: int = 0
    examples: int = 0
    inputs: tuple[Any, ...] = ()
    zipped: bool = False
    home: Home | None = None

    @property
    def of_round(self) -> int | None:
        """The round that it belongs to; None: the one under way."""
        return None

    @property
    def within(self) -> tuple[Call, ...]:
        """The calls that it consists of, whose fields hold what was shared."""
        return (self,)

    def run(self, executor: Any, *inputs: Any) -> Any:
        """Carry it out in a worker."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Info(Call):
    """Ask for the model's layout and initial weights."""

    name: ClassVar[str] = "info"

    @override
    def run(self, executor: Executor, *inputs: Any) -> ModelInfo:
        return executor.info()


@dataclass(frozen=True, kw_only=True)
class Train(Call):
    """Train the clients below a node of the merge tree (see :meth:`Executor.train`)."""

    name: ClassVar[str] = "train"
    kind: ClassVar[str | None] = "train"
    tells_speed: ClassVar[bool] = True
    keeps_states: ClassVar[bool] = True
    meets: ClassVar[bool] = True

    round: int
    node: Tree[NDArray[np.int64]]
    model: Any
    shared: Any
    states: list[Handle | None]
    skip: Mapping[int, str] = field(default_factory=dict)
    config: ClientConfig = AS_CONFIGURED
    parts: Mapping[int, float] = field(default_factory=dict)
    lanes: int | None = None
    """Clients side by side, as the worker has them that was asked first; None: not known."""

    @property
    @override
    def of_round(self) -> int | None:
        return self.round

    @override
    def run(self, executor: Executor, *inputs: Any) -> tuple[Part, Any]:
        """Return the node's part, and what is told of states.

        Raises:
            WorkerError: where this worker would train other numbers of clients side by side.
        """
        if self.lanes is not None and executor.lanes != self.lanes:
            raise WorkerError(
                f"resources.lanes must be given where workers' GPUs are unlike, as last bits "
                f"depend on it: one would train {self.lanes} clients side by side, "
                f"another {executor.lanes}"
            )
        return executor.train(
            self.round, self.node, self.model, self.shared, self.states, self.skip, self.config,
            self.parts,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainGroups(Call):
    """Train groups of clients, one after the other, each from a model of its own.

    Args:
        groups: what to train; their clients keep nothing.
    """

    name: ClassVar[str] = "train"
    kind: ClassVar[str | None] = "train"
    tells_speed: ClassVar[bool] = True

    groups: tuple[Train, ...]

    @property
    @override
    def within(self) -> tuple[Call, ...]:
        return self.groups

    @override
    def run(self, executor: Executor, *inputs: Any) -> list[Part]:
        """Return the part of each group."""
        return train_groups(executor, self.groups)


@dataclass(frozen=True, kw_only=True)
class TrainGroupsFirst(TrainGroups):
    """Groups that the server waits for."""

    first: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class TrainOnServer(Call):
    """Train on the server's own examples (see :meth:`Executor.train_on_server`)."""

    name: ClassVar[str] = "train_on_server"
    kind: ClassVar[str | None] = "server"
    first: ClassVar[bool] = True

    round: int
    model: Any
    shared: Any

    @property
    @override
    def of_round(self) -> int | None:
        return self.round

    @override
    def run(self, executor: Executor, *inputs: Any) -> Vector:
        """Return the update [P]."""
        return executor.train_on_server(self.round, self.model, self.shared)


@dataclass(frozen=True, kw_only=True)
class Joint(Call):
    """Calls of several runs that a worker carries out together.

    Args:
        calls: the runs' numbers in the pool, and the calls.
        packed: whether their values travel as one, which for small ones costs Ray far less.
    """

    name: ClassVar[str] = "joint"

    calls: tuple[tuple[int, Call], ...]
    packed: bool = False


@dataclass(frozen=True, kw_only=True)
class Merge(Call):
    """Merge parts, its inputs, into that of the node above them.

    Args:
        shape: the tree below that node, with the places of inputs as leaves.
    """

    name: ClassVar[str] = "merge"
    kind: ClassVar[str | None] = "merge"
    first: ClassVar[bool] = True

    shape: Tree[int]

    @override
    def run(self, executor: Executor, *inputs: Any) -> Part:
        return executor.merge(self.shape, inputs)


@dataclass(frozen=True, kw_only=True)
class EvaluateClients(Call):
    """Measure a model on clients' validation examples; of each its own, where it keeps layers."""

    name: ClassVar[str] = "evaluate_clients"
    kind: ClassVar[str | None] = "evaluate"
    low_priority: ClassVar[bool] = True

    ids: NDArray[np.int64]
    model: Any
    states: list[Handle | None] | None = None
    shared: Any = None

    @override
    def run(self, executor: Executor, *inputs: Any) -> Rows:
        """Return a row for each client."""
        if self.states is None:
            return executor.evaluate_clients(self.ids, self.model)
        return executor.evaluate_own(self.ids, self.model, self.states, self.shared)


@dataclass(frozen=True, kw_only=True)
class EvaluateTest(Call):
    """Measure a model on rows ``start`` to ``stop`` of the server's test set."""

    name: ClassVar[str] = "evaluate_test"
    kind: ClassVar[str | None] = "test"
    low_priority: ClassVar[bool] = True

    start: int
    stop: int
    model: Any

    @override
    def run(self, executor: Executor, *inputs: Any) -> Measured:
        return executor.evaluate_test(self.start, self.stop, self.model)


@dataclass(frozen=True, kw_only=True)
class EvaluateBackdoor(EvaluateTest):
    """Measure how often a backdoor works, on the test examples that it is for."""

    name: ClassVar[str] = "evaluate_backdoor"

    @override
    def run(self, executor: Executor, *inputs: Any) -> Measured:
        return executor.evaluate_backdoor(self.start, self.stop, self.model)


@dataclass(frozen=True, kw_only=True)
class EvaluateTestOwn(Call):
    """Measure clients' own models on the whole test set."""

    name: ClassVar[str] = "evaluate_test_own"
    kind: ClassVar[str | None] = "test"
    low_priority: ClassVar[bool] = True

    model: Any
    states: list[Handle | None]

    @override
    def run(self, executor: Executor, *inputs: Any) -> dict[str, float]:
        """Return sums over the clients."""
        return executor.evaluate_test_own(self.model, self.states)


@dataclass(frozen=True, kw_only=True)
class MetricResults(Call):
    """Turn the variables [S] of the model's own metrics into values."""

    name: ClassVar[str] = "metric_results"
    first: ClassVar[bool] = True

    variables: NDArray[Any]

    @override
    def run(self, executor: Executor, *inputs: Any) -> dict[str, float]:
        return executor.metric_results(self.variables)


@dataclass(frozen=True, kw_only=True)
class Save(Call):
    """Return a model as the bytes of a ``.keras`` file."""

    name: ClassVar[str] = "save"

    model: Any

    @override
    def run(self, executor: Executor, *inputs: Any) -> bytes:
        return executor.save(self.model)


BAD_INPUT = ("ModelError", "ConfigError")
"""Errors that say what is wrong with what the user has given."""


@dataclass(frozen=True)
class Status:
    """How a call went: when it ran (seconds since the epoch), the error if it failed, where.

    ``each``: of a joint call, how those went that it consists of.
    """

    started: float
    ended: float
    error: str | None = None
    trace: str = ""
    node: str = ""
    each: tuple[Status, ...] = ()

    def share(self, place: int, count: int) -> Status:
        """Return how one of so many calls went that took this time together, evenly shared out."""
        each = (self.ended - self.started) / count
        started = self.started + place * each
        return replace(self, started=started, ended=started + each)

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
            return as_driver_error(text)
        if self.kind in BAD_INPUT:
            return ValueError(text)
        return WorkerError(f"{self.error}\n{self.trace}")
