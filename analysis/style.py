"""How figures look: the sizes and the type of papers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl

from analysis import dark

POINTS = 72.27
"""TeX's points in an inch."""

NARROW = 332
"""Pixels across a telephone that the page leaves a figure."""

LEGIBLE = 11.2
"""Pixels of the smallest text on a screen."""


@dataclass(frozen=True)
class Paper:
    """A venue's figure sizes.

    Args:
        column: width of a one-column figure [in].
        page: width of a figure across the text [in].
        columns: of text on a page.
        size: text size [pt]; the small text of ticks and legends is one point smaller.
        family: font families, the first one found is used; all ship with Matplotlib.
        dark: whether the ground is dark.
    """

    column: float
    page: float
    size: float
    family: tuple[str, ...]
    columns: int = 2
    dark: bool = False

    @property
    def column_points(self) -> float:
        """Width of a column of text [pt]."""
        return POINTS * (self.column if self.columns > 1 else self.page)

    @property
    def page_points(self) -> float:
        """Width of the text across all columns [pt]."""
        return POINTS * self.page

    @property
    def small(self) -> float:
        """Size of the small text of ticks and legends [pt]."""
        return max(7.0, self.size - 1)

    def narrow(self) -> Paper:
        """Return a page as narrow as a telephone, on which the small text can be read."""
        width = NARROW * self.small / (LEGIBLE * 72)
        return replace(self, column=width, page=width, columns=1, dark=False)

    def rc(self) -> dict[str, Any]:
        """Return the Matplotlib settings of this venue."""
        small = self.small
        serif = self.family[0] != "DejaVu Sans"
        lines = {key: BASE[key] * self.size / 8 for key in LINES}
        return {
            **BASE,
            **lines,
            **(DARK if self.dark else {}),
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

DARK: dict[str, Any] = {
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), dark.PAPER),
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), dark.INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), dark.INK),
    "grid.color": dark.GRID,
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
    "neurips": Paper(2.7, 5.5, 8, SERIF, 1),  # one column of text: two figures side by side
    "icml": Paper(3.25, 6.75, 8, SERIF),
    "ieee": Paper(252 / POINTS, 516 / POINTS, 8, SERIF),  # IEEEtran: columns of 252 pt
    "ieee-wide": Paper(516 / POINTS, 516 / POINTS, 8, SERIF),
    "slide": Paper(6.0, 12.0, 14, ("DejaVu Sans",), 1),
    "slide-dark": Paper(6.0, 12.0, 14, ("DejaVu Sans",), 1, dark=True),
}
"""Venues by name: widths and text sizes from their author kits."""


def paper(name: str | Paper) -> Paper:
    """Return the venue called ``name``; one that is given as it is."""
    if isinstance(name, Paper):
        return name
    if name not in PAPERS:
        raise ValueError(f"style: must be one of {sorted(PAPERS)}, got {name!r}")
    return PAPERS[name]


@contextmanager
def styled(name: str | Paper = "default", **rc: Any) -> Iterator[Paper]:
    """Draw what is inside the ``with`` statement with the settings of a venue."""
    chosen = paper(name)
    settings: dict[Any, Any] = {**chosen.rc(), **rc}
    interactive = mpl.is_interactive()
    try:
        with mpl.rc_context(settings):
            try:
                yield chosen
            finally:  # the first figure of a notebook switches it on: for those that follow too
                interactive = mpl.is_interactive()
    finally:
        mpl.interactive(interactive)
