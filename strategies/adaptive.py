"""What the server adapts from round to round: FedProx's mu, and the norm that clips updates.

Both are numbers in the server's state that clients or workers are told; each wraps another server
rule, which moves the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, inf, isfinite, sqrt
from types import MappingProxyType
from typing import Any

from strategies import checks
from strategies.algorithm import Algorithm
from strategies.client_rule import ClientRule
from strategies.clients import proximal_hook
from strategies.optional_protocols import refusal
from strategies.privacy import WITHIN, Clipped
from strategies.protocols import Round, ServerRule, State
from strategies.server_state import WrapperState
from strategies.spec import Vector
from strategies.stacked import squared_norm
from strategies.sums import Sums
from strategies.updates import Mean, Update

CLIP = "clip"
"""Name of the shared norm."""


def proximal_as_told() -> ClientRule:
    """Pull the local weights towards the received ones, as much as the server says.

    As :func:`~strategies.proximal`, ``g' = g + mu * (w - w0)``, with mu from :class:`AdaptiveMu`.

    Source: FedProx, Li et al. (2020), arXiv 1812.06127.
    """
    return ClientRule(name="proximal as told", hook=proximal_hook, uses=("mu",))


@dataclass(frozen=True)
class _Wrapper:
    """A server rule that adapts a number beside another server rule."""

    server: ServerRule

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse what the rule inside refuses."""
        return refusal(self.server, algorithm)


@dataclass(frozen=True, eq=False)
class MuState(WrapperState):
    """Mu, and what is known of the loss.

    Args:
        mu: what clients are told.
        loss: mean of the last full window; inf before there is one.
        variance: of that mean.
        falls: windows in a row in which the loss has fallen.
        rounds, total, squares: of the window under way: its rounds, the sum of their losses and of
            the squares of these.
    """

    mu: float
    loss: float = inf
    variance: float = 0.0
    falls: int = 0
    rounds: int = 0
    total: float = 0.0
    squares: float = 0.0

    saved_as = MappingProxyType(
        {
            "loss": "mu.loss",
            "variance": "mu.variance",
            "falls": "mu.falls",
            "rounds": "mu.rounds",
            "total": "mu.sum",
            "squares": "mu.squares",
        }
    )


