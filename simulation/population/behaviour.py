"""Clients as they are outside: unavailable, silent, slow. Simulated, seeded, for every strategy.

Every draw comes from ``stream(seed, PURPOSE, ...)`` and depends on the experiment's seed, the
round and the client only, so that all strategies compared meet the same clients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from simulation.config.experiment import Experiment
from strategies.random_streams import stream

DROPOUT, STRAGGLER, AVAILABLE, SPEED = 21, 22, 23, 24
"""Purposes of the random streams."""

SIGMA = 0.5
"""Spread of the clients' simulated speeds: the standard deviation of their logarithm."""


@dataclass(frozen=True)
class Cast:
    """Who does what in a round.

    Args:
        cohort: the clients that train.
        asked: how many were asked.
        absent: clients that were asked and whose work does not count, with the reason.
        parts: of the stragglers among those that train, which part of their work they do.
    """

    cohort: list[int]
    asked: int
    absent: dict[int, str] = field(default_factory=dict)
    parts: dict[int, float] = field(default_factory=dict)


def cast(
    experiment: Experiment,
    round: int,
    population: int,
    sample: Callable[[int | Sequence[int], int | None], list[int]],
    work: Callable[[Sequence[int]], np.ndarray],
    present: Sequence[int] | None = None,
    seconds: Callable[[Sequence[int], Mapping[int, float]], np.ndarray] | None = None,
    size: int | None = None,
) -> Cast:
    """Decide who takes part in a round.

    Args:
        experiment: its ``realism`` says how clients behave.
        round: the round, from 1.
        population: registered clients.
        sample: ``sample(clients, size)`` draws a cohort (size None: as the strategy wants).
        work: the estimated whole work of clients, for their simulated speed.
        present: clients that can be asked; None: all.
        seconds: how long clients take, some of whom do a part of their work, where devices say so.
        size: how many are wanted; None: the experiment's cohort.
    """
    plan, seed, most = experiment.realism, experiment.seed, size or experiment.cohort_size
    clients: int | Sequence[int] = population if present is None else present
    if not plan.active or experiment.mode != "federated":
        least = None if present is None else min(most, len(present))
        cohort = [] if least == 0 else sample(clients, least)
        return Cast(cohort, len(cohort))
    if plan.availability < 1:
        draws = stream(seed, AVAILABLE, round).random(population)
        here = draws < plan.availability
        clients = _where(here) if present is None else [c for c in present if here[c]]
    there = population if isinstance(clients, int) else len(clients)
    wanted = min(most, there)
    more = plan.asked(wanted, there)
    asked = sample(clients, more) if more else []
    parts = parts_of(experiment, round, asked)
    reasons = {client: _absence(experiment, round, client, parts) for client in asked}
    absent = {client: reason for client, reason in reasons.items() if reason is not None}
    left = [c for c in asked if c not in absent]
    if plan.over_selection and len(left) > wanted:
        if seconds is not None:
            duration = seconds(left, parts)
        else:
            duration = work(left) * np.array([slowness(seed, round, c) for c in left])
        # A straggler is one that works until the deadline, and so comes after all that finish.
        order = np.lexsort((np.array(left), duration, np.array([c in parts for c in left])))
        absent.update({left[i]: "too slow" for i in order[wanted:].tolist()})
        left = sorted(left[i] for i in order[:wanted].tolist())
    return Cast(left, len(asked), absent, {c: parts[c] for c in left if c in parts})


def _where(mask: np.ndarray) -> list[int]:
    found: list[int] = np.flatnonzero(mask).tolist()
    return found


def silent(experiment: Experiment, round: int, asked: Sequence[int]) -> dict[int, str]:
    """Return the clients that a Flower strategy asks in vain, with the reason.

    Flower's strategies draw their cohort themselves: who is not available is found out by asking.
    """
    plan, seed = experiment.realism, experiment.seed
    if plan.availability < 1:
        draws = stream(seed, AVAILABLE, round).random(experiment.clients)
        absent = {c: "not available" for c in asked if draws[c] >= plan.availability}
    else:
        absent = {}
    parts = parts_of(experiment, round, asked)
    for client in asked:
        if client not in absent:
            reason = _absence(experiment, round, client, parts)
            if reason is not None:
                absent[client] = reason
    return absent


def _absence(
    experiment: Experiment, round: int, client: int, parts: Mapping[int, float]
) -> str | None:
    plan = experiment.realism
    if plan.dropout and stream(experiment.seed, DROPOUT, round, client).random() < plan.dropout:
        return "dropped out"
    if client in parts and plan.drops(experiment.strategy.name):
        return "straggler, dropped"
    return None


def slowness(seed: int, round: int, client: int) -> float:
    """Return how long a client takes for a unit of work in a round.

    Log-normal: a client's own speed, which it keeps for the whole run, times the round's luck.
    """
    own = stream(seed, SPEED, 0, client).normal(0.0, SIGMA)
    luck = stream(seed, SPEED, round, client).normal(0.0, SIGMA / 2)
    return float(math.exp(own + luck))


def parts_of(experiment: Experiment, round: int, asked: Sequence[int]) -> dict[int, float]:
    """Return which part of its local work each straggler does, of the clients asked in a round.

    With K asked and the share s, ``round(K (1 - s))`` of them keep up, as in the experiments of Li
    et al. (2020), arXiv 1812.06127; with independent draws each straggles with probability s, and
    a round may have no client that keeps up. Who straggles is decided by a draw of each client's
    own, so that strategies that ask the same clients meet the same stragglers.

    A straggler's part is uniform on (0, 1). In the paper it is a uniform number of epochs; here it
    is a number of steps, so that it works with one epoch too.
    """
    plan = experiment.realism
    if not plan.stragglers or experiment.mode != "federated":
        return {}
    draws = {c: stream(experiment.seed, STRAGGLER, round, c).random(2).tolist() for c in asked}
    if plan.straggler_draws == "independent":
        slow = [c for c in asked if draws[c][0] < plan.stragglers]
    else:
        keep_up = int(np.rint(len(asked) * (1 - plan.stragglers)))
        slow = sorted(asked, key=lambda c: (draws[c][0], c))[: len(asked) - keep_up]
    return {c: draws[c][1] for c in sorted(slow)}


def steps_of(part: float, steps: int) -> int:
    """Return how many of ``steps`` local steps a client takes that does a part: at least one."""
    return max(1, min(steps, math.ceil(part * steps)))
