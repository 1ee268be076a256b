"""Figures: each takes a tidy frame and, if you like, the axes to draw on, and returns the axes.

>>> with styled("icml"):                                    # doctest: +SKIP
...     curves(load("runs/study").rounds).figure.savefig("curves.pdf")
"""

from analysis.plots.clients import client_cdf, client_violin, worst_clients
from analysis.plots.clock import gantt, staleness
from analysis.plots.confusion import confusion
from analysis.plots.curves import comparison, curves
from analysis.plots.defences import defences
from analysis.plots.grid import panels
from analysis.plots.labels import labels
from analysis.plots.sweeps import heatmap, sweep
from analysis.plots.systems import round_time, timeline, traffic
from analysis.plots.targets import to_target_bars
from analysis.plots.tiers import participation, tier_accuracy

__all__ = [
    "client_cdf",
    "client_violin",
    "comparison",
    "confusion",
    "curves",
    "defences",
    "gantt",
    "heatmap",
    "labels",
    "panels",
    "participation",
    "round_time",
    "staleness",
    "sweep",
    "tier_accuracy",
    "timeline",
    "to_target_bars",
    "traffic",
    "worst_clients",
]
