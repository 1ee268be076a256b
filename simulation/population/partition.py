"""Partitions: which rows of the training set each client holds.

``make`` checks its arguments, deals the rows by one of the laws of
:mod:`simulation.population.laws`, shuffles the rows of each client and splits them in training and
validation. What was made is kept in Sunflower's cache folder, under a name made of the arguments
and the labels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from simulation.config.partitioning import ALPHAS, BETA
from simulation.datasets import cache, targets
from simulation.population import laws
from simulation.population.on_demand import LAWS, OnDemand
from simulation.population.pachinko import pachinko
from strategies import checks
from strategies.random_streams import stream

log = logging.getLogger("sunflower.data")

KINDS = {
    "iid": "random rows, equal sizes",
    "dirichlet": "each class in Dirichlet(alpha) proportions over the clients; sizes vary",
    "inner-dirichlet": "labels of each client from Dirichlet(alpha); equal sizes",
    "pathological": "classes_per_client classes for each client",
    "shards": "rows sorted by label, shards_per_client runs of them for each client",
    "quantity": "random rows, sizes in Dirichlet(alpha) proportions",
    "pachinko": "labels of each client from a mixture of groups of classes (the superclasses of "
    "CIFAR-100, or groups): Dirichlet(alpha) over groups, Dirichlet(beta) within; equal sizes",
    "on-demand": "each client draws examples_per_client rows when needed; any number of clients",
    "natural": "the rows that are each client's own by their origin, where the dataset tells",
    "file": "as the file `path` says: CSV or Parquet with the columns `row` and `client`",
}
"""The kinds of partition, each with a line that describes it."""

BLIND = ("iid", "quantity", "on-demand", "natural", "file")
"""Kinds that do not look at labels."""

DEAL = 0x5061
"""Purpose of the random stream that deals the rows."""

_VERSION = 1  # of the laws and of the file; a new one makes every partition again

_KEPT = 200  # files in the cache


@dataclass(frozen=True)
class Partition:
    """The rows of every client.

    Args:
        indices: rows of client 0, then those of client 1 ..., int32; within a client in random
            order, those for training first.
        offsets: where each client begins, and the total length at the end; int64 [clients + 1].
        train: how many leading rows of each are for training, the rest being for validation;
            int32 [clients].
    """

    indices: NDArray[np.int32]
    offsets: NDArray[np.int64]
    train: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of clients."""
        return len(self.train)

    def _start(self, client: int) -> int:
        if not 0 <= client < len(self.train):
            raise IndexError(f"client must be between 0 and {len(self) - 1}, got {client}")
        return int(self.offsets[client])

    def rows(self, client: int) -> NDArray[np.int32]:
        """Return the rows of a client (a view), those for training first."""
        return self.indices[self._start(client) : int(self.offsets[client + 1])]

    def train_rows(self, client: int) -> NDArray[np.int32]:
        """Return the rows that a client trains on, int32 (a view); never empty."""
        return self.rows(client)[: int(self.train[client])]

    def validation_rows(self, client: int) -> NDArray[np.int32]:
        """Return the rows that a client keeps for validation, int32 (a view), perhaps none."""
        return self.rows(client)[int(self.train[client]) :]

    @property
    def train_sizes(self) -> NDArray[np.int32]:
        """Training rows of every client, int32 [clients]."""
        return self.train

    @property
    def validation_sizes(self) -> NDArray[np.int32]:
        """Validation rows of every client, int32 [clients]."""
        return (np.diff(self.offsets) - self.train).astype(np.int32)


AnyPartition = Partition | OnDemand
"""What :func:`make` returns: both have the same methods."""


