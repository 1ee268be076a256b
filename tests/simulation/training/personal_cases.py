"""Clients with models of their own, by the formulas of their papers: for both backends.

A client takes steps of plain SGD on all that it has. Its update, and the model that it keeps, are
compared with the same steps in NumPy's float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from simulation.config.experiment import parse
from simulation.training.backend import backend
from simulation.worker.apart import own_model
from simulation.worker.client_state import state_after
from simulation.worker.executor import Executor
from simulation.worker.group_trainer import RoundInputs
from simulation.worker.setup import Setup
from strategies.client_rule import ClientRule
from strategies.clients import proximal_hook
from strategies.clustered import best_of
from strategies.personal import beside, fixed_head, in_turns
from strategies.second_models import mixed, moreau
from strategies.sharpness import extrapolated, meta, sharp_momentum, sharpness_aware
from tests.simulation.training.objective_cases import (
    CLASSES,
    CLIENTS,
    HERE,
    INPUTS,
    RATE,
    UNITS,
    data,
    gradient,
    outputs,
    softmax,
)
from tests.simulation.training.optimizer_cases import Floats

BODY = (INPUTS + 1) * UNITS
"""Weights before the last layer's."""

EPOCHS = 2

Slope = Callable[[Floats], Floats]
"""The gradient of a client's loss at a model."""

Formula = Callable[[Floats, Any, Slope], tuple[Floats, Floats | None, Any]]
"""From what is received and what is kept (None: nothing) to the model that is sent, the client's
own one (None: it has none), and what is kept."""


def masked(slope: Slope, head: bool) -> Slope:
    def found(w: Floats) -> Floats:
        whole = slope(w)
        at = np.arange(whole.size) >= BODY
        return np.where(at == head, whole, 0.0)

    return found


def steps(w: Floats, slope: Slope, count: int) -> Floats:
    for _ in range(count):
        w = w - RATE * slope(w)
    return w


def fedrep(received: Floats, kept: Any, slope: Slope) -> tuple[Floats, Floats, Floats]:
    start = received.copy()
    if kept is not None:
        start[BODY:] = kept
    end = steps(steps(start, masked(slope, True), 3), masked(slope, False), EPOCHS)
    sent = received.copy()
    sent[:BODY] = end[:BODY]
    return sent, end[BODY:], end[BODY:]


def ditto(received: Floats, kept: Any, slope: Slope) -> tuple[Floats, Floats, Floats]:
    own = received if kept is None else kept
    near = steps(own, lambda v: slope(v) + 0.4 * (v - received), 3)
    return steps(received, slope, EPOCHS), near, near


def apfl(adaptive: bool) -> Formula:
    def formula(received: Floats, kept: Any, slope: Slope) -> tuple[Floats, Floats, Any]:
        v, alpha = (received, 0.3) if kept is None else kept
        w = received
        for step in range(EPOCHS):
            along = slope(alpha * v + (1 - alpha) * w)
            moved = np.clip(alpha - RATE * (v - w) @ along, 0, 1)
            w, v = w - RATE * slope(w), v - RATE * alpha * along
            if adaptive and step == 0:
                alpha = moved
        return w, alpha * v + (1 - alpha) * w, (v, alpha)

    return formula


def pfedme(received: Floats, kept: Any, slope: Slope) -> tuple[Floats, Floats, None]:
    w = v = received
    for _ in range(EPOCHS):
        for _ in range(3):
            v = v - 0.2 * (slope(v) + 1.5 * (v - w))
        w = w - RATE * 1.5 * (w - v)
    return w, v, None


def ascending(slope: Slope) -> Slope:
    return lambda w: slope(w + 0.4 * slope(w) / np.linalg.norm(slope(w)))


def fedsam(received: Floats, kept: Any, slope: Slope) -> tuple[Floats, None, None]:
    return steps(received, ascending(slope), EPOCHS), None, None


def fedasam(received: Floats, kept: Any, slope: Slope) -> tuple[Floats, None, None]:
    def found(w: Floats) -> Floats:
        t, g = np.abs(w) + 0.2, slope(w)
        return slope(w + 0.4 * t**2 * g / np.linalg.norm(t * g))

    return steps(received, found, EPOCHS), None, None


def mofedsam(received: Floats, kept: Any, slope: Slope) -> tuple[Floats, None, None]:
    mixed_in = ascending(slope)
    return steps(received, lambda w: 0.3 * mixed_in(w) + 0.7 * MOMENTUM, EPOCHS), None, None


def fedspeed(received: Floats, kept: Any, slope: Slope) -> tuple[Floats, None, Floats]:
    c = np.zeros_like(received) if kept is None else kept

    def found(w: Floats) -> Floats:
        g = slope(w)
        return 0.3 * g + 0.7 * slope(w + 0.6 * g) - c + 0.8 * (w - received)

    end = steps(received, found, EPOCHS)
    c = c - 0.8 * (end - received)
    return end - c / 0.8, None, c


