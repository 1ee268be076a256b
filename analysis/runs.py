"""A set of runs as tidy frames, and how to pick from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.appearance import Look
from analysis.names import Names
from analysis.reading import read_parquet
from analysis.settings import assign_settings
from analysis.summarise import DIVERGED

CLIENT_COLUMNS = ("round", "client", "examples", "loss", "accuracy")
LABEL_COLUMNS = ("client", "class", "examples")
TIMELINE_COLUMNS = ("round", "worker", "start", "end")
EVENT_COLUMNS = (
    "round", "client", "tier", "version", "dispatched", "arrived", "staleness", "steps",
    "bytes_up", "bytes_down", "joules", "used", "reason",
)  # fmt: skip
FASHION_MNIST = ("fashion-mnist", "fashion-mnist-mini")
"""The datasets of this name; one of a user's own may have it in its name and be another."""
CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
           "Ankle boot")  # fmt: skip
"""What the classes of Fashion-MNIST are called by its authors."""
ENDED = ("complete", DIVERGED)
"""States of runs that are results."""
MEASURED = ("server_", "client_", "train_")
"""How the columns of measures begin."""
PERSONAL = (
    "fedper", "fedbn", "lg-fedavg", "fedbabu", "fedrep", "ditto", "apfl", "pfedme",
    "per-fedavg", "ifca", "fedproto", "feddistill",
)  # fmt: skip
"""Strategies whose clients have models of their own."""
ABOUT = ("label", "strategy", "seed", "setting", "mode")