def make(
    kind: str,
    y: NDArray[Any],
    clients: int,
    seed: int,
    *,
    alpha: float | None = None,
    beta: float = BETA,
    groups: tuple[int, ...] | None = None,
    classes_per_client: int = 2,
    shards_per_client: int = 2,
    examples_per_client: int = 100,
    law: str = "symmetric",
    validation: float = 0.1,
    owners: NDArray[np.int32] | None = None,
    cached: bool = True,
) -> AnyPartition:
    """Deal the rows of a training set to clients. Equal arguments give equal partitions.

    Except for ``on-demand``, every row goes to exactly one client.

    Args:
        kind: one of :data:`KINDS`.
        y: labels, int64 [N] (for ``iid``, ``shards`` and ``on-demand`` without alpha also the
            targets of a regression).
        clients: how many; at most N, except for ``on-demand``.
        seed: whole number >= 0.
        alpha: concentration, in (0, 1e9]; small values make clients differ more. 0.5 by default
            for the Dirichlet kinds and ``quantity``, 0.1 for ``pachinko``; for ``on-demand`` None
            means no skew.
        beta: for ``pachinko``: concentration of classes within a group.
        groups: for ``pachinko``: the group of each class, by number.
        classes_per_client: for ``pathological``.
        shards_per_client: for ``shards``.
        examples_per_client: for ``on-demand``: rows of each, training and validation together.
        law: for ``on-demand`` with alpha: ``symmetric``, Dirichlet(alpha, ..., alpha), or
            ``prior``, Dirichlet(alpha * the classes' shares); see :class:`OnDemand`.
        validation: which part of a client's rows is for validation, in [0, 1), to the nearest
            whole row; one row at least is for training.
        owners: for ``natural`` and ``file``: the client that each row belongs to, [N]; see
            Dataset. Of a file, -1 for rows that are nobody's.
        cached: look in the cache folder first, and keep there what is made.

    Raises:
        ValueError: naming the field, the rule and the value received.
    """
    y = np.asarray(y)
    if y.shape[1:] == (1,):
        y = y[:, 0]
    checks.one_of("partition", kind, KINDS)
    _check(kind, y, clients, seed, validation)
    alpha = ALPHAS.get(kind) if alpha is None else alpha
    options: dict[str, Any] = {}
    if kind in ("natural", "file"):
        owner = _checked_owners(owners, clients) if kind == "natural" else owners
        assert owner is not None
        return _split(owner, clients, stream(seed, DEAL), validation)
    if kind == "on-demand":
        checks.one_of("law", law, LAWS)
        made = _on_demand(y, clients, seed, examples_per_client, validation, alpha)
        return replace(made, law=law)
    if kind in ALPHAS:
        options["alpha"] = _checked_alpha(alpha)
    if kind == "pachinko":
        if groups is None:
            raise ValueError("groups must be given for the partition 'pachinko', got none")
        options |= {"beta": _checked_alpha(beta), "groups": tuple(groups)}
    if kind == "pathological":
        checks.integer("classes_per_client", classes_per_client, ">= 1")
        number = len(np.unique(y))
        if classes_per_client > number:
            raise ValueError(
                f"classes_per_client must be at most the number of classes ({number}), "
                f"got {classes_per_client}"
            )
        options["per_client"] = int(classes_per_client)
    if kind == "shards":
        checks.integer("shards_per_client", shards_per_client, ">= 1")
        if clients * shards_per_client > len(y):
            raise ValueError(
                "clients times shards_per_client must be at most the number of training examples "
                f"({len(y)}), got {clients} x {shards_per_client}"
            )
        options["per_client"] = int(shards_per_client)
    deal = partial(_deal, kind, y, clients, seed, options, validation)
    if not cached:
        return deal()
    key = [_VERSION, kind, int(clients), int(seed), options, float(validation)]
    return _from_cache(key, y, clients, deal)


def _from_cache(
    key: Sequence[Any], y: NDArray[Any], clients: int, deal: Callable[[], Partition]
) -> Partition:
    """Return a partition from the cache folder; made, and kept there, where it has none."""
    labels = hashlib.sha256(f"{y.dtype.str}{y.shape}".encode())
    labels.update(np.ascontiguousarray(y).data)
    name = cache.sha256(json.dumps([*key, labels.hexdigest()]).encode())[:32]
    path = cache.cache_dir() / "partitions" / f"{name}.npz"
    found = _load(path, len(y), clients)
    if found is None:
        found = deal()
        _save(path, found)
    return found


def label_counts(
    parts: AnyPartition, clients: Iterable[int], y: NDArray[np.int64], classes: int,
    training: bool = False,
) -> NDArray[np.int64]:  # fmt: skip
    """Return how many rows of each class some clients hold, int64 [clients, classes].

    Args:
        parts: the partition.
        clients: which clients; an on-demand partition draws the rows of each.
        y: labels, int64 [N].
        classes: number of classes.
        training: whether only rows to train on count.
    """
    rows = parts.train_rows if training else parts.rows
    counts = [np.bincount(y[rows(client)], minlength=classes) for client in clients]
    return np.array(counts, np.int64).reshape(-1, classes)


def tell_unmeasured(parts: AnyPartition, validation: float) -> None:
    """Log how many clients have no validation row: a warning where none of them has any."""
    without = int((parts.validation_sizes == 0).sum())
    if validation > 0 and without:
        level = logging.WARNING if without == len(parts) else logging.INFO
        text = "%d of %d clients have no validation row: %g of their rows is less than half a row"
        log.log(level, text, without, len(parts), validation)


