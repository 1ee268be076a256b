"""The types that every aggregation strategy is made of, and the laws they keep.

A model is ONE flat vector of length P. A :class:`Spec` says which slice of it belongs to which
weight; the T trainable entries come first, so ``vector[:T]`` is what gradients and optimisers
see and ``vector[T:]`` holds moving statistics (BatchNorm), which are only ever averaged.

An :class:`Algorithm` is a value with three parts:

* a **client rule**: what a client changes in its gradient and what it uploads besides its delta;
* a **reducer**: how many updates become one;
* a **server rule**: how that one update moves the model.

All three are pure: what they need comes in, what they make goes out, nothing is kept on ``self``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strategies.folds import bound as bound
from strategies.folds import finish as finish
from strategies.folds import fold_all as fold_all
from strategies.folds import merge_all as merge_all

Vector = NDArray[Any]
"""A one-dimensional floating point array."""

State = Mapping[str, Any]
"""Server state: names to arrays or numbers, so that a checkpoint is (model, state)."""

Schedule = Callable[[int], float]
"""A value that depends on the round: ``schedule(round)``, rounds counted from 1."""


def stream(*key: int) -> np.random.Generator:
    """Return the random stream named by ``key``, e.g. ``stream(seed, PURPOSE, round, client)``.

    Equal keys give equal streams, on every machine and in any order of calls; different keys
    give independent ones (NumPy's SeedSequence).
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((len(key), *key))))


def at_round(value: float | Schedule, round: int) -> float:
    """Return ``value``, or what a schedule gives for ``round``."""
    return float(value(round)) if callable(value) else float(value)