def meta_first(received: Floats, kept: Any, slope: Slope) -> tuple[Floats, None, None]:
    return steps(received, lambda w: slope(w - 0.3 * slope(w)), EPOCHS), None, None


def meta_whole(received: Floats, kept: Any, slope: Slope) -> tuple[Floats, None, None]:
    """The gradient of F(w - a grad F(w)), by its Jacobian in central differences."""

    def found(w: Floats) -> Floats:
        g, d = slope(w - 0.3 * slope(w)), 1e-4
        rows = [(slope(w + d * e) - slope(w - d * e)) / (2 * d) for e in np.eye(w.size)]
        return g - 0.3 * np.asarray(rows) @ g

    return steps(received, found, EPOCHS), None, None


def fedbabu(received: Floats, kept: Any, slope: Slope) -> tuple[Floats, None, None]:
    return steps(received, masked(slope, False), EPOCHS), None, None


CASES: dict[str, tuple[ClientRule, Formula]] = {
    "fedrep": (in_turns(1, 3), fedrep),
    "ditto": (beside(0.4, 3), ditto),
    "fedbabu": (fixed_head(1, 2), fedbabu),
    "apfl": (mixed(0.3), apfl(False)),
    "apfl-adaptive": (mixed(0.3, adaptive=True), apfl(True)),
    "pfedme": (moreau(1.5, 0.2, 3), pfedme),
    "fedsam": (sharpness_aware(0.4), fedsam),
    "fedasam": (sharpness_aware(0.4, 0.2), fedasam),
    "mofedsam": (sharp_momentum(0.4, 0.3), mofedsam),
    "fedspeed": (extrapolated(0.6, 0.7, 0.8), fedspeed),
    "per-fedavg": (meta(0.3), meta_first),
    "per-fedavg-hessian": (meta(0.3, hessian=True), meta_whole),
}


MOMENTUM = (0.2 * np.sin(np.arange(BODY + (UNITS + 1) * CLASSES))).astype(np.float32)
"""The direction that a server sends beside its model, where a rule uses one."""

SENT_ALIKE = ("ditto", "apfl", "apfl-adaptive")
"""Whose clients send what FedAvg's do."""


class Dealt:
    """Clients of fixed rows."""

    def __len__(self) -> int:
        return 10

    def train_rows(self, client: int) -> Any:
        return np.arange(14)[CLIENTS[client]]


def check_together(library: str, name: str) -> None:
    """Clients that begin with weights of their own have the bits of clients trained alone."""
    made, given = backend(library), data()
    made.prepare(1, 0.0)
    rule, _ = CASES[name]
    resources: dict[str, Any] = {"engine": "inline", "backend": library}
    if library == "jax":
        resources["lanes"] = 4
    wanted = parse({
        "model": f"{HERE}:network", "resources": resources,
        "training": {"learning_rate": RATE, "batch_size": 4, "local_epochs": EPOCHS},
    })  # fmt: skip
    partition: Any = Dealt()
    here = Executor(Setup(wanted, rule), given, partition)
    start, clients = here.info().initial + np.float32(0.1), list(CLIENTS)
    states: list[Any] = [None] * len(clients)
    for number in (1, 2):
        inputs = RoundInputs(number, here.trainer.place(start), rule.share(number))
        both = here.train_clients(clients, inputs, states)
        alone = [
            here.train_clients([client], inputs, [state])[0]
            for client, state in zip(clients, states, strict=True)
        ]
        for one, other in zip(both, alone, strict=True):
            np.testing.assert_array_equal(one.update.delta, other.update.delta)
            np.testing.assert_array_equal(one.local, other.local)
        assert np.abs(both[0].update.delta - both[1].update.delta).max() > 1e-3
        states = [state_after(one) for one in both]
        start = start + both[0].update.delta


TUNED = {"fedbabu": (fixed_head(1, 3), 3, RATE), "per-fedavg": (meta(0.3, steps=2), 2, 0.3)}
"""Rules of clients whose models are made where they are measured: steps, and at which rate."""


def check_tuned(library: str, name: str) -> None:
    """A client's model is what some steps on its data make of the server's."""
    made, given, (rule, count, rate) = backend(library), data(), TUNED[name]
    made.prepare(1, 0.0)
    decay = {"kind": "exponential", "factor": 0.5}
    wanted = parse({
        "model": f"{HERE}:network", "resources": {"engine": "inline", "backend": library},
        "training": {"learning_rate": RATE, "batch_size": 16, "decay": decay},
    })  # fmt: skip
    partition: Any = Dealt()
    here = Executor(Setup(wanted, rule), given, partition)
    start = here.info().initial + np.float32(0.1)
    for client, rows in CLIENTS.items():
        x, y = given.x_train[rows].astype(np.float64), given.y_train[rows]
        expected = start.astype(np.float64)
        for _ in range(count):
            slope = gradient(lambda *_: 0.0, expected, expected, expected, x, y)
            expected = expected - rate * slope
        np.testing.assert_allclose(own_model(here, client, start, None), expected, atol=1e-6)


