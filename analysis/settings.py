"""Which runs are comparable: a setting is everything that is equal but strategy and seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.names import Names
from analysis.text import ALPHA, number, words

# Keys that say who, where and how fast, not what is computed: results do not depend on them.
INCIDENTAL = frozenset(
    (
        "run",
        "label",
        "strategy",
        "seed",
        "mode",
        "status",
        "hash",
        "setting",
        "name",
        "data_dir",
        "workers",
        "backend",
        "lanes",
        "options",
    )
)
INCIDENTAL_GROUPS = (
    "strategy.", "schedule.", "compression.", "resources.", "engine.", "cluster.", "evaluation.",
    "save.",
)  # fmt: skip
# A training detail that goes with the strategy (a tuned learning rate, a longer run) is part of
# what is compared; one that is swept for the same strategy makes another setting.
TREATMENT_GROUPS = ("training.", "stop.")
TREATMENTS = frozenset(["rounds"])
# What a centralised run does not depend on.
FEDERATED_ONLY = frozenset(["clients", "cohort", "alpha", "partition", "devices"])
FEDERATED_GROUPS = ("partition.", "sampling.", "faults.", "attack.", "realism.", "devices.")
CHANGES_ROWS = ("partition.noise", "partition.rotations", "partition.root")
"""Keys of the partition that change the rows that there are, pooled or not."""

REPEATED = {"partition.alpha": "alpha", "partition.kind": "partition"}
SHORT = {"alpha": ALPHA, "attack.kind": "attack"}
NO_ATTACK = "no attack"
"""The setting of runs that nobody attacks, beside those of attacked ones."""


def assign_settings(
    table: pd.DataFrame, ignore: Sequence[str] = (), names: Names | None = None
) -> tuple[pd.Series, dict[str, list[str]]]:
    """Name each run's setting, and list the runs of each setting.

    A study with one setting calls it ``""``. A centralised run is listed under every setting
    whose data, model and training it shares.

    Args:
        table: a row per run, with the columns of :func:`analysis.load`.
        ignore: columns that make no difference here (``partition.alpha`` goes with ``alpha``).
        names: what the author calls datasets and settings.

    Raises:
        ValueError: two settings would have one title.

    Returns:
        The setting of each run and the runs of each setting, in the order of the factors.
    """
    federated = table[table["mode"] != "centralised"]
    pooled = table[table["mode"] == "centralised"]
    base = federated if len(federated) else table
    ignored = {*ignore, *(long for long, short in REPEATED.items() if short in ignore)}
    keys = factors(base.drop(columns=[c for c in ignored if c in base]))
    shown = [k for k in keys if not (k == "partition" and implied(base, k, "alpha", keys))]
    titles = titles_of(table, shown, names or Names())
    order = base.sort_values(keys, key=sortable).index if keys else base.index
    settings: dict[str, list[str]] = {}
    for run in order:
        settings.setdefault(titles[run], []).append(run)
    shared = [k for k in keys if not is_federated_only(k)]
    treated = [c for c in table.columns if is_treatment(c)]
    for run in pooled.index if len(federated) else ():
        own = [s for s, runs in settings.items() if same(table, run, runs[0], shared)]
        # Of these, the ones where somebody trained as it did (its rounds, its learning rate).
        twins = [s for s in own if any(same(table, run, r, treated) for r in settings[s])]
        own = twins or own
        for setting in own:
            settings[setting].append(run)
        if own:
            titles[run] = own[0]
        else:
            settings.setdefault(titles[run], []).append(run)
    # Within a setting the runs keep the order of the table, whatever the factors' order was.
    position = {run: i for i, run in enumerate(table.index)}
    return titles, {s: sorted(runs, key=position.__getitem__) for s, runs in settings.items()}


def titles_of(table: pd.DataFrame, shown: Sequence[str], names: Names) -> pd.Series:
    """Return the setting of each run: the author's title, or what tells it from others."""
    known = (
        table.assign(dataset=table["dataset"].map(names.dataset)) if "dataset" in table else table
    )
    kept = [k for k in shown if not k.startswith("attack.") or tells_attacks_apart(table, k)]
    found = [setting_name(row, kept) for _, row in known.iterrows()]
    if "attack.kind" in shown:
        nobody = known["attack.kind"].isna() & (known["mode"] != "centralised")
        others = [k for k in kept if not k.startswith("attack.")]
        for i in np.flatnonzero(nobody):
            found[i] = ", ".join(filter(None, (setting_name(known.iloc[i], others), NO_ATTACK)))
    titles = {name: names.setting(name) for name in dict.fromkeys(found)}
    if len(set(titles.values())) < len(titles):
        twice = next(t for t in titles.values() if list(titles.values()).count(t) > 1)
        raise ValueError(f"settings: a title must be of one setting alone, got {twice!r}")
    return pd.Series([titles[name] for name in found], index=table.index, dtype=object)


