"""What a strategy tells clients of their local training, in the ``ConfigRecord`` of a message.

Each setting goes by the names that apps use; ``-`` and ``_`` are one. What is not told stays as
the experiment says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flwr.app import ConfigRecord, RecordDict

from simulation.training.client_config import ClientConfig

NAMES = {
    "lr": "learning_rate",
    "learning-rate": "learning_rate",
    "epochs": "epochs",
    "local-epochs": "epochs",
    "batch-size": "batch_size",
}
"""Keys that clients honour, and the setting that each stands for."""

PART = "sunflower.part"
"""By which a simulated straggler learns which part of its local work it does."""

OTHERS = ("server-round", "proximal-mu", PART)
"""Further keys that they know."""

SHARED = "shared."
"""Prefix of the keys by which our own strategies share numbers."""


def config_of(content: RecordDict) -> dict[str, Any]:
    """Return what all ConfigRecords of a message say together."""
    return {
        key: value for record in content.config_records.values() for key, value in record.items()
    }


def read(config: Mapping[str, Any], sender: str = "the strategy") -> ClientConfig:
    """Return what a configuration decides.

    Args:
        config: from a message.
        sender: who wrote it, for errors.

    Raises:
        ValueError: for a value that is none, or two keys that say one setting differently.
    """
    found: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for key, value in config.items():
        name = NAMES.get(_plain(key))
        if name is None:
            continue
        number = _checked(key, name, value, sender)
        if found.setdefault(name, number) != number:
            raise ValueError(
                f"{key} must be {keys[name]} ({found[name]!r}), which says the same, "
                f"got {value!r} from {sender}"
            )
        keys[name] = key
    return ClientConfig(**found)


def slowed(content: RecordDict, part: float) -> RecordDict:
    """Return a message's content for a straggler: the same records, and the part that it does."""
    return RecordDict({**content, "sunflower": ConfigRecord({PART: part})})


def parts(client: int, config: Mapping[str, Any]) -> dict[int, float]:
    """Return which part of its local work a client does by its message; nothing if all of it."""
    return {client: float(config[PART])} if PART in config else {}


def unknown(config: Mapping[str, Any]) -> list[str]:
    """Return the keys that our clients do not know, sorted."""
    known = {*NAMES, *OTHERS}
    return sorted(k for k in config if _plain(k) not in known and not k.startswith(SHARED))


def _plain(key: str) -> str:
    return key.replace("_", "-")


def _checked(key: str, name: str, value: Any, sender: str) -> float | int:
    rate = name == "learning_rate"
    rule = "a number > 0" if rate else "a whole number >= 1"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0 or not (rate or value == int(value)):
        raise ValueError(f"{key} must be {rule}, got {value!r} from {sender}")
    return float(value) if rate else int(value)


RECORDED = {"learning_rate": "learning_rate", "epochs": "local_epochs", "batch_size": "batch_size"}
"""Settings, and their keys in a round's record."""


def means(configs: Sequence[ClientConfig], examples: Sequence[float]) -> dict[str, float]:
    """Return what a round's clients were told, for its record: means weighted by examples.

    A setting that not all of them were told is left out.

    Args:
        configs: of each client.
        examples: how many each has.
    """
    found: dict[str, float] = {}
    for name, key in RECORDED.items():
        values = [getattr(config, name) for config in configs]
        if not values or None in values:
            continue
        total = sum(examples)
        if len(set(values)) == 1 or not total:
            found[key] = values[0]
        else:
            weighted = sum(v * n for v, n in zip(values, examples, strict=True))
            found[key] = weighted / total
    return found
