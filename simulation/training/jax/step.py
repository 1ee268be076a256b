"""One step of one client: loss, gradients, the client rule's hook, the optimiser, what is measured.

Written for one client; :mod:`.lanes` lets ``vmap`` take it for many. The order of what is done is
that of the backend ``tensorflow``, so that the numbers are the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras

from simulation.training.jax.prepared import PreparedModel
from simulation.training.jax.traced import mask_rows, traced
from simulation.training.keras import losses
from simulation.training.keras.objectives import ModelObjective, Values, watching
from strategies.client_rule import Hook
from strategies.direction import SECOND, Direction, Pieces, Place
from strategies.objective import HELD, LAST


class Client(NamedTuple):
    """What a client's training changes; lists of arrays, in the order of the model's variables.

    Args:
        trained: weights that are trained.
        statistics: weights that change without gradients.
        slots: the optimiser's state.
        rest: counters and the like, which a client starts as they were built.
        seeds: of random layers [G, 2].
        metrics: variables of the model's own metrics.
        sums: of losses, of what is right, of what counts [3].
        second: a second model and the client's numbers, where the rule has them.
    """

    trained: list[Any]
    statistics: list[Any]
    slots: list[Any]
    rest: list[Any]
    seeds: Any
    metrics: list[Any]
    sums: Any
    second: Sequence[Any] = ()


class Batch(NamedTuple):
    """A step's examples: inputs, targets, weights (None without), and how many count."""

    x: Any
    y: Any
    weights: Any
    count: Any


class Given(NamedTuple):
    """What all clients train with: start, frozen weights, learning rate, what is shared.

    ``statistics``: those of the start; ``numbers``: what of the shared is no vector.
    """

    start: list[Any]
    frozen: list[Any]
    rate: Any
    shared: Mapping[str, list[Any]]
    statistics: list[Any]
    numbers: Mapping[str, Any]


class Changes(NamedTuple):
    """What a client rule changes of a step: its gradients, its loss; None for nothing.

    ``frozen``: places of the weights that are not trained.
    """

    hook: Hook | None
    objective: ModelObjective | None
    frozen: frozenset[int] = frozenset()
    direction: Direction | None = None


def take_step(
    model: PreparedModel, changes: Changes, given: Given, client: Client, batch: Batch,
    own: Mapping[str, list[Any]], first: Any,
) -> Client:  # fmt: skip
    """Return a client after one more step.

    Args:
        model: the model.
        changes: of the client rule.
        given: what all clients train with.
        client: before the step.
        batch: of the step.
        own: the client's state, by name, in pieces like the weights.
        first: whether it is the client's first step.
    """
    counts = jnp.arange(jax.tree.leaves(batch.y)[0].shape[0]) < batch.count
    x, hook = model.inputs(batch.x), changes.hook
    term = term_of(model, changes.objective, given, own)

    def loss_of(trained: list[Any]) -> Any:
        return forward(model, given, client._replace(trained=trained), x, batch, counts, term)

    gradient = jax.value_and_grad(loss_of, has_aux=True)
    second = client.second
    if changes.direction is None:
        (_, found), gradients = gradient(client.trained)
    else:
        gradients, found, second = along(changes.direction, gradient, given, client, first)
    factor = model.optimizer.loss_scale_factor or 1.0
    if hook is not None:
        gradients = [
            hook(
                g / factor, w, given.start[i],
                {name: parts[i] for name, parts in given.shared.items()},
                {name: parts[i] for name, parts in own.items() if name not in (HELD, SECOND)},
            ) * factor
            for i, (g, w) in enumerate(zip(gradients, client.trained, strict=True))
        ]  # fmt: skip
    gradients = [jnp.zeros_like(g) if i in changes.frozen else g for i, g in enumerate(gradients)]
    variables = model.with_rate(client.slots, given.rate)
    trained, variables = model.optimizer.stateless_apply(variables, gradients, client.trained)
    # A decay of weights moves those, too.
    trained = [client.trained[i] if i in changes.frozen else w for i, w in enumerate(trained)]
    loss, right, counted, after = found
    measured = jnp.stack([loss * batch.count, right, counted]).astype(jnp.float32)
    return Client(
        trained=trained,
        statistics=after["statistics"],
        slots=model.without_rate(variables),
        rest=after["rest"],
        seeds=after["seeds"],
        metrics=after["metrics"],
        sums=client.sums + measured,
        second=second,
    )


