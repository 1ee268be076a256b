"""Which runs are of one strategy: those whose options have the same effect, given or by default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.text import number

Config = Mapping[str, Any]
"""A run's ``config.json``."""

PREFIX = "strategy."
"""How the columns of a strategy's options begin."""


def declared(config: Config) -> dict[str, Any]:
    """Return the options that an experiment gives its strategy."""
    found = config["experiment"].get("strategy")
    return {k: v for k, v in found.items() if k != "name"} if isinstance(found, Mapping) else {}


def recorded(config: Config) -> Mapping[str, Any] | None:
    """Return what a run says of its strategy: title, options and which of them are no defaults.

    Older runs say nothing.
    """
    found = config.get("strategy")
    return found if isinstance(found, Mapping) and "options" in found else None


def defaults_of(configs: Sequence[Config]) -> dict[str, dict[str, Any]]:
    """Return the default options of each strategy, as far as some run says them."""
    found: dict[str, dict[str, Any]] = {}
    for config in configs:
        if (known := recorded(config)) is not None:
            others = {k: v for k, v in known["options"].items() if k not in known["changed"]}
            found.setdefault(_name(config), {}).update(others)
    return found


def effective(config: Config, defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return all options that a run's strategy had; of an older run those that can be known."""
    if (known := recorded(config)) is not None:
        return dict(known["options"])
    return {**defaults.get(_name(config), {}), **declared(config)}


def title_of(config: Config, defaults: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the label of a run: the author's, or its strategy with the options that matter.

    An option that is given with the value of its default is left out.
    """
    label = str(config.get("label") or "")
    if label == str(config["experiment"].get("name") or ""):
        return label
    given = declared(config)
    if (known := recorded(config)) is not None:
        changed = known["changed"]
        return str(known["title"]) + _in_brackets({k: given[k] for k in given if k in changed})
    usual, title = defaults.get(_name(config), {}), label.removesuffix(_in_brackets(given))
    changed = [k for k in given if not _same(usual, k, given[k])]
    return title + _in_brackets({k: given[k] for k in changed}) if title != label else label


def options_text(options: Mapping[str, Any]) -> str:
    """Return options as one text, equal for equal values: 1 and 1.0 are."""
    return ", ".join(f"{k}={_plain(options[k])}" for k in sorted(options))


def distinct_labels(table: pd.DataFrame, options: Mapping[str, Mapping[str, Any]]) -> pd.Series:
    """Return the runs' labels, made distinct where one label stands for several strategies.

    Runs of one label are repetitions of each other; a name given to a whole study must not
    average FedAvg with FedProx. Such runs are called by their strategy and what differs in it.

    Args:
        table: a row per run, with its label, mode, strategy and ``options`` as a text.
        options: each run's options.
    """
    labels = table["label"].copy()
    for _, rows in table[["mode", "strategy", "options"]].groupby(table["label"]):
        if len(rows.drop_duplicates()) == 1:
            continue
        for run in rows.index:
            if table.at[run, "mode"] != "federated":
                labels[run] = table.at[run, "mode"]
                continue
            name = str(table.at[run, "strategy"])
            mine = [options[r] for r in rows.index[rows["strategy"] == name]]
            keys = sorted({key for one in mine for key in one})
            vary = [k for k in keys if len({_plain(one.get(k)) for one in mine}) > 1]
            own = options[str(run)]
            told = {k: own[k] for k in vary if own.get(k) is not None}
            told = {k: _shown(v) if isinstance(v, Mapping) else number(v) for k, v in told.items()}
            texts = [f"{k}={v}" for k, v in told.items()]
            labels[run] = f"{name}({', '.join(texts)})" if texts else name
    return labels


def fill_options(table: pd.DataFrame, options: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return the table with defaults in its columns of strategies' options, where runs have none.

    A sweep over mu then has a run of FedProx without it at its default.
    """
    filled = {}
    for column in [c for c in table.columns if c.startswith(PREFIX) and c != f"{PREFIX}name"]:
        key = column.removeprefix(PREFIX)
        # a missing value is NaN: with None, a column of numbers would be none
        found = {run: options[run].get(key) for run in table.index}
        texts = {run: str(v) if isinstance(v, list) else v for run, v in found.items()}
        known = pd.Series(texts, dtype=object)
        known = known.where(known.notna(), float("nan"))
        values = table[column].astype(object)
        filled[column] = values.where(values.notna(), known).infer_objects()
    return table.assign(**filled)


def _name(config: Config) -> str:
    found = config["experiment"].get("strategy")
    return str(found.get("name") if isinstance(found, Mapping) else found)


def _in_brackets(options: Mapping[str, Any]) -> str:
    texts = [f"{key}={_shown(options[key])}" for key in sorted(options)]
    return f"({', '.join(texts)})" if texts else ""


def _shown(value: Any) -> str:
    """Return an option's value as labels have it: a schedule over rounds by its kind."""
    if not isinstance(value, Mapping) or "kind" not in value:
        return str(value)
    return f"{value['kind']}({', '.join(f'{k}={v}' for k, v in value.items() if k != 'kind')})"


def _same(usual: Mapping[str, Any], key: str, value: Any) -> bool:
    return key in usual and _plain(usual[key]) == _plain(value)


def _plain(value: Any) -> str:
    return number(float(value)) if type(value) in (int, float) else repr(value)
