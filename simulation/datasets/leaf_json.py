"""Datasets in the JSON of LEAF: whose examples are whose is part of the file.

One file, or a folder of them, perhaps with the folders ``train`` and ``test``::

    {"users": ["ada", ...], "num_samples": [5, ...], "user_data": {"ada": {"x": [...], "y": [...]}}}

Source: Caldas et al. (2018), LEAF: A Benchmark for Federated Settings, arXiv 1812.01097.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulation.datasets.errors import DataError

Examples = dict[str, tuple[NDArray[Any], NDArray[Any]]]
"""Inputs and targets of each user."""


def of_file(name: str, path: Path) -> dict[str, Any]:
    """Return the parts of a dataset that is one file: its users own the rows."""
    return _parts(name, _users(name, [path]))


def of_folder(name: str, path: Path) -> dict[str, Any] | None:
    """Return the parts of a folder of such files; None where there are none."""
    sides = {side: sorted((path / side).glob("*.json")) for side in ("train", "test")}
    if not sides["train"]:
        files = sorted(path.glob("*.json"))
        return _parts(name, _users(name, files)) if files else None
    parts = _parts(name, _users(name, sides["train"]))
    if sides["test"]:
        tested = _users(name, sides["test"])
        parts["x_test"] = _joined(name, "x", {user: x for user, (x, _) in tested.items()})
        parts["y_test"] = _joined(name, "y", {user: y for user, (_, y) in tested.items()})
    return parts


def _parts(name: str, users: Examples) -> dict[str, Any]:
    sizes = [len(y) for _, y in users.values()]
    empty = next((user for user, size in zip(users, sizes, strict=True) if not size), None)
    if empty is not None or not users:
        got = "no users" if empty is None else f"none of user {empty!r}"
        raise DataError(f"dataset {name}: every user must have training examples, got {got}")
    return {
        "x_train": _joined(name, "x", {user: x for user, (x, _) in users.items()}),
        "y_train": _joined(name, "y", {user: y for user, (_, y) in users.items()}),
        "owners": np.repeat(np.arange(len(users)), sizes),
        "owner_names": list(users),
        "notes": [],
    }


def _users(name: str, files: Iterable[Path]) -> Examples:
    users: Examples = {}
    for path in files:
        for user, x, y in _read(name, path):
            if user in users:
                raise DataError(
                    f"dataset {name}: every user must be in one file, got {user!r} again in "
                    f"{path.name}"
                )
            if len(x) != len(y):
                raise DataError(
                    f"dataset {name}: x and y of a user must have the same length, "
                    f"got {len(x)} and {len(y)} of {user!r} in {path.name}"
                )
            users[user] = x, y
    return users


def _read(name: str, path: Path) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    rule = f"dataset {name}: {path.name} must be the JSON of LEAF (users, user_data with x and y)"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{rule}, got {error}") from None
    if not isinstance(found, dict) or not {"users", "user_data"} <= set(found):
        keys = ", ".join(list(found)[:5]) if isinstance(found, dict) else type(found).__name__
        raise DataError(f"{rule}, got {keys or 'nothing'}")
    for user in found["users"]:
        try:
            own = found["user_data"][user]
            x, y = np.asarray(own["x"]), np.asarray(own["y"])
        except (KeyError, TypeError) as error:
            raise DataError(f"{rule}, got none of user {user!r} ({error})") from None
        except ValueError as error:  # rows of unequal length
            raise DataError(f"{rule}, got {error} of user {user!r}") from None
        yield str(user), x, y


def _joined(name: str, part: str, of_users: dict[str, NDArray[Any]]) -> NDArray[Any]:
    filled = {user: array for user, array in of_users.items() if len(array)}
    first = next(iter(filled), None)
    if first is None:
        raise DataError(f"dataset {name}: there must be test examples, got none of any user")
    if part == "x" and filled[first].dtype.kind not in "biuf":
        raise DataError(
            f"dataset {name}: x of every user must hold numbers, got text: turn it into numbers "
            "and give the arrays by a function of yours, module:function"
        )
    for user, array in filled.items():
        if array.shape[1:] != filled[first].shape[1:]:
            raise DataError(
                f"dataset {name}: {part} of every user must have examples of one shape, "
                f"got {filled[first].shape[1:]} of {first!r} and {array.shape[1:]} of {user!r}"
            )
    return np.concatenate(list(filled.values()))