def along(
    direction: Direction, gradient: Any, given: Given, client: Client, first: Any
) -> tuple[list[Any], Any, list[Any]]:
    """Return the gradient that a direction gives, what is found at its first point, what has moved.

    Args:
        direction: of the client rule.
        gradient: of the batch's loss at some weights, with what is found there.
        given: what all clients train with.
        client: before the step.
        first: whether it is its first step.
    """
    count, seen = len(client.trained), list[Any]()

    def at(point: Pieces) -> Pieces:
        (_, found), gradients = gradient(point.parts)
        seen.append(found)
        return Pieces(gradients)

    before = dict(zip(direction.numbers, client.second[count:], strict=True))
    place = Place(
        w=Pieces(client.trained), w0=Pieces(given.start),
        second=Pieces(client.second[:count]) if direction.second else None,
        numbers=before, first=first, rate=given.rate, shared=given.numbers, inner=direction.inner,
    )  # fmt: skip
    way = direction.step(keras.ops, at, place)
    if not seen:
        raise ValueError("a direction must ask for a gradient, got none")
    moved = [] if way.second is None else way.second.parts
    numbers = {**before, **way.numbers}
    return way.gradient.parts, seen[0], [*moved, *numbers.values()]


def forward(
    model: PreparedModel, given: Given, client: Client, x: Any, batch: Batch, counts: Any,
    term: Term | None = None,
) -> Any:  # fmt: skip
    """Return what is differentiated, and (loss, right, counted, states after)."""
    scope = model.scope(client, given.frozen, collect_losses=True)
    with scope, traced(model.keras, counts):
        with watching(None if term is None else term.objective) as features:
            output = model.keras(x, training=True)
        more = None if term is None else term(x, batch.y, output, features, counts)
        mask_rows(output, counts)
        loss = losses.total(model.keras, x, batch.y, output, batch.weights, training=True)
        model.metrics.update(batch.y, output, batch.weights, counts)
        right, counted = model.measures.right(batch.y, output, batch.weights, counts)
    after = model.after(scope, client)
    whole = jnp.sum(loss) if more is None else jnp.sum(loss) + more
    goal = whole * (model.optimizer.loss_scale_factor or 1.0)
    loss = jnp.asarray(loss, jnp.float32)
    if loss.ndim:  # A loss that is not reduced: one number for each example.
        loss = loss.sum() / (loss.size / counts.size * jnp.maximum(batch.count, 1))
    return goal, (loss, right.sum(), counted.sum(), after)


class Term:
    """What a client adds to the loss of a batch.

    Args:
        objective: of the client rule.
        received: the received model's values.
        last: those of the client's last model, where it is seen.
        numbers: what the server shares.
        held: the client's counts of classes, where they are seen.
    """

    def __init__(
        self, objective: ModelObjective, received: Values, last: Values | None,
        numbers: Mapping[str, Any], held: Any,
    ) -> None:  # fmt: skip
        self.objective, self._held = objective, held
        self._received, self._last, self._numbers = received, last, numbers

    def __call__(self, x: Any, y: Any, output: Any, features: Any, counts: Any) -> Any:
        """Return it."""
        return self.objective.term(
            x, y, output, features, counts, self._received, self._last, self._numbers, self._held
        )


def term_of(
    model: PreparedModel, objective: ModelObjective | None, given: Given,
    own: Mapping[str, list[Any]],
) -> Term | None:  # fmt: skip
    """Return what a client adds to the loss of a batch; None for nothing."""
    if objective is None:
        return None
    kept = [
        *zip(model.statistics, given.statistics, strict=True),
        *zip(model.frozen, given.frozen, strict=True),
    ]
    last = None
    if objective.objective.last:
        # In its first round a client has none, and its state is zeros.
        new = jnp.all(jnp.stack([jnp.all(part == 0) for part in own[LAST]]))
        parts = [jnp.where(new, a, b) for a, b in zip(given.start, own[LAST], strict=True)]
        last = [*zip(model.trained, parts, strict=True), *kept]
    received = [*zip(model.trained, given.start, strict=True), *kept]
    return Term(objective, received, last, given.numbers, own.get(HELD))


def finished(
    model: PreparedModel, client: Client, frozen: frozenset[int] = frozenset()
) -> list[Any]:
    """Return the weights that a client ends with: the average, where its optimiser keeps one."""
    optimizer = model.optimizer
    if not optimizer.use_ema:
        return client.trained
    variables = model.with_rate(client.slots, jnp.zeros(()))
    pairs = [
        *zip(model.trained, client.trained, strict=True),
        *zip(optimizer.variables, variables, strict=True),
    ]
    with keras.StatelessScope(pairs) as scope:
        optimizer.finalize_variable_values(model.trained)
    return [
        client.trained[i] if i in frozen else scope.get_current_value(v)
        for i, v in enumerate(model.trained)
    ]