@dataclass(frozen=True)
class Spec:
    """Names and shapes of a model's weights, in the order in which the flat vector holds them.

    Args:
        names: a unique path per weight (Keras' plain names repeat between layers).
        shapes: the shape of each weight.
        trainable: how many of them are trainable; these come first.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    trainable: int

    def __post_init__(self) -> None:
        if len(self.names) != len(self.shapes):
            raise ValueError(f"{len(self.names)} names for {len(self.shapes)} shapes")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names must be unique, got {list(self.names)}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each weight."""
        return tuple(prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """P, the length of the flat vector."""
        return sum(self.sizes)

    @property
    def trainable_size(self) -> int:
        """T, the length of its leading trainable part."""
        return sum(self.sizes[: self.trainable])

    def ravel(self, arrays: Sequence[NDArray[Any]]) -> Vector:
        """Join ``arrays`` (in the spec's order) into one float32 vector of length P."""
        shapes = tuple(tuple(np.shape(a)) for a in arrays)
        if shapes != self.shapes:
            raise ValueError(f"weights have shapes {list(shapes)}, expected {list(self.shapes)}")
        if not arrays:
            return np.zeros(0, np.float32)
        return np.concatenate([np.asarray(a, np.float32).ravel() for a in arrays])

    def unravel(self, vector: Vector) -> list[NDArray[Any]]:
        """Return one view of ``vector`` per weight, in its shape."""
        if vector.shape != (self.size,):
            raise ValueError(f"vector has shape {vector.shape}, expected ({self.size},)")
        ends = np.cumsum(self.sizes)[:-1]
        parts = np.split(vector, ends)
        return [p.reshape(s) for p, s in zip(parts, self.shapes, strict=True)]


@dataclass(frozen=True)
class Update:
    """What one client sends back.

    Args:
        client: the client's number.
        examples: how many training examples it holds.
        delta: its weights after training minus those it received, float32 [P].
        steps: optimiser steps it took.
        extras: further uploads by name, each [T] (a control variate's change, say).
        metrics: numbers the client measured while training (``loss``, ``accuracy``; also
            ``initial_loss`` if the client rule asks for it).
        learning_rate: of the client's optimiser, 0 where there is no single one.
        momentum, nesterov: of its SGD.
        moved: the delta before clipping, where it was clipped: how far the client moved.
        trainable: T, how many leading entries of delta are trainable; None means all.
    """

    client: int
    examples: int
    delta: Vector
    steps: int = 1
    extras: Mapping[str, Vector] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    learning_rate: float = 0.0
    trainable: int | None = None
    momentum: float = 0.0
    nesterov: bool = False
    moved: Vector | None = None


@dataclass(frozen=True)
class Mean:
    """The aggregate of a cohort: what a reducer makes and a server rule consumes.

    Args:
        delta: the aggregated delta, float64 [P].
        extras: the aggregated extras, float64 [T] each.
        weight: total weight of the clients.
        clients: how many clients it stands for.
        scale: what the trainable part is to be multiplied by (FedNova's effective number of
            steps, say); moving statistics, behind it, are averaged as they are.
        sensitivity: the largest L2 norm of one client's part of ``delta``: how far adding or
            removing one moves it (replacing one, twice as far); None if unbounded.
        metrics: means over the cohort by name: ``loss`` is that of the local training; a reducer
            adds what it counts.
    """

    delta: Vector
    extras: Mapping[str, Vector] = field(default_factory=dict)
    weight: float = 1.0
    clients: int = 1
    scale: float = 1.0
    sensitivity: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Round:
    """Where we are: the round's number (from 1), how many clients are registered, the seed.

    Without a seed random numbers are the operating system's: nobody can draw them again.
    """

    number: int
    population: int
    seed: int | None = 0


@dataclass(frozen=True)
class Local:
    """How a client trained: its steps, and learning rate and momentum of its SGD."""

    steps: int
    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False


Hook = Callable[[Any, Any, Any, Mapping[str, Any], Mapping[str, Any]], Any]
"""``hook(g, w, w0, shared, own) -> g'``: elementwise, in plain operators, one weight at a time."""

After = Callable[
    [Vector, Mapping[str, Any], Mapping[str, Vector], Local],
    tuple[Mapping[str, Vector], Mapping[str, Vector]],
]
"""``after(delta, shared, own, local) -> (extras, own')``: all vectors are [T]."""


@dataclass(frozen=True)
class ClientRule:
    """What a client does differently from plain local training.

    Args:
        name: for logs and configuration files.
        hook: changes the gradient. It gets the gradient ``g`` and the weights ``w`` now and
            ``w0`` as received, what the server shares and the client's own state, both by name
            and cut to the weight at hand (numbers stay numbers). It must use plain operators
            only, so that it runs inside the compiled graph and on NumPy arrays alike.
        after: makes the extra uploads and the client's next state, once per local training.
        scalars: numbers shared with every client, by name; a function of the round is a schedule.
        own: names of the state vectors that a client keeps between rounds; they start at zero.
        uploads: names of the extras that ``after`` makes.
        uses: names of what the hook or ``after`` needs the server rule to share.
        full_batch: take one step on all local examples, whatever epochs and batch size are set.
        local: patterns of the names of weights that stay on the client (see strategies.personal).
        initial_loss: measure the mean training loss of the received model before training and
            report it as the metric ``initial_loss``.
        sgd: clients must train with SGD; momentum is allowed for.
    """

    name: str = "plain"
    hook: Hook | None = None
    after: After | None = None
    scalars: Mapping[str, float | Schedule] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    uploads: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    full_batch: bool = False
    initial_loss: bool = False
    local: tuple[str, ...] = ()
    sgd: bool = False

    def share(self, round: int) -> dict[str, float]:
        """Return the shared numbers of a round."""
        return {name: at_round(value, round) for name, value in self.scalars.items()}


class Reducer(Protocol):
    """How the updates of a cohort become one.

    Law: for any split of the clients into groups, merging the groups' partials gives the same
    mean (to 1e-12), and ``merge`` never changes its arguments' meaning: ``fold(p, u)`` equals
    ``merge(p, lift(u))`` and may reuse ``p``.
    """

    def lift(self, update: Update) -> Any:
        """Turn one update into a partial (runs on the worker, once per client)."""

    def merge(self, a: Any, b: Any) -> Any:
        """Join two partials; neither is changed."""

    def fold(self, partial: Any | None, update: Update) -> Any:
        """Add an update to a partial of one's own, which may be changed; None starts one."""

    def finish(self, partial: Any) -> Mean:
        """Turn the total into the cohort's mean update (runs on the server)."""


class ServerRule(Protocol):
    """How the cohort's mean moves the model.

    The engine calls it on the trainable part; what lies behind it (moving statistics) is
    averaged, whatever the rule. Law: equal inputs give equal outputs and inputs are not changed.
    """

    def init(self, model: Vector) -> State:
        """Return the state before round 1 for a model [T]."""

    def step(self, model: Vector, state: State, mean: Mean, at: Round) -> tuple[Vector, State]:
        """Return the next model (same dtype as ``model``) and the next state."""

    def share(self, state: State) -> Mapping[str, Any]:
        """Return what clients get besides the model: vectors [T] or numbers, by name."""


Noise = Callable[[Mean, Round], Mean]
"""``noise(mean, at) -> mean'``: what the server adds to the cohort's mean before using it."""


@dataclass(frozen=True)
class Algorithm:
    """A federated optimisation algorithm: a client rule, a reducer and a server rule.

    Args:
        name: shown in tables and figures.
        client: see :class:`ClientRule`.
        reducer: see :class:`Reducer`.
        server: see :class:`ServerRule`.
        noise: changes the cohort's mean [P] before the server rule sees it (differential
            privacy), moving statistics included.

    A reducer, server rule or noise that cannot work with every other part has a method
    ``refuse(algorithm) -> str | None`` that returns the reason.

    Raises:
        ValueError: if the parts do not fit together; the text gives the reason.
    """

    name: str
    client: ClientRule
    reducer: Reducer
    server: ServerRule
    noise: Noise | None = None

    def __post_init__(self) -> None:
        missing = set(self.client.uses)
        if missing:
            missing -= set(self.server.share(self.server.init(np.zeros(1, np.float32))))
        if missing:
            raise ValueError(
                f"client rule of {self.name!r} must be used with a server rule that shares "
                f"{', '.join(sorted(missing))}: {self.client.name} does not work with {self.server}"
            )
        for part in (self.reducer, self.server, self.noise):
            refuse = getattr(part, "refuse", None)
            reason = refuse(self) if refuse else None
            if reason:
                raise ValueError(f"parts of {self.name!r} must fit together: {reason}")

    def init(self, spec: Spec, model: Vector) -> State:
        """Return the server state before round 1."""
        return self.server.init(model[: spec.trainable_size])

    def share(self, state: State, round: int) -> dict[str, Any]:
        """Return everything that the clients of a round get besides the model."""
        return {**self.client.share(round), **self.server.share(state)}

    def over(self, clients: int) -> Algorithm:
        """Return the algorithm with a mean over a fixed number of clients, if there is noise.

        Noise hides what one client adds to a sum; how many came would tell of it, too. A reducer
        that can divide by a fixed number has a method ``over(clients)``.
        """
        over = getattr(self.reducer, "over", None)
        if self.noise is None or over is None:
            return self
        return replace(self, reducer=over(clients))

    def prepared(
        self, rounds: int, population: int, cohort: int, sampling: str = "poisson"
    ) -> Algorithm:
        """Return the algorithm for a run of so many rounds, clients and clients of a round.

        Noise that is to keep a target epsilon finds its strength here, in a method ``prepared`` of
        the same arguments, and the mean gets its fixed denominator.

        Args:
            rounds: of the run.
            population: N, the registered clients.
            cohort: how many take part in a round; with poisson sampling in the mean, q N.
            sampling: how they are drawn, one of :data:`strategies.cohort.SAMPLINGS`.

        Raises:
            ValueError: if the noise cannot be had.
        """
        prepare = getattr(self.noise, "prepared", None)
        if prepare is None:
            return self
        noise = prepare(rounds, population, cohort, sampling)
        return replace(self, noise=noise).over(cohort)

    def notes(self, shared: Mapping[str, Any], round: int) -> dict[str, float]:
        """Return numbers for a round's record: what the server adapts, the epsilon spent.

        A server rule names in ``shows`` which of the numbers that it shares these are; noise has a
        method ``notes(rounds)``.
        """
        shown = {name: float(shared[name]) for name in getattr(self.server, "shows", ())}
        account = getattr(self.noise, "notes", None)
        return shown | (account(round) if account else {})

    def step(
        self, spec: Spec, model: Vector, state: State, mean: Mean, at: Round
    ) -> tuple[Vector, State]:
        """Apply a cohort's mean to the flat model [P]; return the next model and state."""
        cut = spec.trainable_size
        if self.noise is not None:
            mean = self.noise(mean, at)
        trainable = mean.delta[:cut] if mean.scale == 1.0 else mean.scale * mean.delta[:cut]
        head = replace(mean, delta=trainable, scale=1.0)
        moved, state = self.server.step(model[:cut], state, head, at)
        tail = (model[cut:].astype(np.float64) + mean.delta[cut:]).astype(model.dtype)
        return np.concatenate([moved, tail]), state
