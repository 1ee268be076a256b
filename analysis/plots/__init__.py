"""Figures: each takes a tidy frame and, if you like, the axes to draw on, and returns the axes.

>>> with styled("icml"):                                    # doctest: +SKIP
...     curves(load("runs/study").rounds).figure.savefig("curves.pdf")
"""

from analysis.plots.clients import client_cdf, client_violin, worst_clients
from analysis.plots.curves import comparison, curves
from analysis.plots.grid import panels
from analysis.plots.labels import labels
from analysis.plots.sweeps import heatmap, sweep
from analysis.plots.systems import round_time, timeline, traffic
from analysis.plots.targets import to_target_bars

__all__ = [
    "client_cdf",
    "client_violin",
    "comparison",
    "curves",
    "heatmap",
    "labels",
    "panels",
    "round_time",
    "sweep",
    "timeline",
    "to_target_bars",
    "traffic",
    "worst_clients",
]