def check_best(library: str) -> None:
    """A client trains, and is measured with, the model that has the least loss on its data."""
    made, given, rule = backend(library), data(), best_of(3)
    made.prepare(1, 0.0)
    wanted = parse({
        "model": f"{HERE}:network", "resources": {"engine": "inline", "backend": library},
        "training": {"learning_rate": RATE, "batch_size": 16, "local_epochs": EPOCHS},
    })  # fmt: skip
    partition: Any = Dealt()
    here = Executor(Setup(wanted, rule), given, partition)
    start, found = here.info().initial + np.float32(0.1), set()
    for number in range(4):
        rng = np.random.default_rng(number)
        others = [start + rng.normal(0, 1, start.size).astype(np.float32) for _ in range(2)]
        shared = dict(zip(rule.candidates, others, strict=True))
        for client, rows in CLIENTS.items():
            x, y = given.x_train[rows].astype(np.float64), given.y_train[rows]

            def slope(w: Floats, x: Floats = x, y: Any = y) -> Floats:
                return gradient(lambda *_: 0.0, w, w, w, x, y)

            models = [model.astype(np.float64) for model in (start, *others)]
            logits = [outputs(model, x)[0] for model in models]
            losses = [-np.log(softmax(one)[np.arange(len(y)), y]).mean() for one in logits]
            best = int(np.argmin(losses))
            inputs = RoundInputs(1, here.trainer.place(start), shared)
            (done,) = here.train_clients([client], inputs, [None])
            assert done.update.metrics["cluster"] == best
            moved = steps(models[best], slope, EPOCHS) - models[best]
            np.testing.assert_allclose(done.update.delta, moved, atol=1e-6)
            own = own_model(here, client, start, None, shared)
            np.testing.assert_array_equal(own, (start, *others)[best])
            found.add(best)
    assert len(found) > 1


def check_frozen(library: str) -> None:
    """Weights that are not trained stay to the bit, whatever else the optimiser does to weights."""
    made, given = backend(library), data()
    made.prepare(1, 0.0)
    optimizer = {"name": "adamw", "weight_decay": 0.1, "use_ema": True, "ema_momentum": 0.5}
    wanted = parse({
        "model": f"{HERE}:network", "resources": {"engine": "inline", "backend": library},
        "training": {"learning_rate": 0.1, "batch_size": 4, "optimizer": optimizer},
    })  # fmt: skip
    partition: Any = Dealt()
    rule = ClientRule(frozen=("last:1",), hook=proximal_hook, scalars={"mu": 1.0})
    here = Executor(Setup(wanted, rule), given, partition)
    start = here.info().initial + np.float32(0.1)
    inputs = RoundInputs(1, here.trainer.place(start), rule.share(1))
    (done,) = here.train_clients([4], inputs, [None])
    delta = np.asarray(done.update.delta)
    assert not delta[BODY:].any() and np.abs(delta[:BODY]).min() > 1e-4


def check(library: str, name: str, **training: Any) -> None:
    """Compare two rounds of two clients with the formula."""
    made, given, (rule, formula) = backend(library), data(), CASES[name]
    made.prepare(1, 0.0)
    resources: dict[str, Any] = {"engine": "inline", "backend": library}
    if library == "jax":
        resources["lanes"] = 2
    how = {"learning_rate": RATE, "batch_size": 16, "local_epochs": EPOCHS, **training}
    wanted = parse({"model": f"{HERE}:network", "resources": resources, "training": how})
    partition: Any = Dealt()
    here = Executor(Setup(wanted, rule), given, partition)
    start = here.info().initial + np.float32(0.1)
    for client, rows in CLIENTS.items():
        x, y = given.x_train[rows].astype(np.float64), given.y_train[rows]

        def slope(w: Floats, x: Floats = x, y: Any = y) -> Floats:
            return gradient(lambda *_: 0.0, w, w, w, x, y)

        state, kept = None, None
        for number in (1, 2):
            received = start + np.float32(0.2 * (number - 1)) * np.cos(np.arange(start.size))
            received = received.astype(np.float32)
            shared = {**rule.share(number), **dict.fromkeys(rule.uses, MOMENTUM)}
            inputs = RoundInputs(number, here.trainer.place(received), shared)
            (done,) = here.train_clients([client], inputs, [state])
            sent, own, kept = formula(received.astype(np.float64), kept, slope)
            near = 1e-5 if name.endswith("hessian") else 1e-6  # It is a difference of gradients.
            np.testing.assert_allclose(received + done.update.delta, sent, atol=near)
            if own is not None:
                state = here.layout.unpack(here.layout.pack(state_after(done)))
                np.testing.assert_allclose(state.local, own, atol=near)
            elif kept is not None:
                state = here.layout.unpack(here.layout.pack(state_after(done)))
            plain = steps(received.astype(np.float64), slope, EPOCHS)
            assert (np.abs(sent - plain).max() > 10 * near) == (name not in SENT_ALIKE)
            assert np.abs(sent - received).max() > 0.01
            assert done.update.steps == EPOCHS
