"""Captions of a report's figures: what is drawn of these runs, and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from analysis.drawing import first_with_labels, time_of
from analysis.figures import FIGURES
from analysis.names import ELSEWHERE
from analysis.plots.base import name_of
from analysis.runs import Runs
from analysis.summarise import default_target, rounds_to_target
from analysis.text import listing

OF_ROUNDS = {
    "accuracy": "server_accuracy",
    "loss": "server_loss",
    "client_accuracy": "client_accuracy",
}
"""Figures of curves over rounds in which results of other papers are lines, by their measure."""

NAMED_UP_TO = 3
"""Runs that a caption names; of more it says which they are in general."""


def caption(name: str, runs: Runs, target: float | None = None) -> str:
    """Return the caption of the figure ``name`` of these runs.

    Args:
        name: one of :data:`analysis.figures.FIGURES`.
        runs: what is drawn.
        target: the value of the measure that figures of targets are about; chosen without.
    """
    measure = name_of(runs.metric)
    text = FIGURES[name].caption.replace("{Metric}", measure)
    text = text.replace("{metric}", measure[0].lower() + measure[1:])
    more = MORE.get(name)
    further = more(runs, target) if more else ""
    return " ".join(filter(None, (text, further, _reported(name, runs))))


def _reported(name: str, runs: Runs) -> str:
    """Return the sources of the lines across a figure of curves."""
    metric = OF_ROUNDS.get(name)
    known = [one for one in runs.names.reported if one.metric == metric]
    drawn = {x for s in runs.settings for x in runs.names.levels(s, metric or "", [*runs.settings])}
    found = [x for x in known if f"{x.label} {ELSEWHERE}" in drawn]
    sources = dict.fromkeys(f"{x.label}: {x.source}" for x in found)
    return f"{ELSEWHERE} As reported, not run here: {'; '.join(sources)}." if sources else ""


def _pooled(runs: Runs, target: float | None) -> str:
    rounds = runs.rounds
    pooled = rounds.loc[rounds["mode"] == "centralised", runs.metric]
    return "The dashed line is centralised training." if pooled.notna().any() else ""


def _arrows(cost: str) -> Callable[[Runs, float | None], str]:
    def more(runs: Runs, target: float | None) -> str:
        target = default_target(runs.rounds, runs.metric) if target is None else target
        for setting in runs.settings:
            rows = runs.at(setting).rounds
            data = rounds_to_target(rows, target, runs.metric, cost=cost)
            if (np.isfinite(data["median"]) & ~np.isfinite(data["high"])).any():
                return "An arrow: a seed never got there."
        return ""

    return more


def _time(runs: Runs, target: float | None) -> str:
    if time_of(runs) == "elapsed":
        return "Time is that of the wall clock."
    return "Time is what all workers computed together, without the first round's compilation."


def _round_time(runs: Runs, target: float | None) -> str:
    return _time(runs, target) if time_of(runs) != "elapsed" else ""


def _labels(runs: Runs, target: float | None) -> str:
    return _of(first_with_labels(runs), "the first run of each setting")


def _timeline(runs: Runs, target: float | None) -> str:
    frame = runs.timeline
    federated = frame[frame["mode"] == "federated"]
    return _of([str((federated if len(federated) else frame)["run"].iloc[0])], "")


def _of(names: Sequence[str], otherwise: str) -> str:
    if len(names) > NAMED_UP_TO:
        return f"Drawn: {otherwise}."
    return f"Drawn: {'run' if len(names) == 1 else 'runs'} {listing(names)}." if names else ""


MORE: dict[str, Callable[[Runs, float | None], str]] = {
    "accuracy_time": _time,
    "round_time": _round_time,
    "comparison": _pooled,
    "rounds_to_target": _arrows("round"),
    "virtual_time_to_target": _arrows("virtual_seconds"),
    "labels": _labels,
    "labels_bars": _labels,
    "timeline": _timeline,
}
"""What else captions say, by the figure's name."""
