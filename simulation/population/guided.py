"""Cohorts that go by how long clients take and what they reported: Oort, and the tiers of TiFL.

``oort``. With n_i a client's examples, l_i the loss of its last training, L_i the round of it and
t_i its time, a client that has taken part is worth in round R::

    U_i = min(n_i l_i, the 95th percentile of these)
    u_i = (U_i - min U) / (max U - min U) + sqrt(0.1 log R / L_i)
    and (T / t_i)^penalty times as much if t_i > T

Of the cohort, ``max(exploration_least, exploration exploration_decay^(R - 1))`` are clients that
have not taken part, drawn in proportion to 1 / t_i. The others are drawn in proportion to their
worth, of those with at least 95% of that of the last one that would be among the best. T is a
percentile of all clients' times; where the n_i l_i that cohorts brought in the last ``pace`` rounds
sum up to less than in as many before, it grows by ``pace_step``.

``tifl``. Clients are cut by t_i into ``tiers`` of equal size. A round's cohort is drawn at random
from one tier with credits left, which then has one less. At first all tiers are equally likely.
Every ``adapt`` rounds it is looked at whether the loss of the tier of that round has fallen since
the last look; where it has not, the n tiers with credits are ordered by their loss, the largest
first, and tier k of them, from 0, has the probability ``(n - k) / (n (n + 1) / 2)``.

Departures: Oort goes by the squares of examples' losses, of which clients report the mean alone;
TiFL goes by accuracies on test data of each tier, here by the mean loss that its clients last
reported.

Source: Lai et al. (2021), arXiv 2010.06081, Algorithm 1, with the scale of U and the percentile of
times of its authors' code; Chai et al. (2020), arXiv 2001.09249, Algorithm 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from simulation.config.experiment import Experiment
from simulation.config.sampling import Sampling
from simulation.population.clock import World
from strategies.cohort import in_proportion
from strategies.protocols import State
from strategies.random_streams import stream

OORT, TIFL = 0x4F6F, 0x5469
"""Purposes of the random streams of cohorts."""

CLIP, CUT, UNCERTAIN = 95.0, 0.95, 0.1
"""Of Oort: the percentile at which ``n_i l_i`` is clipped, the part of the last one's worth that is
enough, and the weight of not having heard of a client for long."""

PREFIX = "guided."
"""How keys in the state begin."""

Places = NDArray[np.int64]
Column = NDArray[np.float64]


class Guided:
    """What clients reported, for samplings that go by it.

    Args:
        experiment: the experiment.
        world: how long clients take, and what they have.
    """

    def __init__(self, experiment: Experiment, world: World) -> None:
        self.plan: Sampling = experiment.sampling
        self.seed, self.rounds = experiment.seed, experiment.rounds
        everybody = np.arange(len(world.fleet))
        self.seconds: Column = np.maximum(world.durations(everybody).total, 1e-9)
        self.sizes: Column = world.sizes.astype(np.float64)
        self.losses: Column = np.full(len(everybody), np.nan)
        self.last: Places = np.zeros(len(everybody), np.int64)

    def choose(self, round: int, there: Places, count: int) -> Places:
        """Return a cohort of at most ``count`` of the clients that are there, in any order."""
        raise NotImplementedError

    def hear(self, round: int, clients: Places, losses: Column) -> None:
        """Note what the clients of a round reported: their mean training loss."""
        self.losses[clients] = np.nan_to_num(losses, nan=0.0, posinf=0.0)
        self.last[clients] = round

    def kept(self) -> dict[str, Any]:
        """Return what a sampling keeps besides, by name."""
        return {}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Go on with what :meth:`kept` returned."""

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        known = np.flatnonzero(self.last)
        found = {
            "clients": known,
            "losses": self.losses[known],
            "rounds": self.last[known],
            **self.kept(),
        }
        return {f"{PREFIX}{name}": value for name, value in found.items()}

    @state.setter
    def state(self, state: State) -> None:
        found = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
        known = found.pop("clients")
        self.losses[known], self.last[known] = found.pop("losses"), found.pop("rounds")
        self.restore(found)


