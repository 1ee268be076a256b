"""From runs to a paper: load, summarise, plot, tabulate, report.

>>> from analysis import load, plots, report, summarise          # doctest: +SKIP
>>> runs = load("runs/study")                                    # tidy frames
>>> setting, *others = runs.settings                             # what strategies are compared in
>>> summarise.final(runs.by_setting, by=("setting", "label"))    # mean, std, CI over seeds
>>> plots.curves(runs.at(setting).rounds)                        # matplotlib axes
>>> report("runs/study", "paper")                                # everything, on disk
"""

from analysis import plots, summarise
from analysis.appearance import looks
from analysis.cells import Table
from analysis.figures import FIGURES, draw, save
from analysis.load import load
from analysis.report import plot, report
from analysis.runs import Runs
from analysis.style import PAPERS, styled
from analysis.tables import all_tables
from analysis.verdicts import final_table

__all__ = [
    "FIGURES",
    "PAPERS",
    "Runs",
    "Table",
    "all_tables",
    "draw",
    "final_table",
    "load",
    "looks",
    "plot",
    "plots",
    "report",
    "save",
    "styled",
    "summarise",
]
