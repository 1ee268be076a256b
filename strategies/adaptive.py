"""What the server adapts from round to round: FedProx's mu, and the norm that clips updates.

Both are numbers in the server's state that clients or workers are told; each wraps another server
rule, which moves the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp, inf, isfinite, sqrt
from typing import Any

from strategies import checks
from strategies.clients import proximal_hook
from strategies.core import Algorithm, ClientRule, Mean, Round, ServerRule, State, Update, Vector
from strategies.privacy import WITHIN, Clipped
from strategies.sums import Sums, squared_norm

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
        inner = getattr(self.server, "refuse", None)
        return inner(algorithm) if inner else None


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

    def init(self, model: Vector) -> State:
        """Return the state of the rule inside, mu, and what is known of the loss."""
        known = {"mu.loss": inf, "mu.variance": 0.0, "mu.falls": 0}
        under_way = {"mu.rounds": 0, "mu.sum": 0.0, "mu.squares": 0.0}
        return {**self.server.init(model), "mu": float(self.mu), **known, **under_way}

    def step(self, model: Vector, state: State, mean: Mean, at: Round) -> tuple[Vector, State]:
        """Return the next model, and the state with the next mu."""
        if "loss" not in mean.metrics:
            raise ValueError(
                f"metrics of the round must have 'loss' for an adaptive mu, "
                f"got {sorted(mean.metrics)}"
            )
        loss, rounds = float(mean.metrics["loss"]), state["mu.rounds"] + 1
        total, squares = state["mu.sum"] + loss, state["mu.squares"] + loss**2
        model, inner = self.server.step(model, state, mean, at)
        known = {name: state[name] for name in ("mu", "mu.loss", "mu.variance", "mu.falls")}
        if rounds >= self.window or mean.clients >= at.population:
            spread = max(0.0, squares - total**2 / rounds) / max(1, rounds - 1)
            known = self._compared(known, total / rounds, spread / rounds)
            rounds, total, squares = 0, 0.0, 0.0
        under_way = {"mu.rounds": rounds, "mu.sum": total, "mu.squares": squares}
        return model, {**inner, **known, **under_way}

    def _compared(self, known: State, loss: float, variance: float) -> dict[str, Any]:
        """Return what is known after a window of this mean loss, and the mean's variance."""
        mu, before, falls = known["mu"], known["mu.loss"], known["mu.falls"]
        falls = falls + 1 if isfinite(before) and loss < before else 0
        if loss > before + 2 * sqrt(variance + known["mu.variance"]):
            mu += self.step_size
        elif falls == self.patience:
            mu, falls = max(0.0, mu - self.step_size), 0
        return {"mu": mu, "mu.loss": loss, "mu.variance": variance, "mu.falls": falls}

    def share(self, state: State) -> Mapping[str, Any]:
        """Return mu and what the rule inside shares."""
        return {**self.server.share(state), "mu": state["mu"]}


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

    def init(self, model: Vector) -> State:
        """Return the state of the rule inside, and the norm."""
        return {**self.server.init(model), CLIP: float(self.norm)}

    def step(self, model: Vector, state: State, mean: Mean, at: Round) -> tuple[Vector, State]:
        """Return the next model, and the state with the next norm."""
        norm = state[CLIP] * exp(-self.rate * (mean.metrics[WITHIN] - self.quantile))
        model, inner = self.server.step(model, state, mean, at)
        return model, {**inner, CLIP: norm}

    def share(self, state: State) -> Mapping[str, Any]:
        """Return the norm and what the rule inside shares."""
        return {**self.server.share(state), CLIP: state[CLIP]}
