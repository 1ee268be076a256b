"""How many clients a Flower strategy asks, and whether that agrees with the experiment.

Flower's strategies sample by themselves, from ``fraction_train`` (``fraction_fit``) and their
minimum numbers of nodes. A cohort that the experiment names is put into these attributes while the
run lasts; what contradicts it, or could never be had, is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeGuard

from flwr.serverapp import strategy as flower

from simulation.config.errors import ConfigError
from simulation.config.experiment import Experiment
from strategies import Federated

FRACTIONS = ("fraction_train", "fraction_evaluate", "fraction_fit")

MINIMA = (
    "min_available_nodes",
    "min_train_nodes",
    "min_evaluate_nodes",
    "min_available_clients",
    "min_fit_clients",
    "min_evaluate_clients",
)
"""What a strategy waits for, of the present style and of the old one."""

CLIP_ON_CLIENTS = (
    flower.DifferentialPrivacyClientSideFixedClipping,
    flower.DifferentialPrivacyClientSideAdaptiveClipping,
)


def chain(strategy: Any) -> list[Any]:
    """Return a strategy and those that it wraps, outermost first."""
    found: list[Any] = []
    while strategy is not None and all(strategy is not one for one in found):
        found.append(strategy)
        strategy = getattr(strategy, "strategy", None)
    return found


def impossible(strategy: Any, clients: int) -> str | None:
    """Return what a strategy waits for that can never come, in one line; None: nothing."""
    for one in chain(strategy):
        name = type(one).__name__
        for key in FRACTIONS:
            share = getattr(one, key, None)
            if _is_number(share) and not 0 <= share <= 1:
                return f"{key} of {name} must be in [0, 1], got {share!r}"
        for key in MINIMA:
            least = getattr(one, key, None)
            if _is_number(least) and least > clients:
                return f"{key} of {name} must be at most clients ({clients}), got {least!r}"
    return None


def trained(strategy: Any, clients: int) -> int | None:
    """Return how many of the clients a strategy trains in a round; None when it does not say."""
    one = _sampler(strategy)
    if one is None:
        return None
    if one.fraction_train == 0:
        return 0
    return max(int(clients * one.fraction_train), one.min_train_nodes)


def check(strategy: Any, experiment: Experiment) -> None:
    """Raise ConfigError when a strategy cannot train the experiment's clients as both say."""
    if isinstance(strategy, Federated):
        return
    clients = 1 if experiment.mode == "centralised" else experiment.clients
    reason = impossible(strategy, clients)
    if reason is not None:
        raise ConfigError(reason)
    if any(isinstance(one, CLIP_ON_CLIENTS) for one in chain(strategy)):
        raise ConfigError(
            "strategy must clip on the server, as the clients have no mods that clip, "
            f"got {type(strategy).__name__}"
        )
    size = experiment.cohort_size if _settings(strategy, experiment) else None
    size = trained(strategy, clients) if size is None else size
    for one in chain(strategy):
        told = getattr(one, "num_sampled_clients", None)
        if size is not None and _is_number(told) and told != size:
            raise ConfigError(
                f"num_sampled_clients of {type(one).__name__} must be the number of clients that "
                f"train in a round ({size}), got {told!r}"
            )


@contextmanager
def cohort_applied(strategy: Any, experiment: Experiment) -> Iterator[None]:
    """Let a strategy draw the experiment's cohort meanwhile, and leave it as it was."""
    settings = {} if isinstance(strategy, Federated) else _settings(strategy, experiment)
    one = _sampler(strategy)
    before = {key: getattr(one, key) for key in settings}
    for key, value in settings.items():
        setattr(one, key, value)
    try:
        yield
    finally:
        for key, value in before.items():
            setattr(one, key, value)


def _settings(strategy: Any, experiment: Experiment) -> Mapping[str, Any]:
    """Return the attributes by which a strategy draws the experiment's cohort, if it names one.

    Raises:
        ConfigError: when the strategy's own settings contradict it.
    """
    if experiment.cohort is None or experiment.mode != "federated":
        return {}
    size, clients, name = experiment.cohort_size, experiment.clients, type(strategy).__name__
    one = _sampler(strategy)
    if one is None:
        raise ConfigError(
            f"cohort must be left out for {name}, which has no fraction_train and samples by "
            f"itself, got {experiment.cohort!r}"
        )
    if trained(one, clients) == size:
        return {}
    if not _is_default(one, "fraction_train"):
        raise ConfigError(
            f"cohort must agree with fraction_train = {one.fraction_train!r} of "
            f"{type(one).__name__}, which trains {trained(one, clients)} of {clients} clients, "
            f"got {experiment.cohort!r}"
        )
    # Half a client more: a fraction that is rounded down must still give all of them.
    found = {"fraction_train": min(1.0, (size + 0.5) / clients)}
    if one.min_train_nodes > size:
        if not _is_default(one, "min_train_nodes"):
            raise ConfigError(
                f"cohort must be at least min_train_nodes ({one.min_train_nodes}) of "
                f"{type(one).__name__}, got {experiment.cohort!r}"
            )
        found["min_train_nodes"] = size
    return found


def _sampler(strategy: Any) -> Any:
    """Return the strategy that samples: the one given, or one that it wraps."""
    keys = ("fraction_train", "min_train_nodes")
    return next(
        (one for one in chain(strategy) if all(_is_number(getattr(one, k, None)) for k in keys)),
        None,
    )


def _is_default(one: Any, name: str) -> bool:
    """Tell whether an attribute is what the constructor of its class gives it by default."""
    for kind in type(one).__mro__:
        if "__init__" in vars(kind):
            parameter = inspect.signature(vars(kind)["__init__"]).parameters.get(name)
            if parameter is not None:
                return bool(getattr(one, name) == parameter.default)
    return False


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
