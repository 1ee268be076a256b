"""Figures without transparency, for formats that know none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib.artist import Artist
from matplotlib.collections import Collection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Patch


@contextmanager
def opaque(figure: Figure) -> Iterator[None]:
    """Mix what is transparent with white while a figure is written: EPS knows no transparency.

    It would print bands as if they were solid, over what lies behind them.
    """
    changed: list[tuple[Patch | Collection, float]] = []
    for artist in figure.findobj(_is_transparent):
        if isinstance(artist, Patch | Collection):
            alpha = float(artist.get_alpha() or 0.0)
            colours = to_rgba_array(artist.get_facecolor())[:, :3]
            changed.append((artist, alpha))
            _fill(artist, 1 - alpha * (1 - colours), None)
    try:
        yield
    finally:
        for artist, alpha in changed:
            colours = to_rgba_array(artist.get_facecolor())[:, :3]
            _fill(artist, 1 - (1 - colours) / alpha, alpha)


def _is_transparent(artist: Artist) -> bool:
    alpha = artist.get_alpha()
    return isinstance(alpha, float) and 0 < alpha < 1


def _fill(artist: Patch | Collection, colours: Any, alpha: float | None) -> None:
    artist.set_alpha(alpha)
    artist.set_facecolor(colours if isinstance(artist, Collection) else tuple(colours[0]))
