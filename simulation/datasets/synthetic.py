"""The synthetic federated data of the FedProx paper: 30 users who differ as much as asked for.

Every user k has a linear model of his own and features around a centre of his own::

    u_k ~ N(0, alpha)      W_k, b_k ~ N(u_k, 1)          the users' models differ by alpha
    B_k ~ N(0, beta)       v_k ~ N(B_k, 1)               their features differ by beta
    x ~ N(v_k, diag(j^-1.2))                             j = 1 ... 60
    y = argmax(softmax(W_k x + b_k))                     10 classes

A user has ``50 + floor(LogNormal(4, 2))`` examples, a tenth of them for testing. ``synthetic(iid)``
gives all users one model and one centre, 0.

Source: Li et al. (2020), arXiv 1812.06127, section 5.1 and appendix C.1. As in the authors' code,
alpha and beta are standard deviations where the paper's N(0, alpha) may be read as a variance; the
two agree for 0 and 1. A user's u_k moves the logits of all classes alike, which softmax does not
see: alpha changes the models but no label, here as in the paper. The numbers are drawn from
streams of our own: the law is the paper's, the values are not those of its files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from strategies.random_streams import stream

USERS, FEATURES, CLASSES = 30, 60, 10

LEAST, TESTED = 50, 0.1
"""Fewest examples of a user, and which part of his examples is for testing."""

LARGEST = 1e3
"""The largest alpha and beta: beyond it, every user's examples are of one class."""

NAME = "synthetic(ALPHA,BETA)"
"""How the names look; the other one is ``synthetic(iid)``."""

RULE = "synthetic(ALPHA,BETA) with two numbers >= 0, as synthetic(1,1), or synthetic(iid)"

SIZES, USER = 0x535A, 0x5355
"""Purposes of the random streams: sizes of the users, and the data of one user."""

SEED = 0
"""The data is one data set: it does not change with the experiment's seed."""


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    Args:
        x_train: features, float32 [N, 60].
        y_train: classes, int64 [N].
        x_test: features of the test set [M, 60].
        y_test: its classes.
        owners: the user that each training example belongs to, int32 [N].
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    owners: NDArray[np.int32]


def is_meant(name: str) -> bool:
    """Tell whether ``name`` is meant for this module: whether it begins with ``synthetic``."""
    return name.replace(" ", "").startswith("synthetic")


def parameters(name: str) -> tuple[float, float] | None:
    """Return alpha and beta of ``synthetic(alpha,beta)``; None for ``synthetic(iid)``.

    Example:
        >>> parameters("synthetic(0.5, 1)")
        (0.5, 1.0)

    Raises:
        ValueError: if the name is of neither form, or a number is out of range.
    """
    inner = re.fullmatch(r"synthetic\(([^()]*)\)", name.replace(" ", ""))
    parts = inner[1].split(",") if inner else []
    if parts == ["iid"]:
        return None
    try:
        alpha, beta = (float(part) for part in parts)
    except ValueError:
        raise ValueError(f"dataset must be {RULE}, got {name!r}") from None
    for field, value in (("alpha", alpha), ("beta", beta)):
        if not isfinite(value) or not 0 <= value <= LARGEST:
            raise ValueError(
                f"{field} of the dataset must be between 0 and {LARGEST:g}, "
                f"got {value:g} in {name!r}"
            )
    return alpha, beta


def sizes(seed: int = SEED) -> list[int]:
    """Return how many examples each user has, for training and testing together."""
    drawn = LEAST + stream(seed, SIZES).lognormal(4.0, 2.0, USERS).astype(np.int64)
    return [int(size) for size in drawn]


def draw(alpha: float, beta: float, iid: bool = False, seed: int = SEED) -> Drawn:
    """Draw a data set.

    Args:
        alpha: how much the users' models differ, >= 0.
        beta: how much their features differ, >= 0.
        iid: one model and one centre for all; alpha and beta do not matter then.
        seed: whole number >= 0.
    """
    spread = np.sqrt(np.arange(1, FEATURES + 1) ** -1.2)
    common = stream(seed, USER, USERS)
    model = common.normal(size=(FEATURES, CLASSES)), common.normal(size=CLASSES)
    train: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
    test: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
    for user, size in enumerate(sizes(seed)):
        rng = stream(seed, USER, user)
        centre = np.zeros(FEATURES)
        if not iid:
            u, b = alpha * rng.normal(), beta * rng.normal()
            model = u + rng.normal(size=(FEATURES, CLASSES)), u + rng.normal(size=CLASSES)
            centre = b + rng.normal(size=FEATURES)
        x = centre + spread * rng.normal(size=(size, FEATURES))
        # Softmax keeps the order: the most probable class is that of the largest logit.
        y = np.argmax(x @ model[0] + model[1], axis=1).astype(np.int64)
        cut = size - int(TESTED * size)
        x = x.astype(np.float32)
        train.append((x[:cut], y[:cut]))
        test.append((x[cut:], y[cut:]))
    return Drawn(
        np.concatenate([x for x, _ in train]),
        np.concatenate([y for _, y in train]),
        np.concatenate([x for x, _ in test]),
        np.concatenate([y for _, y in test]),
        np.repeat(np.arange(USERS), [len(y) for _, y in train]).astype(np.int32),
    )
