"""An algorithm: a client rule, a reducer and a server rule that fit together.

A model is ONE flat vector of length P. A :class:`~strategies.spec.Spec` says which slice of it
belongs to which weight; the T trainable entries come first, so ``vector[:T]`` is what gradients and
optimisers see and ``vector[T:]`` holds moving statistics (BatchNorm), which are only ever averaged.

All parts are pure: what they need comes in, what they make goes out, nothing is kept on ``self``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from strategies.client_rule import ClientRule
from strategies.optional_protocols import (
    AccountsForPrivacy,
    DividesByFixedNumber,
    PreparedForRun,
    ShowsNumbers,
    StartsLaidOut,
    offers,
    refusal,
)
from strategies.protocols import Noise, Reducer, Round, ServerRule, State
from strategies.spec import Spec, Vector
from strategies.updates import Mean


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

    What parts may have besides is in :mod:`strategies.optional_protocols`.

    Raises:
        ValueError: if the parts do not fit together (one of them :class:`Refuses`); the text gives
            the reason.
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
            reason = refusal(part, self)
            if reason:
                raise ValueError(f"parts of {self.name!r} must fit together: {reason}")

    def init(self, spec: Spec, model: Vector) -> State:
        """Return the server state before round 1."""
        head = model[: spec.trainable_size]
        if isinstance(self.server, StartsLaidOut):
            return self.server.init_laid_out(spec, head)
        return self.server.init(head)

    def share(self, state: State, round: int) -> dict[str, Any]:
        """Return everything that the clients of a round get besides the model."""
        return {**self.client.share(round), **self.server.share(state)}

    def over(self, clients: int) -> Algorithm:
        """Return the algorithm with a mean over a fixed number of clients, if there is noise.

        Noise hides what one client adds to a sum; how many came would tell of it, too. So a reducer
        that :class:`DividesByFixedNumber` does.
        """
        if self.noise is None or not isinstance(self.reducer, DividesByFixedNumber):
            return self
        return replace(self, reducer=self.reducer.over(clients))

    def prepared(
        self, rounds: int, population: int, cohort: int, sampling: str = "poisson"
    ) -> Algorithm:
        """Return the algorithm for a run of so many rounds, clients and clients of a round.

        Noise that is :class:`PreparedForRun` finds its strength here, and the mean gets its fixed
        denominator.

        Args:
            rounds: of the run.
            population: N, the registered clients.
            cohort: how many take part in a round; with poisson sampling in the mean, q N.
            sampling: how they are drawn, one of :data:`strategies.cohort.SAMPLINGS`.

        Raises:
            ValueError: if the noise cannot be had.
        """
        if self.noise is None or not isinstance(self.noise, PreparedForRun):
            return self
        noise = self.noise.prepared(rounds, population, cohort, sampling)
        return replace(self, noise=noise).over(cohort)

    def notes(self, shared: Mapping[str, Any], round: int) -> dict[str, float]:
        """Return numbers for a round's record: what the server adapts, the epsilon spent.

        They come from a server rule that :class:`ShowsNumbers` and from noise that
        :class:`AccountsForPrivacy`.
        """
        names = cast(Any, self.server).shows if offers(self.server, ShowsNumbers) else ()
        notes = {name: float(shared[name]) for name in names}
        if self.noise is not None and isinstance(self.noise, AccountsForPrivacy):
            notes |= self.noise.notes(round)
        return notes

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