def _check(kind: str, y: NDArray[Any], clients: int, seed: int, validation: float) -> None:
    checks.integer("clients", clients, ">= 1")
    checks.integer("seed", seed, ">= 0")
    checks.number("validation", validation, "in [0, 1)")
    if y.ndim < 1 or not 1 <= len(y) < 2**31:
        raise ValueError(f"labels must be [N] with 1 <= N < 2**31, got shape {y.shape}")
    if kind not in BLIND and y.ndim != 1:
        raise ValueError(
            f"partition must be {', '.join(BLIND[:-1])} or {BLIND[-1]} where an example has no one "
            f"class, got {kind!r} and {targets.looks(y)}"
        )
    if kind not in (*BLIND, "shards") and y.dtype.kind not in "biu":
        raise ValueError(
            f"partition must be {', '.join(BLIND)} or shards for a regression, "
            f"got {kind!r} and {targets.looks(y)}"
        )
    if kind == "on-demand":
        return
    if clients > len(y):
        raise ValueError(
            f"clients must be at most the number of training examples ({len(y)}), got {clients}"
        )


def _checked_alpha(alpha: Any) -> float:
    checks.number("alpha", alpha, "> 0")
    if not isfinite(alpha) or alpha > 1e9:
        raise ValueError(f"alpha must be at most 1e9, got {alpha!r}")
    return float(alpha)


def _deal(
    kind: str,
    y: NDArray[Any],
    clients: int,
    seed: int,
    options: dict[str, Any],
    validation: float,
) -> Partition:
    rng = stream(seed, DEAL)
    law = pachinko if kind == "pachinko" else getattr(laws, kind.replace("-", "_"))
    owner = law(y, clients, rng, **options)
    return _split(owner, clients, rng, validation)


def _checked_owners(owners: NDArray[np.int32] | None, clients: int) -> NDArray[np.int32]:
    if owners is None:
        raise ValueError(
            "partition must be another than 'natural' for a dataset that does not say which "
            "client owns a row, got 'natural'"
        )
    number = int(owners.max()) + 1
    if clients != number:
        raise ValueError(
            f"clients must be the number of the dataset's own clients ({number}) for the partition "
            f"'natural', got {clients}"
        )
    return owners


def _split(
    owner: NDArray[Any], clients: int, rng: np.random.Generator, validation: float
) -> Partition:
    """Shuffle the rows of each client and cut off those for validation."""
    sizes = np.bincount(owner[owner >= 0], minlength=clients)
    shuffled = rng.permutation(len(owner))
    shuffled = shuffled[owner[shuffled] >= 0]
    indices = shuffled[np.argsort(owner[shuffled], kind="stable")].astype(np.int32)
    kept = np.minimum((validation * sizes + 0.5).astype(np.int64), sizes - 1)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Partition(indices, offsets, (sizes - kept).astype(np.int32))


def _on_demand(
    y: NDArray[Any], clients: int, seed: int, examples: int, validation: float, alpha: Any
) -> OnDemand:
    checks.integer("examples_per_client", examples, ">= 1")
    if examples > len(y):
        raise ValueError(
            f"examples_per_client must be at most the number of training examples ({len(y)}), "
            f"got {examples}"
        )
    if alpha is None:
        order, starts = np.arange(len(y)), np.array([0, len(y)])
    else:
        alpha = _checked_alpha(alpha)
        if y.ndim != 1 or y.dtype.kind not in "biu":
            raise ValueError(
                "alpha must be left out for the partition 'on-demand' where an example has no one "
                f"class, got {alpha!r} and {targets.looks(y)}"
            )
        order = np.argsort(y, kind="stable")
        counts = np.unique(y, return_counts=True)[1]
        starts = np.concatenate([[0], np.cumsum(counts)])
    return OnDemand(
        int(clients),
        int(seed),
        int(examples),
        float(validation),
        order.astype(np.int32),
        starts.astype(np.int64),
        alpha,
    )


def _save(path: Path, made: Partition) -> None:
    def fill(file: IO[bytes]) -> None:
        np.savez(
            file, allow_pickle=False, indices=made.indices, offsets=made.offsets, train=made.train
        )

    if cache.write(path, fill):
        with suppress(OSError):  # another process may be pruning as well
            old = sorted(path.parent.glob("*.npz"), key=lambda p: p.stat().st_mtime)[:-_KEPT]
            for file in old:
                file.unlink()


def _load(path: Path, rows: int, clients: int) -> Partition | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            made = Partition(archive["indices"], archive["offsets"], archive["train"])
        sizes = np.diff(made.offsets)
        whole = (
            made.indices.dtype == np.int32
            and made.train.shape == sizes.shape == (clients,)
            and made.offsets[0] == 0
            and bool((made.train >= 1).all() and (made.train <= sizes).all())
            and np.array_equal(np.sort(made.indices), np.arange(rows))
            and made.offsets[-1] == rows
        )
        if whole:
            return made
        reason = "not a partition of these rows"
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error) as error:
        reason = str(error)
    log.warning("cache: %s is damaged (%s); making the partition again", path, reason)
    return None
