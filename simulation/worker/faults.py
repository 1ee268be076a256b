"""What can go wrong with a client, and what is done about it.

A client is *lost* when it gives no usable update: it raises, its update is not finite or has a
wrong shape, or it takes its worker down again and again. ``faults.on_client_error`` decides
whether that fails the run; a lost client contributes nothing to its chunk, and all other bits stay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from strategies.updates import Update


class Stopped(KeyboardInterrupt):
    """What several runs share was told to stop: ends each of them as Ctrl-C does."""


class WorkerError(RuntimeError):
    """A call failed in a worker; the text ends in the worker's own traceback."""


class ClientError(WorkerError):
    """A client failed; the text names the round and the client."""


class TooManyLost(RuntimeError):
    """More clients of a round were lost than the experiment allows."""


@dataclass(frozen=True)
class Lost:
    """A client that is missing from a round, and why."""

    round: int
    client: int
    reason: str

    def __str__(self) -> str:
        return f"round {self.round}, client {self.client}: {self.reason}"


class Policy(Protocol):
    """The part of the experiment's ``faults`` that decides about lost clients."""

    @property
    def on_client_error(self) -> str | float:
        """``fail``, ``skip`` or the fraction of a cohort that may be lost."""

    @property
    def min_replies(self) -> int:
        """How many clients must answer in a round."""


NOT_FINITE = "must be finite, got"
"""In the reason of every client that was lost because its update is not finite."""


def is_divergence(error: BaseException) -> bool:
    """Tell whether an error says that training diverged: clients' updates were not finite."""
    lost = isinstance(error, ClientError | TooManyLost)
    return lost and NOT_FINITE in (str(error).splitlines() or [""])[0]


def reason_of(error: BaseException) -> str:
    """Return the kind and the first line of an error."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def update_flaw(update: Update, size: int) -> str | None:
    """Return what is wrong with an update of a model with ``size`` weights; None: nothing."""
    if np.shape(update.delta) != (size,):
        return f"its update must have shape ({size},), got {np.shape(update.delta)}"
    for name, vector in (("update", update.delta), *update.extras.items()):
        finite = np.isfinite(vector)
        if not finite.all():
            bad = np.size(vector) - int(finite.sum())
            return f"its {name} {NOT_FINITE} {bad} NaN or infinite of {np.size(vector)}"
    return None


def is_finite(partial: Any) -> bool:
    """Tell whether all vectors in a reducer's partial are finite.

    A NaN or infinity of one client is in every sum that it is added to, so that one look at a
    chunk's total is a look at all its clients. (A sum that overflows though its terms are finite
    counts as not finite; the closer look that follows finds nothing wrong.)
    """
    if isinstance(partial, np.ndarray):
        if partial.dtype.kind != "f":
            return True
        with np.errstate(over="ignore", invalid="ignore"):
            return math.isfinite(float(partial.sum()))
    if isinstance(partial, dict):
        return all(map(is_finite, partial.values()))
    if isinstance(partial, list | tuple):
        return all(map(is_finite, partial))
    inner = getattr(partial, "__dict__", None)
    return inner is None or is_finite(inner)


def check_losses(
    policy: Policy, round: int, cohort: int, replies: int, lost: Sequence[Lost], asked: int
) -> None:
    """Raise an error when a round has lost more than its policy allows.

    Args:
        policy: the experiment's ``faults``.
        round: the round.
        cohort: how many clients trained.
        replies: how many gave an update.
        lost: those that gave none.
        asked: how many were asked, some of whom may be absent, as simulated.

    Raises:
        ClientError: a client was lost and none may be.
        TooManyLost: more than the allowed fraction, or fewer replies than are needed.
    """
    allowed = policy.on_client_error
    if lost and allowed == "fail":
        raise ClientError(str(lost[0]))
    if not isinstance(allowed, str) and len(lost) > allowed * cohort:
        raise TooManyLost(
            f"round {round}: {len(lost)} of {cohort} clients were lost, "
            f"faults.on_client_error allows {allowed:g} of them; the first: "
            f"client {lost[0].client}: {lost[0].reason}"
        )
    # The centralised baseline has one client, which is enough.
    if replies < min(policy.min_replies, asked):
        first = f"; the first: client {lost[0].client}: {lost[0].reason}" if lost else ""
        raise TooManyLost(
            f"round {round}: {replies} of {asked} clients answered, "
            f"faults.min_replies is {policy.min_replies}{first}"
        )
