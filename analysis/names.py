"""What an author calls strategies, settings, datasets and classes: the file ``figures.toml``.

::

    strategies = [                                             # in this order
        { name = "fedprox(mu=0.1)", label = "Ours", colour = "#D55E00" },
        { name = "fedavg" },
    ]
    classes = ["T-shirt", "Trouser"]                           # by number
    figures = ["accuracy", "comparison"]                       # of the report; all without
    tables = ["final_server_accuracy"]
    [settings]
    "alpha = 0.1" = "Heterogeneous"
    [datasets]
    "fashion-mnist" = "Fashion-MNIST"
    [[reported]]                                               # of another paper
    label = "FedAvg"
    source = "McMahan et al. (2017), Table 2"
    value = 0.874                                              # and std, metric, setting
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from pathlib import Path
from typing import Any

from matplotlib.colors import is_color_like

from analysis.appearance import Look, family, looks, order
from analysis.text import ALPHA

FILE = "figures.toml"
"""The file's name where it lies in a folder of runs."""

ELSEWHERE = "‡"
"""The mark of a result that another paper reports."""

LISTS = ("classes", "figures", "tables")
TABLES = ("settings", "datasets")
ENTRY = ("name", "label", "colour")


@dataclass(frozen=True)
class Strategy:
    """What a strategy is called.

    Args:
        name: what it is called without the author: its title and options, or its title alone
            where there is no other of it.
        label: what it is to be called; "" for the same.
        colour: of its lines and bars; "" for that of its family.
    """

    name: str
    label: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Reported:
    """A result of another paper, for the tables of final results.

    Args:
        label: what it is called.
        source: where it stands.
        value: its mean; a share of 1 where the measure is one.
        std: its standard deviation; NaN where the paper has none.
        metric: what was measured.
        setting: the title of the setting that it belongs to; "" where there is one alone.
    """

    label: str
    source: str
    value: float
    std: float = nan
    metric: str = "server_accuracy"
    setting: str = ""


