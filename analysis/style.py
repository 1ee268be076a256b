"""How figures look: the sizes of papers, and one look per strategy throughout a paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl


@dataclass(frozen=True)
class Paper:
    """A venue's figure sizes.

    Args:
        column: width of a one-column figure [in].
        page: width of a figure across the text [in].
        size: text size [pt]; the small text of ticks and legends is one point smaller.
        family: font families, the first one found is used; all ship with Matplotlib.
    """

    column: float
    page: float
    size: float
    family: tuple[str, ...]

    def rc(self) -> dict[str, Any]:
        """Return the Matplotlib settings of this venue."""
        small = max(7.0, self.size - 1)
        serif = self.family[0] != "DejaVu Sans"
        lines = {key: BASE[key] * self.size / 8 for key in LINES}
        return {
            **BASE,
            **lines,
            "figure.figsize": (self.column, self.column * 0.72),
            "font.family": list(self.family),
            "mathtext.fontset": "stix" if serif else "dejavusans",
            "font.size": self.size,
            "axes.labelsize": self.size,
            "axes.titlesize": self.size,
            "figure.titlesize": self.size,
            "legend.fontsize": small,
            "legend.title_fontsize": small,
            "xtick.labelsize": small,
            "ytick.labelsize": small,
        }


BASE: dict[str, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.w_pad": 0.03,
    "pdf.fonttype": 42,  # TrueType: venues reject Type 3 fonts
    "ps.fonttype": 42,
    "svg.fonttype": "path",  # a page looks the same without our fonts
    "svg.hashsalt": "sunflower",  # the same figure is the same file
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelpad": 2.5,
    "axes.titlepad": 4,
    "axes.unicode_minus": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.3,
    "legend.borderaxespad": 0.2,
    "hatch.linewidth": 0.5,
}

LINES = (
    "axes.linewidth",
    "grid.linewidth",
    "lines.linewidth",
    "lines.markersize",
    "xtick.major.width",
    "ytick.major.width",
    "xtick.major.size",
    "ytick.major.size",
)

SERIF = ("STIXGeneral", "DejaVu Serif")  # STIX matches the Times of these venues
PAPERS: dict[str, Paper] = {
    "default": Paper(3.25, 6.75, 8, ("DejaVu Sans",)),
    "neurips": Paper(2.7, 5.5, 8, SERIF),  # one column of text: two figures side by side
    "icml": Paper(3.25, 6.75, 8, SERIF),
    "ieee": Paper(3.5, 7.16, 8, SERIF),
    "ieee-wide": Paper(7.16, 7.16, 8, SERIF),
    "slide": Paper(6.0, 12.0, 14, ("DejaVu Sans",)),
}
"""Venues by name: widths and text sizes from their author kits."""


def paper(name: str) -> Paper:
    """Return the venue called ``name``."""
    if name not in PAPERS:
        raise ValueError(f"style: must be one of {sorted(PAPERS)}, got {name!r}")
    return PAPERS[name]


@contextmanager
def styled(name: str = "default", **rc: Any) -> Iterator[Paper]:
    """Draw what is inside the ``with`` statement with the settings of a venue."""
    chosen = paper(name)
    settings: dict[Any, Any] = {**chosen.rc(), **rc}
    with mpl.rc_context(settings):
        yield chosen


# Okabe and Ito (2008), without its black (the centralised baseline) and its yellow (too pale on
# white), ordered so that neighbours differ in lightness too and survive grey printing.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7F3C8D")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (5, 1.2, 1.2, 1.2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "++", "ooo", "---", "***", "||", "OO")

# Fixed places, so that FedAvg looks the same in every figure of every paper.
KNOWN = (
    "fedavg",
    "fedprox",
    "fedadam",
    "scaffold",
    "fedyogi",
    "fedavgm",
    "fednova",
    "fedadagrad",
    "feddyn",
    "fedmedian",
    "fedtrimmedavg",
    "krum",
    "multikrum",
    "bulyan",
    "geometricmedian",
    "qfedavg",
    "fedbn",
    "fedbuff",
    "fedasync",
    "hierfavg",
)


def points(size: float) -> float:
    """Return a length of 8 pt type [pt] in proportion to the style's type: slides need more."""
    return size * float(mpl.rcParams["font.size"]) / 8


@dataclass(frozen=True)
class Look:
    """How one strategy is drawn: colour, dash and marker of lines, hatch of bars."""

    colour: str
    dash: Any
    marker: str
    hatch: str = ""
    size: float = 3.6

    def line(self) -> dict[str, Any]:
        """Return the keywords of ``Axes.plot``."""
        return {
            "color": self.colour,
            "linestyle": self.dash,
            "marker": self.marker,
            "markersize": points(self.size),
            "markeredgecolor": "white",
            "markeredgewidth": 0.3,
        }

    def bar(self) -> dict[str, Any]:
        """Return the keywords of ``Axes.bar``."""
        return {"facecolor": self.colour, "hatch": self.hatch, "edgecolor": "white"}


CENTRALISED = Look("#000000", (0, (4, 2)), "*", "", 6.0)
LOCAL = Look("#777777", (0, (1, 1)), "d", "////")


def slot(i: int) -> Look:
    """Return the look of place ``i``; the first 385 differ from each other.

    Colour, dash and marker run with periods 7, 5 and 11, which share no factor.
    """
    return Look(
        COLOURS[i % len(COLOURS)],
        DASHES[i % len(DASHES)],
        MARKERS[i % len(MARKERS)],
        HATCHES[i % len(HATCHES)],
    )


def base_name(label: str) -> str:
    """Return a label without its options, in lower case: ``FedProx(mu=0.1)`` is ``fedprox``."""
    return "".join(c for c in label.split("(")[0].lower() if c.isalnum())


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """Return a look for each label, the same for any order of them.

    Known strategies have fixed places; other labels, and further variants of a known strategy,
    take the free places after them in alphabetical order.
    """
    chosen: dict[str, Look] = {}
    taken: set[int] = set()
    waiting = []
    for label in sorted(set(map(str, labels))):
        name = base_name(label)
        if name in ("centralised", "centralized"):
            chosen[label] = CENTRALISED
        elif name in ("local", "localonly"):
            chosen[label] = LOCAL
        elif name in KNOWN and KNOWN.index(name) not in taken:
            taken.add(KNOWN.index(name))
            chosen[label] = slot(KNOWN.index(name))
        else:
            waiting.append(label)
    free = (i for i in range(len(taken) + len(waiting)) if i not in taken)
    for label in waiting:
        chosen[label] = slot(next(free))
    return chosen


def order(labels: Iterable[str]) -> list[str]:
    """Return the labels in the order of legends and tables: known ones first, baselines last."""

    def key(label: str) -> tuple[int, int, str]:
        name = base_name(label)
        if name in ("centralised", "centralized", "local", "localonly"):
            return (2, 0 if name.startswith("local") else 1, label)
        return (0, KNOWN.index(name), label) if name in KNOWN else (1, 0, label)

    return sorted(set(map(str, labels)), key=key)