def tells_attacks_apart(table: pd.DataFrame, key: str) -> bool:
    """Tell whether titles need an attack's ``key``: its kind, or what differs within a kind."""
    attacked = table[table["attack.kind"].notna()] if "attack.kind" in table else table
    if key != "attack.kind":
        kinds = attacked.groupby("attack.kind") if "attack.kind" in table else [("", attacked)]
        return any(rows[key].map(repr).nunique() > 1 for _, rows in kinds)
    rest = [c for c in table.columns if c.startswith("attack.") and c != key]
    alone = attacked[key].nunique() == 1
    return not alone or not any(tells_attacks_apart(table, c) for c in rest)


def factors(table: pd.DataFrame) -> list[str]:
    """Return the columns that tell the settings of ``table`` apart."""
    candidates = [
        c
        for c in table.columns
        if c not in INCIDENTAL
        and not c.startswith(INCIDENTAL_GROUPS)
        and table[c].map(repr).nunique() > 1
    ]
    candidates = [c for c in candidates if REPEATED.get(c) not in candidates]
    treatments = [c for c in candidates if is_treatment(c)]
    kept = [c for c in candidates if c not in treatments]
    for column in treatments:
        texts = table[[*kept, column]].map(repr).assign(label=table["label"])
        if (texts.groupby(["label", *kept])[column].nunique() > 1).any():
            kept.append(column)
    return [c for c in candidates if c in kept]


def is_treatment(column: str) -> bool:
    """Tell whether ``column`` is a training detail, which may go with the strategy."""
    return column in TREATMENTS or column.startswith(TREATMENT_GROUPS)


def sortable(values: pd.Series) -> pd.Series:
    """Return numbers as they are and anything else as text, first what has none."""
    if pd.api.types.is_numeric_dtype(values):
        return values
    return values.map(repr).where(values.notna(), "")


def is_federated_only(column: str) -> bool:
    """Tell whether a centralised run cannot depend on ``column``."""
    if column in CHANGES_ROWS:
        return False
    return column in FEDERATED_ONLY or column.startswith(FEDERATED_GROUPS)


def implied(table: pd.DataFrame, column: str, by: str, keys: Sequence[str]) -> bool:
    """Tell whether ``by`` is a factor too and its value always determines ``column``."""
    if by not in keys or table[by].isna().any():
        return False
    return bool((table.groupby(by, dropna=False)[column].nunique(dropna=False) == 1).all())


def same(table: pd.DataFrame, a: str, b: str, keys: Sequence[str]) -> bool:
    """Tell whether the runs ``a`` and ``b`` agree in ``keys``; missing values are equal."""
    return all(repr(table.at[a, k]) == repr(table.at[b, k]) for k in keys)


def setting_name(row: pd.Series, keys: Sequence[str]) -> str:
    """Return e.g. ``clients = 100, batch size = 32`` for the factors that apply to a run."""
    parts = [f"{SHORT.get(k) or words(k)} = {number(row[k])}" for k in keys if not pd.isna(row[k])]
    return ", ".join(parts)
