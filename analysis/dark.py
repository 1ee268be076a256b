"""Colours on a dark ground: those of strategies as light as it takes, ink and paper swapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.collections import Collection, QuadMesh
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

PAPER = "#1b1d20"
"""The dark ground."""

INK = "#e9e7e3"
"""Text and axes on it."""

GRID = "#3a3d42"
"""Lines that guide the eye on it."""

CONTRAST = 4.5
"""The least contrast of a line with the ground: that of text at level AA of WCAG 2."""

STEPS = 50


def lifted(colour: str) -> str:
    """Return a colour with as much of the ink as it takes to be seen on the dark ground.

    A colour that is light enough stays as it is; black becomes the ink itself.
    """
    rgb, ink = to_rgb(colour), to_rgb(INK)
    if max(rgb) < 0.12:
        return INK
    for step in range(STEPS + 1):
        part = step / STEPS
        mixed = to_hex([(1 - part) * a + part * b for a, b in zip(rgb, ink, strict=True)])
        if contrast(mixed, PAPER) >= CONTRAST:
            return str(mixed)
    return INK


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours by WCAG 2: from 1 for the same to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour in sRGB (WCAG 2)."""
    parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def is_dark() -> bool:
    """Tell whether figures are drawn on a dark ground now."""
    return luminance(to_hex(mpl.rcParams["axes.facecolor"])) < 0.2


def turn(figure: Figure) -> None:
    """Give what a figure shows the colours of the dark ground; once or again is the same.

    White, which keeps shapes apart, becomes the ground itself. Heat maps and what is written on
    their cells stay as they are.
    """
    on_cells = {
        text
        for ax in figure.axes
        if any(isinstance(c, QuadMesh) for c in ax.collections)
        for text in ax.texts
    }
    for artist in figure.findobj():
        if artist not in on_cells:
            for read, write in _colours(artist):
                write(_turned(read()))


def _colours(artist: Artist) -> list[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """Return how to read and write each colour of an artist."""
    if isinstance(artist, QuadMesh):
        return []
    if isinstance(artist, Line2D):
        return [
            (artist.get_color, artist.set_color),
            (artist.get_markeredgecolor, artist.set_markeredgecolor),
            (artist.get_markerfacecolor, artist.set_markerfacecolor),
        ]
    if isinstance(artist, Text):
        return [(artist.get_color, artist.set_color)]
    if isinstance(artist, Patch):
        return [
            (artist.get_facecolor, artist.set_facecolor),
            (artist.get_edgecolor, artist.set_edgecolor),
        ]
    if isinstance(artist, Collection):
        return [
            (artist.get_facecolor, artist.set_facecolor),
            (artist.get_edgecolor, artist.set_edgecolor),
        ]
    return []


def _turned(colour: Any) -> Any:
    """Return a colour, or many, for the dark ground, as opaque as before."""
    if isinstance(colour, str) and colour in ("none", "auto"):
        return colour
    many = np.ndim(colour) == 2
    found = []
    for one in colour if many else [colour]:
        *rgb, alpha = to_rgba(one)
        text = to_hex(rgb)
        new = PAPER if text == "#ffffff" else text if text in (PAPER, GRID) else lifted(text)
        found.append(to_rgba(new, alpha))
    return found if many else found[0]
