"""The compiled program: K clients side by side, each lane training its clients back to back.

What is data, not shape: sizes, steps, orders, the learning rate, who is in which lane. So few
programs are compiled: one for each number of lanes, and for each size of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from simulation.training.jax.placed import rows_of
from simulation.training.jax.prepared import PreparedModel
from simulation.training.jax.step import Batch, Changes, Client, Given, finished, take_step
from simulation.training.keras.directions import check_direction, frozen_places
from strategies.client_rule import ClientRule
from strategies.direction import SECOND
from strategies.objective import HELD, OF_CLASSES
from strategies.spec import Spec


class Round(NamedTuple):
    """What a call's clients train with: arrays that the program reads.

    Args:
        start: the model [P]; of several runs one for each [R, P].
        slots: the optimiser's state that a client starts with.
        frozen: weights that nobody trains.
        rest: counters and the like, as a client starts them.
        rate: the learning rate; of several runs [R].
        shared: what the server shares: vectors [T] or numbers; of several runs [R, T] or [R].
        own: clients' states [C, T], by name.
        seeds: of random layers [C, G, 2].
        data: all examples, where they are on the device; None where steps bring theirs.
        run: which run each client is of [C]; None: there is one.
    """

    start: Any
    slots: list[Any]
    frozen: list[Any]
    rest: list[Any]
    rate: Any
    shared: Mapping[str, Any]
    own: Mapping[str, Any]
    seeds: Any
    data: Any
    run: Any = None


class Steps(NamedTuple):
    """What the lanes do: see :class:`~.schedule.Table`; ``x`` holds rows where data has them.

    Args:
        x: examples [T, K, B, ...], or rows of the data [T, K, B].
        y: targets [T, K, B, ...].
        weights: of the examples [T, K, B], or None.
        count: how many of them count [T, K].
        begin: whether a client begins [T, K].
        end: place of the client that ends, or -1 [T, K].
        who: place of the client that trains [T, K].
    """

    x: Any
    y: Any
    weights: Any
    count: Any
    begin: Any
    end: Any
    who: Any


class Ended(NamedTuple):
    """What clients end with: weights [C, P], sums [C, 3], metrics [C, S], seconds [C, T + N]."""

    weights: Any
    sums: Any
    metrics: Any
    second: Any


class Lanes:
    """Programs over one model.

    Args:
        model: the model.
        spec: layout of the flat vector.
        rule: the client rule, whose gradient hook and objective change the steps.
    """

    def __init__(self, model: PreparedModel, spec: Spec, rule: ClientRule) -> None:
        self.model, self.spec = model, spec
        frozen = frozen_places(spec, rule.frozen)
        way = rule.direction
        if way is not None:
            check_direction(model.keras, False)
        self.changes = Changes(rule.hook, model.objective(rule), frozen, way)
        self.run = jax.jit(self._run, donate_argnums=(1, 2))

    def parts(self, flat: Any, count: int | None = None) -> list[Any]:
        """Cut a flat vector [..., P] into (the first ``count``) weights."""
        found, at = [], 0
        for size, shape in zip(self.spec.sizes[:count], self.spec.shapes[:count], strict=True):
            found.append(flat[..., at : at + size].reshape(*flat.shape[:-1], *shape))
            at += size
        return found

    def _run(
        self, given: Round, lanes: Client, ended: Ended, steps: Steps, last: Any
    ) -> tuple[Client, Ended, Any]:
        """Take the first ``last`` of some steps; return lanes, what has ended, and that number.

        The lanes and what has ended are given away to the next call; that the number is there
        tells that a call is through.

        Args:
            given: what the clients train with.
            lanes: the state of all lanes [K, ...]; a narrower table goes on with the first ones.
            ended: what clients have ended with so far.
            steps: what the lanes do.
            last: how many of the steps are taken.
        """
        width = steps.count.shape[1]
        narrow = jax.tree.map(lambda a: a[:width], lanes)
        trained = self.spec.trainable
        only = self._of_run(given, lanes, None) if given.run is None else None

        def one(client: Client, step: Steps) -> Client:
            fresh, common = only or self._of_run(given, lanes, given.run[step.who])
            second = self._second(fresh.trained, given.own, step.who)
            mine = fresh._replace(seeds=given.seeds[step.who], second=second)
            client = jax.tree.map(lambda new, old: jnp.where(step.begin, new, old), mine, client)
            own = {
                name: v[step.who] if name == HELD else self.parts(v[step.who], trained)
                for name, v in given.own.items()
                if name != SECOND
            }
            batch = Batch(rows_of(given.data, step.x), step.y, step.weights, step.count)
            after = take_step(self.model, self.changes, common, client, batch, own, step.begin)
            live = step.count > 0
            return jax.tree.map(lambda new, old: jnp.where(live, new, old), after, client)

        def body(t: Any, carry: tuple[Client, Ended]) -> tuple[Client, Ended]:
            lanes, ended = carry
            step = jax.tree.map(lambda a: a[t], steps)
            lanes = jax.vmap(one)(lanes, step)
            ended = lax.cond(
                jnp.any(step.end >= 0), self._write, lambda lanes, end, ended: ended,
                lanes, step.end, ended,
            )  # fmt: skip
            return lanes, ended

        narrow, ended = lax.fori_loop(0, last, body, (narrow, ended))
        whole = jax.tree.map(lambda wide, part: wide.at[:width].set(part), lanes, narrow)
        return whole, ended, last

    def _second(self, start: list[Any], own: Mapping[str, Any], who: Any) -> list[Any]:
        """Return the second model and the numbers that a client begins with."""
        way, trained = self.changes.direction, self.spec.trainable
        if way is None or not way.second:
            return []
        if SECOND not in own:
            return [*start, *(jnp.float32(value) for value in way.numbers.values())]
        kept, cut = own[SECOND][who], self.spec.trainable_size
        parts = as_types(self.parts(kept[:cut], trained), self.model.trained)
        return [*parts, *kept[cut:]]

    def _of_run(self, given: Round, lanes: Client, run: Any) -> tuple[Client, Given]:
        """Return how a client of a run starts, and what it trains with; None: of the only run."""

        def mine(value: Any) -> Any:
            return value if run is None else value[run]

        start, trained = self.parts(mine(given.start)), self.spec.trainable
        fresh = Client(
            trained=as_types(start[:trained], self.model.trained),
            statistics=as_types(start[trained:], self.model.statistics),
            slots=given.slots,
            rest=given.rest,
            seeds=None,
            metrics=[jnp.zeros(m.shape[1:], m.dtype) for m in lanes.metrics],
            sums=jnp.zeros(3),
        )
        all_shared = {name: mine(value) for name, value in given.shared.items()}
        shared = {
            name: self.parts(v, trained) if jnp.ndim(v) else [v] * trained
            for name, v in all_shared.items()
            if name not in OF_CLASSES
        }
        numbers = {k: v for k, v in all_shared.items() if not jnp.ndim(v) or k in OF_CLASSES}
        return fresh, Given(
            fresh.trained, given.frozen, mine(given.rate), shared, fresh.statistics, numbers
        )

    def _write(self, lanes: Client, end: Any, ended: Ended) -> Ended:
        """Note what the clients that end have now."""
        nowhere = ended.sums.shape[0]
        at = jnp.where(end < 0, nowhere, end)
        frozen = self.changes.frozen
        ended_with = jax.vmap(lambda one: finished(self.model, one, frozen))(lanes)
        weights = [*ended_with, *lanes.statistics]
        count = end.shape[0]

        def joined(arrays: list[Any]) -> Any:
            flat = [jnp.reshape(a, (count, -1)).astype(jnp.float32) for a in arrays]
            return jnp.concatenate([jnp.zeros((count, 0)), *flat], 1)

        return Ended(
            ended.weights.at[at].set(joined(weights), mode="drop"),
            ended.sums.at[at].set(lanes.sums, mode="drop"),
            ended.metrics.at[at].set(joined(lanes.metrics), mode="drop"),
            ended.second.at[at].set(joined(list(lanes.second)), mode="drop"),
        )


def as_types(arrays: list[Any], variables: list[Any]) -> list[Any]:
    """Return arrays in the types of variables."""
    return [a.astype(v.dtype) for a, v in zip(arrays, variables, strict=True)]