@dataclass(frozen=True)
class Names:
    """Labels, order and colours of an author's choice; nothing of all by default.

    Args:
        strategies: in the order of legends and tables; those left out come after them.
        settings: titles by the name that a setting has without.
        datasets: labels by name.
        classes: names of the classes by number.
        figures: of a report; None for all that the runs give.
        tables: of a report; None for all.
        reported: results of other papers.
        labels: what each strategy of the runs is called, by its name; found by :meth:`fitted`.
        unknown: names of strategies and settings that no run has.
    """

    strategies: tuple[Strategy, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    figures: tuple[str, ...] | None = None
    tables: tuple[str, ...] | None = None
    reported: tuple[Reported, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def fitted(self, names: Iterable[str]) -> Names:
        """Return the same with the labels of strategies that runs have.

        Raises:
            ValueError: two strategies would have one label.
        """
        known = sorted(set(map(str, names)))
        found: dict[str, str] = {}
        kept, unknown = [], []
        for entry in self.strategies:
            name = _meant(entry.name, known)
            if name is None or name in found:
                unknown.append(entry.name)
                continue
            found[name] = entry.label or name
            kept.append(replace(entry, name=name))
        for name in known:
            found.setdefault(name, name)
        twice = [x for x in found.values() if list(found.values()).count(x) > 1]
        if twice:
            raise ValueError(f"strategies: label must be of one strategy alone, got {twice[0]!r}")
        return replace(self, strategies=tuple(kept), labels=found, unknown=tuple(unknown))

    def label(self, name: str) -> str:
        """Return what a strategy is called."""
        return self.labels.get(name, name)

    def name(self, label: str) -> str:
        """Return what the strategy with a label is called without the author."""
        return next((name for name, mine in self.labels.items() if mine == label), label)

    def setting(self, name: str) -> str:
        """Return the title of a setting."""
        return self.settings.get(_spelled(name), self.settings.get(name, name))

    def of_runs(self, setting: str, settings: Sequence[str]) -> str | None:
        """Return which of the runs' settings is meant by one; the only one where there is one."""
        if len(settings) == 1:
            return settings[0]
        wanted = {_spelled(setting), _spelled(self.setting(setting))}
        return next((s for s in settings if _spelled(s) in wanted), None)

    def levels(self, setting: str, metric: str, settings: Sequence[str]) -> dict[str, float]:
        """Return the results of other papers that belong into a setting, by marked label."""
        return {
            f"{one.label} {ELSEWHERE}": one.value
            for one in self.reported
            if one.metric == metric and self.of_runs(one.setting, settings) == setting
        }

    def dataset(self, name: Any) -> Any:
        """Return what a dataset is called."""
        return self.datasets.get(str(name), name)

    def wants_table(self, name: str) -> bool:
        """Tell whether a table is to be in a report."""
        return self.tables is None or name in self.tables

    def order(self, labels: Iterable[str]) -> list[str]:
        """Return labels in the author's order, then in that of :func:`appearance.order`."""
        given = set(map(str, labels))
        first = [x for x in (entry.label or entry.name for entry in self.strategies) if x in given]
        rest = order(self.name(x) for x in given if x not in first)
        return first + [self.label(name) for name in rest]

    def looks(self, labels: Iterable[str]) -> dict[str, Look]:
        """Return the look of each label, in their order."""
        names = {label: self.name(label) for label in self.order(labels)}
        own = looks(names.values())
        colours = {entry.name: entry.colour for entry in self.strategies if entry.colour}
        found = {label: own[name] for label, name in names.items()}
        return {
            label: replace(look, colour=colours.get(names[label], look.colour))
            for label, look in found.items()
        }


def read_names(path: Path) -> Names:
    """Read a file of names.

    Raises:
        ValueError: it cannot be read, or a key of it is wrong: which, and what was expected.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as TOML ({error})") from None
    try:
        return parse_names(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def find_names(paths: Iterable[str | Path]) -> Names:
    """Return what the file ``figures.toml`` in one of the folders says; nothing without one.

    Raises:
        ValueError: there are several, or it cannot be read.
    """
    files = [file for file in (Path(path) / FILE for path in paths) if file.is_file()]
    if len(files) > 1:
        listed = ", ".join(map(str, files))
        raise ValueError(f"names: must be one file where several folders have one, got {listed}")
    return read_names(files[0]) if files else Names()


def parse_names(data: Mapping[str, Any]) -> Names:
    """Return what a file of names says.

    Raises:
        ValueError: a key of it is wrong: which, and what was expected.
    """
    known = ("strategies", "reported", *LISTS, *TABLES)
    for key in data:
        if key not in known:
            raise ValueError(f"{key}: must be one of {sorted(known)}")
    lists = {key: _texts(data[key], key) for key in LISTS if key in data}
    tables = {key: _pairs(data.get(key, {}), key) for key in TABLES}
    entries = data.get("strategies", [])
    if not isinstance(entries, list):
        raise ValueError(f"strategies: must be a list of tables, got {entries!r}")
    strategies = tuple(_strategy(entry, f"strategies.{i}") for i, entry in enumerate(entries))
    _distinct([s.name for s in strategies], "strategies: name")
    _distinct([s.label for s in strategies if s.label], "strategies: label")
    for key in TABLES:
        _distinct(list(tables[key].values()), key)
    settings = {_spelled(k): v for k, v in tables["settings"].items()}
    return Names(
        strategies, settings, tables["datasets"], lists.get("classes", ()), lists.get("figures"),
        lists.get("tables"), _reported(data.get("reported", [])),
    )  # fmt: skip


def _strategy(entry: Any, key: str) -> Strategy:
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise ValueError(f"{key}: must be a table with a name, got {entry!r}")
    for name, value in entry.items():
        if name not in ENTRY:
            raise ValueError(f"{key}.{name}: must be one of {list(ENTRY)}")
        _text(value, f"{key}.{name}")
    if "colour" in entry and not is_color_like(entry["colour"]):
        raise ValueError(
            f"{key}.colour: must be a colour, as '#D55E00' or 'black', got {entry['colour']!r}"
        )
    return Strategy(**entry)


def _reported(entries: Any) -> tuple[Reported, ...]:
    if not isinstance(entries, list) or any(not isinstance(e, Mapping) for e in entries):
        raise ValueError(f"reported: must be a list of tables, got {entries!r}")
    found = []
    for i, entry in enumerate(entries):
        fields = Reported.__dataclass_fields__
        for key, value in entry.items():
            if key not in fields:
                raise ValueError(f"reported.{i}.{key}: must be one of {list(fields)}")
            if key not in ("value", "std"):
                _text(value, f"reported.{i}.{key}")
            elif type(value) not in (int, float) or not isfinite(value):
                raise ValueError(f"reported.{i}.{key}: must be a finite number, got {value!r}")
        for key in ("label", "source", "value"):
            if key not in entry:
                raise ValueError(f"reported.{i}: must have a {key}")
        one = Reported(**entry)
        share = "accuracy" in one.metric or one.metric.endswith("_success")
        if share and not 0 <= one.value <= 1:
            raise ValueError(f"reported.{i}.value: must be in [0, 1], got {one.value!r}")
        found.append(one)
    return tuple(found)


def _texts(values: Any, key: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise ValueError(f"{key}: must be a list of texts, got {values!r}")
    return tuple(_text(value, f"{key}.{i}") for i, value in enumerate(values))


def _pairs(table: Any, key: str) -> dict[str, str]:
    if not isinstance(table, Mapping):
        raise ValueError(f"{key}: must be a table of texts, got {table!r}")
    return {str(name): _text(value, f"{key}.{name}") for name, value in table.items()}


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key}: must be some text, got {value!r}")
    return value


def _distinct(values: Sequence[str], key: str) -> None:
    for i, value in enumerate(values):
        if value in values[:i]:
            raise ValueError(f"{key}: must name nothing twice, got {value!r}")


def _spelled(name: str) -> str:
    """Return a setting's name as it may be typed: ``alpha`` for the letter."""
    return name.replace(ALPHA, "alpha")


def _meant(name: str, known: Sequence[str]) -> str | None:
    """Return the strategy that a name is of: as it is, in any case, or alone in its family."""
    rules: tuple[Callable[[str], bool], ...] = (
        lambda x: x == name,
        lambda x: x.lower() == name.lower(),
        lambda x: "(" not in name and family(x) == family(name),
    )
    for rule in rules:
        found = [x for x in known if rule(x)]
        if len(found) == 1:
            return found[0]
    return None
