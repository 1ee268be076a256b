"""What a part may have besides its protocol: each a protocol of its own, looked for by its method.

A reducer, server rule or noise needs none of them. One that has the method has the protocol,
whatever it inherits from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from strategies.protocols import Noise, Reducer, Round, State
from strategies.spec import Spec, Vector
from strategies.updates import Mean, Update

if TYPE_CHECKING:
    from strategies.algorithm import Algorithm


@runtime_checkable
class Refuses(Protocol):
    """A reducer, server rule or noise that does not work with every other part."""

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Return why it cannot be a part of ``algorithm``; None if it can."""


@runtime_checkable
class StartsLaidOut(Protocol):
    """A server rule whose first state depends on which weight an entry is of."""

    def init_laid_out(self, spec: Spec, model: Vector) -> State:
        """Return the state before round 1 for the trainable entries [T] of a model."""


@runtime_checkable
class FoldsMany(Protocol):
    """A reducer that folds several updates faster than one by one.

    Law: ``fold_many(p, [u, v])`` has the bits of ``fold(fold(p, u), v)``, where deltas are arrays;
    those that are summed where they are (:class:`~strategies.stacked.Row`) are summed first.
    """

    def fold_many(self, partial: Any | None, updates: Sequence[Update]) -> Any:
        """Add updates to a partial of one's own, which may be changed; None starts one."""


@runtime_checkable
class AddsUp(Protocol):
    """A reducer that says whether it needs more of a delta than its multiples' sum and its norm."""

    @property
    def only_sums(self) -> bool:
        """Whether it does not: deltas may then stay where they were computed."""


@runtime_checkable
class MergesInPlace(Protocol):
    """A reducer that merges without allocating a new partial.

    Law: ``absorb(a, b)`` has the bits of ``merge(a, b)``; it may change a, but not b.
    """

    def absorb(self, a: Any, b: Any) -> Any:
        """Join two partials, the first one of one's own."""


@runtime_checkable
class AdaptsToRound(Protocol):
    """A reducer that depends on what the server shares (an adaptive clipping norm)."""

    def at(self, shared: Mapping[str, Any]) -> Reducer:
        """Return the reducer of a round in which the server shares ``shared``."""


@runtime_checkable
class Discounts(Protocol):
    """A reducer whose updates can count for less than they weigh, as they come from old models."""

    def merge_discounted(self, partials: Sequence[Any], factors: Sequence[float]) -> Any:
        """Join partials, the deltas and extras of each multiplied by a factor; weights stay."""


@runtime_checkable
class FinishesInRound(Protocol):
    """A reducer whose mean depends on the round, or on what only the server knows.

    Law: the reducer of a round folds and merges as this one does; only ``finish`` may differ.
    """

    def during(self, at: Round, state: State) -> Reducer:
        """Return the reducer that finishes a round's cohort, with the server's state before it."""


@runtime_checkable
class ComparesWithServer(FinishesInRound, Protocol):
    """A reducer that compares updates with one that the server trains on examples of its own.

    ``during`` finds it beside the server's state, as :data:`~strategies.trust.SERVER_UPDATE`.
    """

    @property
    def trains_on_server(self) -> bool:
        """Whether the server trains for it."""


@runtime_checkable
class DividesByFixedNumber(Protocol):
    """A reducer that can divide by a number of clients fixed beforehand, whoever comes."""

    def over(self, clients: int) -> Reducer:
        """Return the reducer whose mean is over so many clients."""


@runtime_checkable
class AveragesNobody(Protocol):
    """A reducer that has a mean of an empty cohort, as it divides by a fixed number."""

    def nobody(self, size: int) -> Mean | None:
        """Return the mean [P] of an empty cohort; None while the number is not known."""


@runtime_checkable
class WrapsReducer(Protocol):
    """A reducer that changes what goes to another one, or comes from it."""

    @property
    def reducer(self) -> Reducer:
        """The reducer behind it."""


@runtime_checkable
class WeighsClients(Protocol):
    """A reducer that weighs clients by their examples, or all alike."""

    @property
    def by(self) -> str | None:
        """``"examples"`` or ``"uniform"``; None leaves it to how cohorts are drawn."""


@runtime_checkable
class NeedsSGD(Protocol):
    """A client rule or reducer that may take clients' steps for those of SGD."""

    @property
    def sgd(self) -> bool:
        """Whether it does: clients with other optimisers are refused."""


@runtime_checkable
class ToldMomentum(NeedsSGD, Protocol):
    """A reducer whose formula has the momentum of the clients' SGD."""

    @property
    def momentum(self) -> float | None:
        """The momentum; None takes what each client reports."""


@runtime_checkable
class ShowsNumbers(Protocol):
    """A server rule with numbers for the round's record among those that it shares."""

    @property
    def shows(self) -> tuple[str, ...]:
        """The names of these numbers."""


@runtime_checkable
class PreparedForRun(Protocol):
    """Noise that depends on how long a run is (to keep a target epsilon)."""

    def prepared(self, rounds: int, population: int, cohort: int, sampling: str) -> Noise:
        """Return the noise of a run; for the arguments see :meth:`Algorithm.prepared`."""


@runtime_checkable
class AccountsForPrivacy(Protocol):
    """Noise that knows what privacy it has cost."""

    def notes(self, rounds: int) -> dict[str, float]:
        """Return numbers for the record of a round (epsilon, delta), after so many rounds."""


def offers(part: Any, protocol: Any) -> bool:
    """Tell what ``isinstance(part, protocol)`` tells, asked once for all parts of a type.

    Protocols that are looked for in every round: Python goes through all of their names each time.
    """
    known = (type(part), protocol)
    if known not in _OFFERED:
        _OFFERED[known] = isinstance(part, protocol)
    return _OFFERED[known]


_OFFERED: dict[tuple[type, Any], bool] = {}


def refusal(part: Any, algorithm: Algorithm) -> str | None:
    """Return why ``part`` cannot be one of ``algorithm``; None if it can, or never refuses."""
    return part.refuse(algorithm) if isinstance(part, Refuses) else None


def wants_server_update(reducer: Any) -> bool:
    """Tell whether a reducer, or the one behind it, compares updates with one of the server's."""
    behind = innermost(reducer)
    return isinstance(behind, ComparesWithServer) and behind.trains_on_server


def innermost(reducer: Any) -> Any:
    """Return the reducer behind all that wrap it."""
    while isinstance(reducer, WrapsReducer):
        reducer = reducer.reducer
    return reducer