@dataclass(frozen=True)
class AdaptiveMu(_Wrapper):
    """Adapt mu to the training loss, and move the model by another server rule.

    With L the mean loss of the last ``window`` rounds, once a window::

        mu <- mu + step              when L is larger than that of the window before
        mu <- max(0, mu - step)      when it has fallen ``patience`` windows in a row

    The paper's loss is that of all clients, measured every round. Where all take part, a window is
    one round, as in the paper. The loss of a cohort also changes with who is in it: compared from
    round to round it rises half of the time while the model learns, and mu with it. So it is
    averaged over a window, and counts as larger when it is so by more than twice the standard
    error of the difference, which the losses within the two windows give.

    Args:
        server: moves the model.
        mu: at the beginning, >= 0; the paper begins with 1 where clients are alike and with 0
            where they differ, to show that mu finds its way.
        step: of mu, > 0.
        patience: falls in a row, >= 1.
        window: rounds, >= 1, whose loss is averaged where not all clients take part.

    Raises:
        ValueError: for a value out of range; in ``step`` if clients report no loss.

    Source: Li et al. (2020), arXiv 1812.06127, section 5.3.2.
    """

    mu: float = 0.0
    step_size: float = 0.1
    patience: int = 5
    window: int = 5

    shows = ("mu",)

    def __post_init__(self) -> None:
        checks.number("mu", self.mu, ">= 0")
        checks.number("step", self.step_size, "> 0")
        checks.integer("patience", self.patience, ">= 1")
        checks.integer("window", self.window, ">= 1")

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse clients that do not take mu from the server."""
        if "mu" not in algorithm.client.uses:
            return (
                "adaptive mu needs the client rule 'proximal as told', "
                f"got {algorithm.client.name!r}"
            )
        if algorithm.noise is not None:
            return (
                "adaptive mu goes by the clients' losses, which noise for differential privacy "
                f"does not hide, got the noise {algorithm.noise}"
            )
        return super().refuse(algorithm)

    def init(self, model: Vector) -> MuState:
        """Return the state of the rule inside, and mu at the beginning."""
        return MuState(self.server.init(model), float(self.mu))

    def step(self, model: Vector, state: State, mean: Mean, at: Round) -> tuple[Vector, MuState]:
        """Return the next model, and the state with the next mu."""
        if "loss" not in mean.metrics:
            raise ValueError(
                f"metrics of the round must have 'loss' for an adaptive mu, "
                f"got {sorted(mean.metrics)}"
            )
        before, loss = MuState.of(state), float(mean.metrics["loss"])
        model, inner = self.server.step(model, before.server, mean, at)
        now = replace(
            before,
            server=inner,
            rounds=before.rounds + 1,
            total=before.total + loss,
            squares=before.squares + loss**2,
        )
        if now.rounds >= self.window or mean.clients >= at.population:
            now = self._at_the_end_of_a_window(now)
        return model, now

    def _at_the_end_of_a_window(self, known: MuState) -> MuState:
        """Return the state with the next mu and an empty window."""
        loss = known.total / known.rounds
        spread = max(0.0, known.squares - known.total**2 / known.rounds) / max(1, known.rounds - 1)
        variance, mu = spread / known.rounds, known.mu
        falls = known.falls + 1 if isfinite(known.loss) and loss < known.loss else 0
        if loss > known.loss + 2 * sqrt(variance + known.variance):
            mu += self.step_size
        elif falls == self.patience:
            mu, falls = max(0.0, mu - self.step_size), 0
        return MuState(known.server, mu, loss, variance, falls)

    def share(self, state: State) -> Mapping[str, Any]:
        """Return mu and what the rule inside shares."""
        now = MuState.of(state)
        return {**self.server.share(now.server), "mu": now.mu}


@dataclass(frozen=True)
class AdaptiveClipped(Clipped):
    """Clip every update to the norm of the round, and count how many keep it unclipped.

    The norm is that of the server rule :class:`AdaptiveClip`; the mean gets the metric ``within``,
    the share of clients whose update is no longer than it. See :class:`~strategies.privacy.Clipped`
    for the rest.

    With a fixed divisor m, W of K clients within the norm give ``1/2 + (W - K / 2) / m``: a client
    moves that by ``1 / (2 m)`` whether it is within or not, which the noise of the count goes by.

    Source: Andrew et al. (2021), arXiv 1905.03871, Algorithm 1 and theorem 1.
    """

    counts = True

    def at(self, shared: Mapping[str, Any]) -> AdaptiveClipped:
        """Return the reducer of a round."""
        return replace(self, norm=float(shared[CLIP]))

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse means that are not uniform, and a server that does not adapt the norm."""
        if self.by != "uniform":
            return (
                "adaptive clipping counts clients, for which the mean must be "
                f"WeightedMean('uniform'), got {self.reducer}"
            )
        if not isinstance(algorithm.server, AdaptiveClip):
            return f"adaptive clipping needs the server rule AdaptiveClip, got {algorithm.server}"
        return super().refuse(algorithm)

    def within(self, update: Update) -> float:
        """Return 1 if the update keeps the norm, else 0."""
        return float(sqrt(squared_norm(update.delta)) <= self.norm)

    def lift(self, update: Update) -> Sums:
        """Clip, lift and count."""
        sums: Sums = super().lift(update)
        sums.tallies[WITHIN] = self.within(update)
        return sums

    def fold(self, partial: Sums | None, update: Update) -> Sums:
        """Clip, fold and count."""
        if partial is None:
            return self.lift(update)
        sums: Sums = super().fold(partial, update)
        sums.tallies[WITHIN] += self.within(update)
        return sums

    def fold_many(self, partial: Sums | None, updates: Sequence[Update]) -> Sums:
        """Clip, fold and count."""
        sums: Sums = super().fold_many(partial, updates)
        count = sum(self.within(update) for update in updates)
        sums.tallies[WITHIN] = sums.tallies.get(WITHIN, 0.0) + count
        return sums

    def finish(self, partial: Sums) -> Mean:
        """Return the mean, its sensitivity and the share of updates within the norm."""
        mean, count = super().finish(partial), partial.tallies[WITHIN]
        if self.divisor is None:
            within = count / partial.clients
        else:
            within = 0.5 + (count - partial.clients / 2) / self.divisor
        return replace(mean, metrics={**mean.metrics, WITHIN: within})

    def nobody(self, size: int) -> Mean | None:
        """Return the mean of an empty cohort, in which half are within the norm."""
        mean = super().nobody(size)
        return None if mean is None else replace(mean, metrics={WITHIN: 0.5})


@dataclass(frozen=True, eq=False)
class ClipState(WrapperState):
    """The clipping norm of the next round."""

    norm: float

    saved_as = MappingProxyType({"norm": CLIP})


@dataclass(frozen=True)
class AdaptiveClip(_Wrapper):
    """Move the clipping norm towards a quantile of the updates' norms.

    With b the share of updates within the norm, noisy under differential privacy::

        norm <- norm * exp(-rate * (b - quantile))

    Args:
        server: moves the model.
        norm: at the beginning, > 0.
        quantile: which part of the updates is to stay unclipped, in [0, 1).
        rate: how fast the norm adapts, > 0.

    Raises:
        ValueError: for a value out of range.

    Source: Andrew et al. (2021), arXiv 1905.03871, Algorithm 1 (geometric updates).
    """

    norm: float = 0.1
    quantile: float = 0.5
    rate: float = 0.2

    shows = (CLIP,)

    def __post_init__(self) -> None:
        checks.number("norm", self.norm, "> 0")
        checks.number("quantile", self.quantile, "in [0, 1)")
        checks.number("rate", self.rate, "> 0")

    def refuse(self, algorithm: Algorithm) -> str | None:
        """Refuse reducers that do not clip by the adapted norm."""
        if not isinstance(algorithm.reducer, AdaptiveClipped):
            return f"AdaptiveClip needs the reducer AdaptiveClipped, got {algorithm.reducer}"
        return super().refuse(algorithm)

    def init(self, model: Vector) -> ClipState:
        """Return the state of the rule inside, and the norm."""
        return ClipState(self.server.init(model), float(self.norm))

    def step(self, model: Vector, state: State, mean: Mean, at: Round) -> tuple[Vector, ClipState]:
        """Return the next model, and the state with the next norm."""
        now = ClipState.of(state)
        norm = now.norm * exp(-self.rate * (mean.metrics[WITHIN] - self.quantile))
        model, inner = self.server.step(model, now.server, mean, at)
        return model, ClipState(inner, norm)

    def share(self, state: State) -> Mapping[str, Any]:
        """Return the norm and what the rule inside shares."""
        now = ClipState.of(state)
        return {**self.server.share(now.server), CLIP: now.norm}
