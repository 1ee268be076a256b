"""A figure as an image of the page: short, and light or dark as the reader likes it."""

from __future__ import annotations

import re
from functools import lru_cache

from analysis import dark

ATTRIBUTE = re.compile(r'(?<=\sd=")[^"]*')
COMMAND = re.compile(r"([MLQCz])([^MLQCz]*)")
COLOUR = re.compile(r"""\b(fill|stroke)(: |=")(#[0-9a-f]{6})""")
HEAD = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
LONG = 2000
"""Letters of a path from which on tenths of a point are fine enough: no letter or marker."""

NEAR = 0.5
"""Points [pt] that a step of a long path has at least, along both axes together."""

ON_CELLS = ("#262626", "#ffffff")
"""Text on the cells of a heat map, whose colours are the same on any ground."""


def data_uri(svg: str) -> str:
    """Return an SVG file of Matplotlib's as an image for a page, safe inside double quotes."""
    text = with_dark(short(svg)).replace('"', "'").replace("&", "&amp;")
    text = re.sub(r"\s+", " ", text).replace("> <", "><").strip()
    return f"data:image/svg+xml,{text.replace('%', '%25').replace('#', '%23')}"


def short(svg: str) -> str:
    """Return the same drawing in fewer letters: relative and rounded places, no metadata."""
    return ATTRIBUTE.sub(lambda match: relative(match[0]), HEAD.sub("", svg))


def relative(path: str) -> str:
    """Return a path with each point relative to the one before.

    Points are rounded where they are, to a hundredth (a tenth in long paths): errors do not add up.
    Of a long path, points that are nearer than :data:`NEAR` to the one before are left out.

    Args:
        path: of the commands M, L, Q, C and z.
    """
    parts, near = (10, round(10 * NEAR)) if len(path) > LONG else (100, 0)
    commands = COMMAND.findall(path)
    following = [command for command, _ in commands[1:]] + [""]
    x = y = start_x = start_y = 0
    last, out = "", []
    for (command, numbers), then in zip(commands, following, strict=True):
        if command == "z":
            out.append("z")
            x, y, last = start_x, start_y, ""
            continue
        places = [round(float(v) * parts) for v in numbers.split()]
        if command == "L":  # nearly all there are
            far = abs(places[0] - x) + abs(places[1] - y)
            if far == 0 or (far < near and then == "L"):
                continue
        texts = [written(v - (y if i % 2 else x), parts) for i, v in enumerate(places)]
        x, y = places[-2:]
        if command == "M":
            start_x, start_y = x, y
        if command != last or command == "M":
            texts[0] = command.lower() + texts[0].lstrip()
        out += texts
        last = command
    return "".join(out)


@lru_cache(10_000)
def written(step: int, parts: int) -> str:
    """Return a step of so many parts of a point in few letters, apart from what stands before it.

    Half a point is a blank and ``.5``; minus half a point is ``-.5``, whose sign stands apart.
    """
    text = f"{step / parts:.6g}"
    if text.startswith("0."):
        return f" {text[1:]}"
    if text.startswith("-0."):
        return f"-{text[2:]}"
    return text if text.startswith("-") else f" {text}"


def with_dark(svg: str) -> str:
    """Return a drawing that turns dark with the page that it is on.

    Its paper and its ink change places, its grid and its colours become as light as it takes;
    heat maps and what is written on their cells stay as they are.
    """
    rules = [f"svg{{fill:{dark.INK}}}"]
    for name, sign, colour in sorted(set(COLOUR.findall(svg))):
        ground = colour == "#ffffff"
        if ground:
            new = dark.PAPER
        elif name == "stroke" and colour == "#dddddd":
            new = dark.GRID
        else:
            new = dark.lifted(colour)
        if new == colour:
            continue
        # text is a group with a fill; shapes are paths, their markers uses
        for kind in ("path", "use") if colour in ON_CELLS and name == "fill" else ("",):
            where = f"[style*='{name}: {colour}']" if sign == ": " else f"[{name}='{colour}']"
            rules.append(f"{kind}{where}{{{name}:{new} !important}}")
    style = f"@media(prefers-color-scheme:dark){{{''.join(rules)}}}"
    return svg.replace("</style>", f"{style}</style>", 1)
