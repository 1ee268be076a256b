"""One look per strategy throughout a paper: a colour for each family, shades for its variants."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import matplotlib as mpl
from matplotlib.colors import to_hex, to_rgb

# Okabe and Ito (2008), without its black (the centralised baseline) and its yellow (too pale on
# white), ordered so that neighbours differ in lightness too and survive grey printing.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7F3C8D")
OWN_COLOURS = ("#8C1C2C", "#6B6A00", "#1F2A6B", "#7A4A1E")
"""Colours of strategies that are not known: dark, and none of the known ones'."""

DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (5, 1.2, 1.2, 1.2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
LATER_DASHES: tuple[Any, ...] = ((0, (8, 2)), (0, (8, 1.5, 3, 1.5)))
"""Of places where all pairs of a dash and a marker are taken, which grey print tells apart."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "++", "ooo", "---", "***", "||", "OO")
SHADES = (0.35, -0.35, 0.55, -0.55)
"""How much of white (above 0) or black (below) the colours of a family's variants hold."""

PALEST = 0.78
"""The lightest colour of a line on white."""

PLACES = len(OWN_COLOURS) * len(DASHES) * len(MARKERS)
"""Looks of strategies that are not known: the periods share no factor."""

VARIANTS = len(SHADES) * len(MARKERS)
"""Looks of a family's variants."""

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
    "fedsgd",
    "fedproxadaptive",
    "fedams",
    "fedexp",
    "fedacg",
    "feddc",
    "fedcm",
    "fedper",
    "term",
    "centredclipping",
    "bucketing",
    "nnm",
    "dnc",
    "foolsgold",
    "signguard",
    "normclipping",
    "dpfedavg",
    "dpfedavgadaptive",
    "moon",
    "fedntd",
    "fedlc",
    "feddecorr",
    "fedrep",
    "ditto",
    "apfl",
    "pfedme",
    "lgfedavg",
    "fedbabu",
    "perfedavg",
    "fedsam",
    "fedasam",
    "mofedsam",
    "fedspeed",
    "ifca",
    "feddisco",
    "fltrust",
    "afl",
    "mimelite",
    "fedproto",
    "feddistill",
)
"""New ones go to the end: those that are there keep their places."""

ALIASES = {"median": "fedmedian", "trimmedmean": "fedtrimmedavg", "rfa": "geometricmedian"}
"""Strategies that are known by two names."""


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
BASELINES = {
    "centralised": CENTRALISED,
    "centralized": CENTRALISED,
    "local": LOCAL,
    "localonly": LOCAL,
}


def slot(i: int) -> Look:
    """Return the look of place ``i``; the first 77 differ in dash or marker, as in grey print.

    Colour, dash and marker run with periods 7, 5 and 11, which share no factor; after all pairs of
    dash and marker, those with dashes of their own follow.
    """
    pairs = len(DASHES) * len(MARKERS)
    if i < pairs:
        return _cycled(i)
    later = (i - pairs) // len(MARKERS) % len(LATER_DASHES)
    return replace(_cycled(i), dash=LATER_DASHES[later])


def own_slot(i: int) -> Look:
    """Return the look of place ``i`` among strategies that are not known."""
    return replace(_cycled(i), colour=OWN_COLOURS[i % len(OWN_COLOURS)])


def _cycled(i: int) -> Look:
    return Look(
        COLOURS[i % len(COLOURS)],
        DASHES[i % len(DASHES)],
        MARKERS[i % len(MARKERS)],
        HATCHES[i % len(HATCHES)],
    )


def variant(look: Look, i: int) -> Look:
    """Return the look of place ``i`` among the variants of a family that looks like ``look``."""
    dash = DASHES.index(look.dash) if look.dash in DASHES else 0
    marker = MARKERS.index(look.marker)
    shade = i % len(SHADES)
    return Look(
        shaded(look.colour, SHADES[shade]),
        DASHES[(dash + 1 + shade) % len(DASHES)],  # never the family's own
        MARKERS[(marker + i // len(SHADES)) % len(MARKERS)],
        HATCHES[(HATCHES.index(look.hatch) + 1 + i) % len(HATCHES)],
    )


def shaded(colour: str, part: float) -> str:
    """Return a colour mixed with white (a part above 0) or with black (below 0).

    Nothing gets paler than what is still seen on white.
    """
    towards, base = 1.0 if part > 0 else 0.0, to_rgb(colour)
    mixes = [[c + abs(part) / less * (towards - c) for c in base] for less in (1, 2, 4)]
    return str(to_hex(next((m for m in mixes if lightness(m) <= PALEST), base)))


def lightness(colour: Any) -> float:
    """Return how light a colour is in grey print, from 0 (black) to 1 (Rec. 601)."""
    red, green, blue = to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def base_name(label: str) -> str:
    """Return a label without its options, in lower case: ``FedProx(mu=0.1)`` is ``fedprox``."""
    return "".join(c for c in label.split("(")[0].lower() if c.isalnum())


def family(label: str) -> str:
    """Return the strategy that a label is a variant of, in lower case.

    ``FedProx(mu=0.1)`` and ``FedProx, buffered`` are ``fedprox``.
    """
    name = base_name(label.partition("(")[0].partition(",")[0])
    return ALIASES.get(name, name)


def is_plain(label: str) -> bool:
    """Tell whether a label is a strategy's name alone, without options or a schedule."""
    return "(" not in label and "," not in label


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """Return a look for each label in the order of legends, whichever others there are.

    Known strategies have fixed places. One with options has the colour of its family in another
    shade and another dash; one that is not known has a colour that no known one has. The place of
    each follows from its own name: a label keeps its look when others join. Only where two names
    fall on one place, which is rare, does the later one of the alphabet move on.
    """
    names = sorted(set(map(str, labels)))
    unknown = {family(x) for x in names} - set(KNOWN) - set(BASELINES)
    places = _places(sorted(unknown), PLACES)
    own = {name: slot(i) for i, name in enumerate(KNOWN)}
    own |= {name: own_slot(place) for name, place in places.items()} | BASELINES
    chosen: dict[str, Look] = {}
    variants: dict[str, list[str]] = {}
    for label in sorted(names, key=lambda x: (not is_plain(x), x)):
        look = own[family(label)]
        if family(label) in BASELINES or (is_plain(label) and look not in chosen.values()):
            chosen[label] = look
        else:
            variants.setdefault(family(label), []).append(label)
    for name, members in variants.items():
        for label, place in _places(members, VARIANTS).items():
            chosen[label] = variant(own[name], place)
    return {label: chosen[label] for label in order(chosen)}


def _places(names: Iterable[str], count: int) -> dict[str, int]:
    """Return a place below ``count`` for each name, drawn from the name; a taken one moves on."""
    found: dict[str, int] = {}
    for name in names:
        place = crc32(name.encode()) % count
        while place in found.values() and len(found) < count:
            place = (place + 1) % count
        found[name] = place
    return found


def order(labels: Iterable[str]) -> list[str]:
    """Return the labels in the order of legends and tables: known ones first, baselines last."""

    def key(label: str) -> tuple[int, int, str]:
        name = family(label)
        if name in BASELINES:
            return (2, 0 if name.startswith("local") else 1, label)
        return (0, KNOWN.index(name), label) if name in KNOWN else (1, 0, label)

    return sorted(set(map(str, labels)), key=key)