@dataclass(frozen=True, repr=False)
class Runs:
    """A set of runs as tidy frames.

    Args:
        table: a row per run, indexed by the run's name: label, strategy, seed, dataset, model,
            clients, partition, alpha, mode, setting, status, hash and every key of the
            experiment, flattened with dots.
        rounds: a row per run and round: the run's columns and the metrics of the round, with
            running totals ``elapsed`` [s], ``bytes_total`` and ``examples_total``; ``busy``
            and ``busy_total``, what workers computed [s] (see
            :func:`analysis.working_time.busy_of`); of runs on a virtual clock also
            ``virtual_seconds`` and ``energy_joules``.
        folders: each run's folder.
        configs: each run's ``config.json``.
        summaries: each run's ``summary.json``; empty while it runs.
        settings: the runs that belong to each setting (everything but strategy and seed equal);
            a centralised run belongs to each setting that it is a baseline of.
        names: what the author calls strategies, settings and datasets, and in which order.
        metric: the measure that strategies are compared by, a column of ``rounds``.
        left_out: runs that are none of these because they are not complete, with their state.
    """

    table: pd.DataFrame
    rounds: pd.DataFrame
    folders: Mapping[str, Path]
    configs: Mapping[str, Mapping[str, Any]]
    summaries: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, list[str]] = field(default_factory=dict)
    names: Names = field(default_factory=Names)
    metric: str = "server_accuracy"
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Say what there is: ``<24 runs, 4 strategies, 2 settings, 3 seeds>``."""
        counts = (
            (len(self), "run", "runs"),
            (self.table["label"].nunique(), "strategy", "strategies"),
            (len(self.settings), "setting", "settings"),
            (self.table["seed"].nunique(), "seed", "seeds"),
        )
        texts = [f"{count} {one if count == 1 else many}" for count, one, many in counts]
        return f"<{', '.join(texts)}>"

    def __len__(self) -> int:
        """How many runs there are."""
        return len(self.table)

    def order(self, labels: Iterable[str] | None = None) -> list[str]:
        """Return labels, or all of the runs', in the order of legends and tables."""
        return self.names.order(self.table["label"] if labels is None else labels)

    def looks(self) -> dict[str, Look]:
        """Return the look of each label, in the order of legends."""
        return self.names.looks(self.table["label"])

    def title(self, label: str) -> str:
        """Return what the strategy with a label is called without the author."""
        return self.names.name(label)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What the classes are called by number: by the author, or by a dataset of ours."""
        datasets = set(self.table["dataset"])
        known = CLASSES if datasets and datasets <= set(FASHION_MNIST) else None
        return self.names.classes or known

    @cached_property
    def clients(self) -> pd.DataFrame:
        """A row per run, round and client: its validation metrics with the round's model."""
        return self._parquet("clients.parquet", CLIENT_COLUMNS, ["run", "round", "client"])

    @cached_property
    def last_clients(self) -> pd.DataFrame:
        """A row per run and client that was measured last: all clients where the run did so.

        Else those of the last cohort that was. Attackers are left out: nobody owes them a good
        model; so are runs that diverged.
        """
        keys = ["run", "round", "client"]
        names = ("all_clients.parquet", "clients.parquet")
        well = self.only(self.table.index[self.table["status"] != DIVERGED])
        columns = tuple(c for c in CLIENT_COLUMNS if c != "examples")
        return well._parquet(names, columns, keys, last_measured)

    @cached_property
    def labels(self) -> pd.DataFrame:
        """A row per run, client and ``class``: how many examples of that label a client holds."""
        return self._parquet("labels.parquet", LABEL_COLUMNS, ["run", "client", "class"])

    @cached_property
    def timeline(self) -> pd.DataFrame:
        """A row per piece of work: run, round, worker, kind, its start and end [s, epoch]."""
        return self._parquet("timeline.parquet", TIMELINE_COLUMNS, None)

    @cached_property
    def events(self) -> pd.DataFrame:
        """A row per piece of work on the virtual clock: a client that got a model, and its end.

        ``round`` is the server step in which it was decided, ``version`` that of the model which
        the client got; ``dispatched`` and ``arrived`` [s]; ``used``, or the ``reason`` why not.
        """
        keys = ["run", "round", "client", "version", "dispatched"]
        whole = self._parquet("events.parquet", EVENT_COLUMNS, keys, as_categories)
        for column in ("tier", "reason"):
            whole[column] = whole[column].astype("category")
        return whole

    @cached_property
    def by_setting(self) -> pd.DataFrame:
        """:attr:`rounds` with the centralised runs repeated in each setting they belong to."""
        parts = [self.at(setting).rounds for setting in self.settings]
        return pd.concat(parts, ignore_index=True)

    @property
    def counted(self) -> Runs:
        """The runs that came to an end: complete or diverged. All of them while none has.

        A run that diverged is a result: its strategy failed with that seed.
        """
        status = self.table["status"]
        ended = status.isin(ENDED)
        if not ended.any():
            return self
        others = {str(n): self._state(str(n)) for n in self.table.index[~ended]}
        return replace(self.only(self.table.index[ended]), left_out=others)

    def _state(self, run: str) -> str:
        """Say how far a run is that did not come to its end."""
        rounds = self.rounds.loc[self.rounds["run"] == run, "round"]
        planned = self.configs[run]["experiment"].get("rounds")
        done = f" after round {int(rounds.max())}" if len(rounds) else ""
        whole = f" of {planned}" if done and planned else ""
        return f"{self.table['status'].astype(str)[run]}{done}{whole}"

    def by(self, metric: str | None) -> Runs:
        """Return the runs with the measure to compare them by.

        Args:
            metric: a column of ``rounds``; None: the test accuracy, or the clients' accuracy where
                a strategy keeps layers on the clients, whose models the server does not have.

        Raises:
            ValueError: no run measured it.
        """
        known = [
            c
            for c in self.rounds.columns
            if c.startswith(MEASURED) and self.rounds[c].notna().any()
        ]
        if metric is None:
            metric = "client_accuracy" if self._personal(known) else "server_accuracy"
        elif metric not in known:
            raise ValueError(f"metric: must be one of {sorted(known)}, got {metric!r}")
        return replace(self, metric=metric)

    def _personal(self, known: list[str]) -> bool:
        """Tell whether only the clients' accuracy says how good every strategy is."""
        rows = self.rounds[self.rounds["mode"] == "federated"]
        if "client_accuracy" not in known or rows.empty:
            return False
        measured = rows.groupby("run", observed=True)[
            ["server_accuracy", "client_accuracy"]
        ].count()
        unserved = (measured["server_accuracy"] == 0) & (measured["client_accuracy"] > 0)
        return bool(unserved.any() or rows["strategy"].isin(PERSONAL).any())

    def only(self, names: Iterable[str]) -> Runs:
        """Return the runs called ``names``."""
        keep = set(names)
        unknown = sorted(keep - set(self.table.index))
        if unknown:
            raise ValueError(f"runs: there is no run {unknown[0]!r}")
        chosen = {
            setting: [n for n in members if n in keep] for setting, members in self.settings.items()
        }
        return replace(
            self,
            table=self.table[self.table.index.isin(keep)],
            rounds=self.rounds[self.rounds["run"].isin(keep)],
            folders={n: p for n, p in self.folders.items() if n in keep},
            configs={n: c for n, c in self.configs.items() if n in keep},
            summaries={n: s for n, s in self.summaries.items() if n in keep},
            settings={setting: members for setting, members in chosen.items() if members},
        )

    def at(self, setting: str) -> Runs:
        """Return the runs of one setting, the centralised ones that belong to it included."""
        if setting not in self.settings:
            raise ValueError(f"setting: {setting!r} is none of {sorted(self.settings)}")
        if len(self.settings) == 1 and len(self.settings[setting]) == len(self):
            return self
        if setting not in self._parts:  # tables and figures ask for the same part many times
            chosen = self.only(self.settings[setting])
            self._parts[setting] = replace(
                chosen,
                table=chosen.table.assign(setting=setting),
                rounds=chosen.rounds.assign(setting=setting),
                settings={setting: self.settings[setting]},
            )
        return self._parts[setting]

    @cached_property
    def _parts(self) -> dict[str, Runs]:
        return {}

    @cached_property
    def memo(self) -> dict[Any, Any]:
        """What was computed from these runs and is asked for again, by what it is."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what another process picks and computes where it needs it."""
        return {key: value for key, value in vars(self).items() if key not in ("_parts", "memo")}

    def across(self, *columns: str) -> Runs:
        """Return the same runs with settings that do not tell ``columns`` apart.

        What a figure over ``alpha`` needs: the runs of all alphas in one setting.
        """
        names, settings = assign_settings(self.table, columns, self.names)
        rounds = self.rounds.assign(
            setting=self.rounds["run"].map(names).astype(object).astype("category")
        )
        return replace(self, table=self.table.assign(setting=names), rounds=rounds,
                       settings=settings)  # fmt: skip

    def _parquet(
        self,
        names: str | Sequence[str],
        columns: tuple[str, ...],
        keys: list[str] | None,
        pick: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    ) -> pd.DataFrame:
        names = [names] if isinstance(names, str) else names
        frames: dict[str, pd.DataFrame] = {}
        for run, folder in self.folders.items():
            frame = next((f for n in names if (f := read_parquet(folder / n)) is not None), None)
            if frame is None or frame.empty:
                continue
            # a run's label is its strategy's; the labels of examples are classes here
            frame = frame.rename(columns={"label": "class"})
            missing = [c for c in columns if c not in frame.columns]
            if missing:
                raise ValueError(f"{folder / names[0]}: column {missing[0]!r} is missing")
            frame = frame if pick is None else pick(frame)
            frames[run] = frame
        if not frames:
            return pd.DataFrame({c: [] for c in ("run", *ABOUT, *columns)})
        rows = [self.table.index.get_loc(run) for run in frames]
        place = np.repeat(np.array(rows), [*map(len, frames.values())])
        about = self.table.rename_axis("run").reset_index()[["run", *ABOUT]].take(place)
        rest = pd.concat(frames.values(), ignore_index=True)
        whole = pd.concat([about.reset_index(drop=True), rest], axis=1)
        if keys is not None:  # a resumed run may have written a round twice; the later rows count
            whole = whole.drop_duplicates(keys, keep="last", ignore_index=True)
        for column in ("run", "label", "strategy", "setting", "mode"):
            whole[column] = whole[column].astype("category")
        return whole


def as_categories(frame: pd.DataFrame) -> pd.DataFrame:
    """Return events with their few different texts as categories: 100,000 rows stay small."""
    texts = {c: frame[c].fillna("").astype("category") for c in ("tier", "reason")}
    return frame.assign(**texts)


def last_measured(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the honest clients of the last round in which a client's accuracy was measured."""
    measured = frame[frame["accuracy"].notna()]
    rows: pd.DataFrame = measured[measured["round"] == measured["round"].max()]
    return rows[~rows["attacker"].astype(bool)] if "attacker" in rows else rows