class Oort(Guided):
    """Clients of whom much is learned in little time, and some that are not known yet."""

    def __init__(self, experiment: Experiment, world: World) -> None:
        super().__init__(experiment, world)
        self.percentile = self.plan.preferred
        self.gained: list[float] = []

    @override
    def choose(self, round: int, there: Places, count: int) -> Places:
        plan, rng = self.plan, stream(self.seed, OORT, round)
        known, new = there[self.last[there] > 0], there[self.last[there] == 0]
        share = max(
            plan.exploration_least, plan.exploration * plan.exploration_decay ** (round - 1)
        )
        count = min(count, len(there))
        few = min(len(new), max(int(np.rint(share * count)), count - len(known)))
        explored = new[in_proportion(rng, 1 / self.seconds[new], few)]
        if few == count:
            return explored
        worth = self.worth(round, known)
        last = np.sort(worth)[::-1][count - few - 1]
        good = np.flatnonzero(worth >= CUT * last)
        chosen = known[good[in_proportion(rng, worth[good], count - few)]]
        return np.concatenate([explored, chosen])

    def useful(self, clients: Places) -> Column:
        """Return ``n_i l_i``, clipped."""
        whole = self.sizes[clients] * self.losses[clients]
        return np.minimum(whole, np.percentile(whole, CLIP))

    def worth(self, round: int, clients: Places) -> Column:
        """Return u_i of clients that have taken part, times what slow ones lose."""
        useful, prefers = self.useful(clients), np.percentile(self.seconds, self.percentile)
        span = float(np.ptp(useful))
        scaled = (useful - useful.min()) / span if span > 0 else np.ones(len(clients))
        unsure = np.sqrt(UNCERTAIN * np.log(round) / self.last[clients])
        slow = np.minimum(prefers / self.seconds[clients], 1.0) ** self.plan.penalty
        return np.asarray((scaled + unsure) * slow)

    @override
    def hear(self, round: int, clients: Places, losses: Column) -> None:
        super().hear(round, clients, losses)
        self.gained.append(float(np.sum(self.sizes[clients] * self.losses[clients])))
        pace = self.plan.pace
        if round % pace or len(self.gained) < 2 * pace:
            return
        before, now = sum(self.gained[-2 * pace : -pace]), sum(self.gained[-pace:])
        if before > now:
            self.percentile = min(100.0, self.percentile + self.plan.pace_step)
        self.gained = self.gained[-pace:]

    @override
    def kept(self) -> dict[str, Any]:
        return {"percentile": self.percentile, "gained": np.array(self.gained)}

    @override
    def restore(self, kept: Mapping[str, Any]) -> None:
        self.percentile = float(kept["percentile"])
        self.gained = np.asarray(kept["gained"], np.float64).tolist()


class Tiers(Guided):
    """Cohorts of clients that take about equally long."""

    def __init__(self, experiment: Experiment, world: World) -> None:
        super().__init__(experiment, world)
        many = self.plan.tiers
        order = np.argsort(self.seconds, kind="stable")
        self.tier = np.empty(len(order), np.int64)
        self.tier[order] = np.arange(len(order)) * many // len(order)
        self.credits = np.full(many, self.plan.credits or self.rounds, np.int64)
        self.chances = np.full(many, 1 / many)
        self.seen = np.full(many, np.inf)
        self.current = 0

    @override
    def choose(self, round: int, there: Places, count: int) -> Places:
        rng, tiers = stream(self.seed, TIFL, round), self.tier[there]
        open_ = np.bincount(tiers, minlength=self.plan.tiers) > 0
        left = open_ & (self.credits > 0)
        # Where only tiers without credits are there, one of them has the round all the same.
        chances = np.where(left if left.any() else open_, self.chances, 0.0)
        if not chances.sum() > 0:
            chances = (left if left.any() else open_).astype(np.float64)
        self.current = int(rng.choice(len(chances), p=chances / chances.sum()))
        self.credits[self.current] = max(0, self.credits[self.current] - 1)
        mine = there[tiers == self.current]
        return rng.choice(mine, min(count, len(mine)), replace=False, shuffle=False)

    @override
    def hear(self, round: int, clients: Places, losses: Column) -> None:
        super().hear(round, clients, losses)
        if round % self.plan.adapt:
            return
        now = self.told()
        if not now[self.current] < self.seen[self.current]:
            self.chances = ranked(now, self.credits > 0)
        self.seen = now

    def told(self) -> Column:
        """Return the mean loss that each tier's clients reported last; infinity where none did."""
        known = np.flatnonzero(self.last)
        tiers, many = self.tier[known], self.plan.tiers
        clients = np.bincount(tiers, minlength=many)
        total = np.bincount(tiers, weights=self.losses[known], minlength=many)
        return np.where(clients > 0, total / np.maximum(clients, 1), np.inf)

    @override
    def kept(self) -> dict[str, Any]:
        return {"credits": self.credits, "chances": self.chances, "seen": self.seen}

    @override
    def restore(self, kept: Mapping[str, Any]) -> None:
        self.credits = np.array(kept["credits"], np.int64)
        self.chances, self.seen = np.array(kept["chances"]), np.array(kept["seen"])


def ranked(losses: Column, left: NDArray[np.bool_]) -> Column:
    """Return the probabilities of tiers: the larger the loss, the likelier; 0 without credits."""
    order = [place for place in np.argsort(-losses, kind="stable").tolist() if left[place]]
    chances, many = np.zeros(len(losses)), len(order)
    for rank, place in enumerate(order):
        chances[place] = (many - rank) / (many * (many + 1) / 2)
    return chances


class Chooser(Protocol):
    """How a kind is made."""

    def __call__(self, experiment: Experiment, world: World, /) -> Guided:
        """Return the sampling of a run."""


KINDS: Mapping[str, Chooser] = {"oort": Oort, "tifl": Tiers}
"""The samplings here."""


def guided(experiment: Experiment, world: World) -> Guided | None:
    """Return what an experiment's cohorts are chosen by; None where its sampling is no such."""
    kind = experiment.sampling.kind
    return KINDS[kind](experiment, world) if kind is not None and kind in KINDS else None
