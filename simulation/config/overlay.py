"""Settings laid over a configuration: by dotted key, as ``--set`` gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def toml_value(text: str) -> Any:
    """Return ``text`` as a TOML value, or as the string it is when it is none.

    Example:
        >>> toml_value("0.1"), toml_value("[1, 2]"), toml_value("fedavg")
        (0.1, [1, 2], 'fedavg')
    """
    import tomllib

    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if list(found) == ["value"] else text


def overlay(data: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a file with what the command line gives put over it.

    A strategy or partition of another name than the file's takes none of the file's options for
    it, and ``alpha`` without a kind turns a partition that has no concentration into a Dirichlet
    one.
    """
    from copy import deepcopy

    from simulation.config.experiment import SHORT, assign
    from simulation.config.partitioning import SKEWED

    data = deepcopy(data)
    given = {
        f"{key}.{SHORT[key]}" if key in SHORT and isinstance(value, str) else key: value
        for key, value in given.items()
    }
    for table, key in SHORT.items():
        if isinstance(data.get(table), str):
            data[table] = {key: data[table]}
        old, new = data.get(table), given.get(f"{table}.{key}")
        if new is not None and isinstance(old, dict) and new != _kind(old, key):
            data[table] = _without_options(old, table)
    alone = "partition.alpha" in given and "partition.kind" not in given
    partition = data.get("partition")
    if alone and isinstance(partition, dict) and partition.get("kind") not in SKEWED:
        data["partition"] = _without_options(partition, "partition")
    for key, value in given.items():
        assign(data, key, value)
    return data


def _kind(table: Mapping[str, Any], key: str) -> Any:
    return table.get(key, "dirichlet" if "alpha" in table else None)


STAYS = {"partition": ("validation", "noise", "rotations", "root"), "attack": ("fraction",)}
"""Keys of a table that are no options of a kind: how much is kept, say, or who attacks."""


def _without_options(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in table.items() if k in STAYS.get(name, ())}
