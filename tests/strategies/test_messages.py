"""Every algorithm of the catalogue by Flower messages gives the bits of its parts called directly.

The clients are quadratics of their own; they train by the client rule's hook and keep its state, as
any ``ClientApp`` that follows the message format of strategies.federated would.
"""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

from strategies import Cohort, Federated, Round, Spec, Update, catalog
from strategies.client_rule import Local
from strategies.reducing import bound, during
from strategies.trust import SERVER_UPDATE
from tests.strategies.conftest import measured_uploads

SPEC = Spec(("w", "moving"), ((2, 2), (3,)), trainable=1)
TRAINED = Spec(SPEC.names, SPEC.shapes, trainable=2)
"""For noise, which moving statistics do not stand."""
CUT, CLIENTS, ROUNDS, LR = SPEC.trainable_size, 12, 3, 0.1
START = np.linspace(-1, 1, SPEC.size, dtype=np.float32)
ON_SERVER = {SERVER_UPDATE: -START}
CENTRES = np.random.default_rng(10).normal(size=(CLIENTS, SPEC.size)).astype(np.float32)


class Quadratic:
    """A client of ``||w - centre||^2 / 2`` that takes ``1 + number % 3`` steps."""

    def __init__(self, number, rule):
        self.number, self.rule = number, rule
        self.own = {name: np.zeros(CUT, np.float32) for name in rule.own}

    def train(self, model, shared):
        w, w0 = model[:CUT], model[:CUT]
        steps = 1 if self.rule.full_batch else 1 + self.number % 3
        lr = np.float32(LR)
        for _ in range(steps):
            g = w - CENTRES[self.number, :CUT]
            if self.rule.hook is not None:
                g = self.rule.hook(g, w, w0, shared, self.own)
            w = (w - lr * g).astype(np.float32)
        tail = model[CUT:] + lr * (CENTRES[self.number, CUT:] - model[CUT:])
        end = np.concatenate([w, tail.astype(np.float32)])
        extras = {}
        if self.rule.after is not None:
            delta = end[:CUT] - w0
            extras, self.own = self.rule.after(delta, shared, self.own, Local(steps, LR))
        gradient = w0 - CENTRES[self.number, :CUT]
        extras = {**extras, **measured_uploads(self.rule, gradient, self.number)}
        loss = float(np.sum((model[:CUT] - CENTRES[self.number, :CUT]) ** 2) / 2)
        told = {"discrepancy": loss, "relative_size": 1.0}
        return end, steps, extras, {"initial_loss": loss, "loss": loss / steps, **told}


def directly(algorithm, cohort, spec):
    clients = [Quadratic(i, algorithm.client) for i in range(CLIENTS)]
    model, state = START, algorithm.init(spec, START)
    for number in range(1, ROUNDS + 1):
        shared, partial = algorithm.share(state, number), None
        reducer, losses, weights = bound(algorithm.reducer, shared), [], []
        for i in cohort.sample(number, CLIENTS):
            end, steps, extras, metrics = clients[i].train(model, shared)
            cut = spec.trainable_size
            update = Update(i, i + 1, end - model, steps, extras, metrics, LR, cut)
            partial = reducer.fold(partial, update)
            losses.append(metrics["loss"])
            weights.append(i + 1)
        at = Round(number, CLIENTS, cohort.seed)
        mean = during(reducer, at, {**state, **ON_SERVER}).finish(partial)
        # In the order of the clients, as a driver sums them.
        loss = sum(w * v for w, v in zip(weights, losses, strict=True)) / sum(weights)
        mean = replace(mean, metrics={"loss": loss, **mean.metrics})
        model, state = algorithm.step(spec, model, state, mean, at)
    return model, state


def answering(client):
    def call(message):
        content = message.content
        model = SPEC.ravel([content["arrays"][name].numpy() for name in SPEC.names])
        shared = {
            key.removeprefix("shared."): value
            for key, value in content["config"].items()
            if key.startswith("shared.")
        }
        if "shared" in content:
            shared |= {name: array.numpy() for name, array in content["shared"].items()}
        end, steps, extras, metrics = client.train(model, shared)
        weights = zip(SPEC.names, SPEC.unravel(end), strict=True)
        counts = {"num-examples": client.number + 1, "num-steps": steps, "learning-rate": LR}
        reply = RecordDict(
            {
                "arrays": ArrayRecord({name: Array(np.array(w)) for name, w in weights}),
                "metrics": MetricRecord(counts | metrics),
            }
        )
        if extras:
            reply["extras"] = ArrayRecord({k: Array(v) for k, v in extras.items()})
        return reply

    return call


@pytest.mark.parametrize("cohort", [Cohort(seed=2), Cohort(size=7, seed=2)], ids=["all", "some"])
@pytest.mark.parametrize("name", catalog.names())
def test_messages_give_the_bits_of_the_parts(name, cohort, grid):
    algorithm, spec = catalog.build(name), SPEC
    if algorithm.noise is not None:
        cohort, spec = replace(cohort, sampling="poisson"), TRAINED
    model, state = directly(algorithm.over(cohort.count(CLIENTS)), cohort, spec)
    clients = {i: answering(Quadratic(i, algorithm.client)) for i in range(CLIENTS)}
    strategy = Federated(algorithm, cohort, evaluate=None, spec=spec, seeded_noise=True)
    strategy.server_update = lambda *_: ON_SERVER[SERVER_UPDATE]
    weights = zip(SPEC.names, SPEC.unravel(START), strict=True)
    initial = ArrayRecord({name: Array(np.array(w)) for name, w in weights})
    result = strategy.start(grid(clients, arrival_seed=3), initial, num_rounds=ROUNDS)
    got = SPEC.ravel([result.arrays[name].numpy() for name in SPEC.names])
    assert got.tobytes() == model.tobytes()
    assert not np.array_equal(got, START)
    assert strategy.state.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(strategy.state[key], value)
